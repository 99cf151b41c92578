"""Dataset and Mixture: every jet once, shuffled, shared out, at a position that is kept, in bounded memory."""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import small_jets, tiny
from test_readers import columns_of, jetnet_arrays, write_jetnet, write_parquet, write_root

import pyrino as rino
from pyrino import Jets, RinoError, RinoWarning, open_dataset, read_jets
from pyrino.data import Dataset, Mixture

Identity = tuple[str, int]


def as_written(n: int, seed: int) -> Jets:
    jets = small_jets(n, seed)
    return jets.with_labels(np.zeros(n, int)).with_extra("part_charge", np.zeros(jets.n_constituents))


def identities(jets: Jets) -> list[Identity]:
    """File and entry of every jet, in order."""
    return [(Path(name).name, int(entry)) for name, entry in zip(jets.origins.names, jets.origins.entry, strict=True)]


def a_pass(dataset: Dataset, batch_size: int = 64) -> list[Identity]:
    return [jet for jets in dataset.batches(batch_size) for jet in identities(jets)]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Parquet, ROOT and HDF5 of very different sizes: 1, 40, 200, 7, 450, 120 jets."""
    folder = tmp_path_factory.mktemp("mixed")
    write_parquet(folder / "a.parquet", columns_of(as_written(1, 1)))
    write_root(folder / "b.root", columns_of(as_written(40, 2)))
    write_parquet(folder / "c.parquet", columns_of(as_written(200, 3)), row_group_size=16)
    write_root(folder / "d.root", columns_of(as_written(7, 4)))
    write_parquet(folder / "e.parquet", columns_of(as_written(450, 5)), row_group_size=60)
    write_jetnet(folder / "t.hdf5", *jetnet_arrays(120))
    return folder


SIZES = {"a.parquet": 1, "b.root": 40, "c.parquet": 200, "d.root": 7, "e.parquet": 450, "t.hdf5": 120}
EVERY = [(name, entry) for name, size in SIZES.items() for entry in range(size)]


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Path:
    """1200 jets in 12 files of equal size, in row groups of 10."""
    folder = tmp_path_factory.mktemp("split")
    for number in range(12):
        write_parquet(folder / f"{number:02d}.parquet", columns_of(as_written(100, 20 + number)), row_group_size=10)
    return folder


# --- a pass ---


@pytest.mark.parametrize("window", [1, 3, 64, 131072])
@pytest.mark.parametrize("batch_size", [1, 50, 5000])
def test_a_pass_visits_every_jet_once(mixed, window, batch_size):
    with open_dataset(mixed, window=window, labelled=False) as dataset:
        assert len(dataset) == len(EVERY)
        for running in range(2):
            assert dataset.position == (running, 0, 0)
            assert sorted(a_pass(dataset, batch_size)) == sorted(EVERY)
        assert dataset.report.jets == dataset.report.entries == len(EVERY)
        assert dataset.report.files == 6 and dataset.report.complete
        assert dataset.report.layouts == {"jetclass": 2, "jetclass-parquet": 3, "jetnet": 1}


def test_the_jets_are_those_of_the_files(mixed):
    whole = read_jets(mixed, labelled=False)
    row_of = {identity: row for row, identity in enumerate(identities(whole))}
    with open_dataset(mixed, window=100, labelled=False) as dataset:
        for jets in dataset.batches(77):
            assert jets == whole[[row_of[identity] for identity in identities(jets)]]


def test_labels_extras_and_values_come_along(split):
    whole = read_jets(split, columns=["part_charge", "jet_pt"])
    row_of = {identity: row for row, identity in enumerate(identities(whole))}
    with open_dataset(split, columns=["part_charge", "jet_pt"], window=300) as dataset:
        jets = dataset.take(200)
    assert jets == whole[[row_of[identity] for identity in identities(jets)]]
    assert jets.labels is not None and set(jets.extras) == {"part_charge"} and set(jets.values) == {"jet_pt"}


def test_batches_are_of_the_size_asked_for_and_the_last_is_what_is_left(split):
    with open_dataset(split, window=130) as dataset:
        sizes = [len(jets) for jets in dataset.batches(350)]
        assert sizes == [350, 350, 350, 150]
        dataset.take(1100)
        assert [len(jets) for jets in dataset.batches(350)] == [100]


def test_taking_goes_on_into_the_next_pass(split):
    with open_dataset(split, window=130) as dataset:
        jets = identities(dataset.take(3000))
        assert len(jets) == 3000
        for begin in (0, 1200):
            assert len(set(jets[begin : begin + 1200])) == 1200
        assert dataset.position[0] == 2


def test_the_selection_of_read_jets_holds(mixed):
    cuts = {"pt": (300, 800), "fraction": 0.5, "seed": 3, "hardest": 7, "labelled": False}
    expected = read_jets(mixed, **cuts)
    with open_dataset(mixed, window=60, **cuts) as dataset:
        found = Jets.concatenate(list(dataset.batches(50)))
        assert dataset.report.jets == len(expected) and dataset.report.cut == len(EVERY) - len(expected)
    order = np.argsort([f"{name} {entry:5d}" for name, entry in identities(found)])
    assert 0 < len(found) < len(EVERY) / 2
    assert found[order] == expected[np.argsort([f"{name} {entry:5d}" for name, entry in identities(expected)])]


def test_the_order_is_the_seeds_and_no_two_passes_are_alike(split):
    def passes(**more: int) -> list[list[Identity]]:
        with open_dataset(split, window=200, **more) as dataset:
            return [a_pass(dataset) for _ in range(3)]

    first = passes(shuffle_seed=1)
    assert passes(shuffle_seed=1, threads=1) == passes(shuffle_seed=1, threads=5) == first
    others = [*first, *passes(shuffle_seed=2)]
    for i, one in enumerate(others):
        for other in others[:i]:
            # By chance one jet is where it was before.
            assert sum(a == b for a, b in zip(one, other, strict=True)) < 12


def test_batch_sizes_do_not_change_the_order(split):
    with open_dataset(split, window=200) as one, open_dataset(split, window=200) as other:
        assert a_pass(one, 7) == a_pass(other, 1000)


# --- shuffling ---


def test_a_window_mixes_files_and_a_batch_has_its_share_of_each(split):
    with open_dataset(split, window=400, shuffle_seed=5) as dataset:
        jets = [identities(dataset.take(100)) for _ in range(12)]
    for batch in jets:
        assert len({name for name, _ in batch}) >= 8
    entries = np.array([entry for batch in jets for _, entry in batch], dtype=float)
    files = np.array([int(name[:2]) for batch in jets for name, _ in batch], dtype=float)
    # Independent draws have correlations of 1 / sqrt(1200) = 0.029.
    position = np.arange(1200.0)
    assert abs(np.corrcoef(position, entries)[0, 1]) < 0.12
    assert abs(np.corrcoef(position, files)[0, 1]) < 0.12
    assert abs(np.corrcoef(entries[:-1], entries[1:])[0, 1]) < 0.15


@pytest.fixture(scope="module")
def sorted_files(tmp_path_factory) -> Path:
    """Ten files of one row group of 200 jets each, sorted by something: what is read as a whole must mix, too."""
    folder = tmp_path_factory.mktemp("sorted")
    for number in range(10):
        write_parquet(folder / f"{number}.parquet", columns_of(as_written(200, number)))
    return folder


def test_files_of_large_pieces_mix_in_small_windows(sorted_files):
    with open_dataset(sorted_files, window=100, shuffle_seed=5) as dataset:
        batches = [identities(dataset.take(50)) for _ in range(40)]
        assert sorted(jet for batch in batches for jet in batch) == sorted(
            (f"{number}.parquet", entry) for number in range(10) for entry in range(200)
        )
    files = [len({name for name, _ in batch}) for batch in batches]
    assert min(files[:30]) >= 2 and np.mean(files[:30]) > 2.5
    # And within a file every batch has jets from all over.
    first = [[entry for name, entry in batch if name == batch[0][0]] for batch in batches]
    assert np.mean([np.ptp(entries) for entries in first if len(entries) > 5]) > 120


def test_every_piece_is_read_once_a_pass(sorted_files, monkeypatch):
    """Reading a part of it would decompress all of it."""
    asked: list[tuple[str, int, int]] = []
    with rino.data.open_file(rino.data.Source(sorted_files / "0.parquet")) as (_, one):
        reader = type(one)
    read = reader.read

    def noted(self, first, last, columns=()):
        asked.append((self._source.name, first, last))
        return read(self, first, last, columns)

    monkeypatch.setattr(reader, "read", noted)
    with open_dataset(sorted_files, window=100) as dataset:
        list(dataset.batches(30))
        dataset.close()
    begun = [piece for piece, number in Counter(asked).items() if number > 1]
    # Those that the next pass begins with are read ahead.
    assert set(asked) == {(f"{n}.parquet", 0, 200) for n in range(10)} and len(begun) < 8


def test_with_a_window_of_everything_all_orders_are_alike(split):
    """Shares of files in batches, and where a jet comes, as independent draws have them."""
    with open_dataset(split, window=5000, shuffle_seed=3) as dataset:
        passes = [a_pass(dataset) for _ in range(60)]
    chi_square, degrees = 0.0, 0
    for order in passes:
        for begin in range(0, 1200, 120):
            shares = Counter(name for name, _ in order[begin : begin + 120])
            # Without replacement the variance is smaller by 1080 / 1199.
            chi_square += sum((shares[f"{n:02d}.parquet"] - 10) ** 2 for n in range(12)) / 10 * (1199 / 1080)
            degrees += 11
    degrees *= 9 / 10  # the last batch is what is left
    assert abs(chi_square * 9 / 10 - degrees) < 5 * math.sqrt(2 * degrees)
    places = np.array([order.index(("03.parquet", 42)) for order in passes])
    assert abs(places.mean() - 599.5) < 4 * 346 / math.sqrt(60)


# --- ranks ---


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_share_the_jets_of_a_pass(mixed, ranks):
    datasets = [
        open_dataset(mixed, window=100, labelled=False, rank=rank, world_size=ranks, shuffle_seed=4)
        for rank in range(ranks)
    ]
    for _ in range(2):
        shares = [a_pass(dataset) for dataset in datasets]
        assert sorted(jet for share in shares for jet in share) == sorted(EVERY)
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1 and sizes == [len(dataset) for dataset in datasets]
    for dataset in datasets:
        dataset.close()


def test_more_ranks_than_jets_leave_some_without_and_say_so(tmp_path):
    write_parquet(tmp_path / "a.parquet", columns_of(as_written(3, 1)))
    shares = []
    for rank in range(5):
        with open_dataset(tmp_path, rank=rank, world_size=5) as dataset:
            if len(dataset):
                shares += a_pass(dataset)
            else:
                with pytest.raises(RinoError, match=f"rank {rank} has no jets: there are fewer jets than ranks"):
                    dataset.take(1)
    assert sorted(shares) == [("a.parquet", entry) for entry in range(3)]


@pytest.mark.parametrize("fraction", [1.0, 0.37])
def test_all_ranks_of_all_numbers_of_ranks_have_one_fingerprint(mixed, split, fraction):
    """By it a checkpoint knows its jets again; a state, which is one rank's own, tells ranks apart."""

    def opened(rank: int, ranks: int, **more: object) -> Dataset:
        usual = {"path": mixed, "window": 100, "labelled": False, "fraction": fraction}
        return open_dataset(**(usual | more), rank=rank, world_size=ranks)

    prints, states = [], []
    for ranks in (1, 2, 3):
        lengths = []
        for rank in range(ranks):
            with opened(rank, ranks) as dataset:
                assert dataset.share == (rank, ranks)
                prints.append(dataset._fingerprint())
                states.append(dataset.state_dict()["fingerprint"])
                lengths.append(len(dataset))
        assert sum(lengths) == round(fraction * 818) and max(lengths) - min(lengths) <= 1
    assert prints == prints[:1] * 6 and len(set(map(tuple, states))) == 6
    with opened(0, 2, path=split) as dataset:
        assert dataset._fingerprint() != prints[0]
    with opened(0, 2, fraction=fraction / 2) as dataset:
        assert dataset._fingerprint() != prints[0]


def opened_ranks(folder: Path, ranks: int, **more: object) -> list[Dataset]:
    usual = {"window": 60, "labelled": False, "shuffle_seed": 4}
    return [open_dataset(folder, rank=rank, world_size=ranks, **(usual | more)) for rank in range(ranks)]


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
@pytest.mark.parametrize("taken", [0, 150, 395])
def test_another_number_of_ranks_goes_on_at_the_same_share_of_the_pass(split, before, after, taken, caplog):
    """1200 jets; `taken` by each rank in the second pass."""
    with ExitStack() as stack:
        old = [stack.enter_context(dataset) for dataset in opened_ranks(split, before)]
        first = []
        for dataset in old:
            a_pass(dataset)
            first += identities(dataset.take(taken)) if taken else []
        new = [stack.enter_context(dataset) for dataset in opened_ranks(split, after)]
        caplog.set_level(logging.INFO, "pyrino")
        for rank, dataset in enumerate(new):
            dataset._seek_others([dataset.position for dataset in old])
            assert dataset.position[0] == 1
            share = 100 * taken * before / 1200
            assert f"{before} ranks were {share:.1f}% through pass 1; rank {rank} of {after}" in caplog.text
        rest = [a_pass(dataset) for dataset in new]
        for jets in rest:
            assert abs(len(jets) - (1200 - taken * before) / after) <= 1
        seen = Counter(first + [jet for jets in rest for jet in jets])
        # As many as there are jets, most of them once; a jet is with another rank, in another window.
        assert abs(seen.total() - 1200) <= after and max(seen.values()) <= 2
        if taken == 0:
            assert seen.total() == len(seen) == 1200
        # The pass after it is whole.
        assert sorted(jet for dataset in new for jet in a_pass(dataset)) == sorted(
            (f"{n:02d}.parquet", entry) for n in range(12) for entry in range(100)
        )


def test_the_share_of_a_pass_is_right_where_cuts_leave_few_jets(split):
    cut = {"fraction": 0.3, "window": 200}
    with ExitStack() as stack:
        old = [stack.enter_context(dataset) for dataset in opened_ranks(split, 2, **cut)]
        per_rank = [len(a_pass(dataset)) for dataset in old]
        for dataset in old:
            dataset.take(100)
        (new,) = opened_ranks(split, 1, **cut)
        stack.enter_context(new)
        new._seek_others([dataset.position for dataset in old])
        # Of 360 jets 200 are done; what a window has left is known to a few jets.
        assert abs(len(a_pass(new)) - (sum(per_rank) - 200)) < 30


def test_ranks_in_different_passes_are_averaged(split):
    """Cuts make the passes of ranks end at different times."""
    with ExitStack() as stack:
        # Windows of about 60 jets, of which a rank has 600 a pass.
        for places, running, share in (
            ([(1, 0, 0), (0, 0, 0)], 0, 0.5),
            ([(1, 1, 30), (0, 9, 0)], 1, (0.15 - 0.1) / 2),
            ([(1, 1, 30), (0, 7, 0)], 0, 1 - (0.3 - 0.15) / 2),
        ):
            (dataset,) = opened_ranks(split, 1)
            stack.enter_context(dataset)
            dataset._seek_others(places)
            assert dataset.position[0] == running
            assert abs(len(a_pass(dataset)) - (1 - share) * 1200) <= 20


@pytest.mark.parametrize(
    "places", [[(0, 0), (0, 0, 0)], [(0, 0, 0), (0, 99, 0)], [(0, -1, 0), (0, 0, 0)], [(0, 0, 0), "abc"]]
)
def test_positions_that_no_ranks_had_are_refused(split, places):
    (dataset,) = opened_ranks(split, 1)
    with dataset:
        dataset.take(10)
        before = dataset.position
        with pytest.raises(RinoError, match="position"):
            dataset._seek_others(places)
        assert dataset.position == before


def test_going_on_with_other_ranks_fails_as_seeking_does(split, tmp_path):
    """A broken file leaves the stream where it was."""
    for file in split.glob("*.parquet"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (dataset,) = opened_ranks(tmp_path, 1)
    with dataset:
        dataset.take(10)
        before = dataset.position
        dataset._readers.close()
        for file in tmp_path.iterdir():
            file.write_bytes(b"PAR1")
        with pytest.raises(RinoError, match="cannot be read as parquet"):
            dataset._seek_others([(0, 3, 7), (0, 3, 7)])
        assert dataset.position == before


def test_a_stream_that_cannot_go_on_with_other_ranks_says_so():
    class Own(rino.data.JetStream):
        position = (0,)
        _take = _fingerprint = seek = _go_back = lambda self, *_: None

        def __len__(self) -> int:
            return 3

    with pytest.raises(RinoError, match="cannot go on from the positions of 2 ranks: resume with as many as before"):
        Own()._seek_others([[0], [0]])
    assert Own().share is None and Own()._total() == 3


# --- positions ---


def test_a_stream_goes_on_from_any_position(mixed):
    def opened() -> Dataset:
        return open_dataset(mixed, window=100, labelled=False, shuffle_seed=9)

    with opened() as dataset:
        places, jets = [dataset.position], []
        for count in (1, 30, 69, 100, 5, 300, 313, 1, 500, 200):
            jets += identities(dataset.take(count))
            places.append(dataset.position)
    assert any(place[0] == 1 and place[1:] == (0, 0) for place in places)  # after 818 jets, the end of a pass
    begun = 0
    for place, count in zip(places, (1, 30, 69, 100, 5, 300, 313, 1, 500, 200), strict=False):
        with opened() as other:
            other.seek(place)
            assert other.position == place
            assert identities(other.take(len(jets) - begun)) == jets[begun:]
        begun += count


def test_positions_may_be_gone_back_to_again_and_again(split):
    with open_dataset(split, window=130) as dataset:
        dataset.take(200)
        place = dataset.position
        expected = dataset.take(150)
        for _ in range(3):
            dataset.seek(place)
            assert dataset.take(150) == expected
        dataset.seek((0, 0, 0))
        for _ in dataset.batches(500):
            pass
        assert dataset.report.jets == 1200  # no window is counted twice


@pytest.mark.parametrize("place", [(0, 0), (0, 0, -1), (-1, 0, 0), (0, 99, 0), (0, 0, 0, 0), ()])
def test_positions_that_cannot_be_are_refused(split, place):
    with open_dataset(split, window=130) as dataset:
        before = dataset.take(10).origins, dataset.position
        with pytest.raises(RinoError, match="there is no position"):
            dataset.seek(place)
        assert dataset.position == before[1]


def test_a_position_of_another_stream_is_refused_when_it_is_beyond_the_window(split):
    with open_dataset(split, window=130) as dataset:
        with pytest.raises(RinoError, match=r"no position \(0, 0, 131\) .*the files or the selection have changed"):
            dataset.seek((0, 0, 131))


def test_what_fails_takes_nothing(split, tmp_path):
    """The jets before a broken file come again, with a new try as without."""
    for file in split.glob("*.parquet"):
        os.link(file, tmp_path / file.name)
    with open_dataset(tmp_path, window=130) as straight:
        expected = identities(straight.take(1200))
    with open_dataset(tmp_path, window=130, threads=1) as dataset:
        begin = identities(dataset.take(100))
        dataset._readers.close()
        files = sorted(tmp_path.iterdir())
        contents = [file.read_bytes() for file in files]
        for file in files:
            file.unlink()
            file.write_bytes(b"PAR1")
        place = dataset.position
        for _ in range(2):
            with pytest.raises(RinoError, match="cannot be read as parquet"):
                dataset.take(1000)
            assert dataset.position == place
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        assert begin + identities(dataset.take(1100)) == expected


# --- arguments ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"window": 0}, "window = 0"),
        ({"window": 1.5}, "window = 1.5"),
        ({"threads": 0}, "threads = 0"),
        ({"shuffle_seed": -1}, "seed = -1"),
        ({"rank": -1}, "rank = -1"),
        ({"rank": 2, "world_size": 2}, "rank = 2 of world_size = 2"),
        ({"world_size": 0}, "world_size = 0"),
        ({"on_error": "ignore"}, "on_error = 'ignore'"),
        ({"layout": "jetclass3"}, "no layout 'jetclass3'"),
        ({"columns": ["part_nothing"]}, "lacks the columns part_nothing"),
        ({"fraction": 2}, "fraction = 2"),
        ({"nonsense": 2}, "no selection by 'nonsense'"),
    ],
)
def test_bad_arguments_are_named(split, arguments, words):
    with pytest.raises(RinoError, match=words):
        open_dataset(split, **arguments)


@pytest.mark.parametrize("count", [0, -1, 2.0, True])
def test_counts_that_are_no_number_of_jets_are_named(split, count):
    with open_dataset(split) as dataset:
        with pytest.raises(RinoError, match=f"count = {count}"):
            dataset.take(count)
        with pytest.raises(RinoError, match=f"batch_size = {count}"):
            next(dataset.batches(count))


def test_the_repr_tells_jets_layouts_window_and_place(mixed):
    with open_dataset(mixed, window=100, labelled=False, rank=1, world_size=2) as dataset:
        text = repr(dataset)
    for words in ("409 jets", "3 jetclass-parquet, 2 jetclass, 1 jetnet", "window: 100", "at (0, 0, 0)", "rank 1 of 2"):
        assert words in text


def test_the_length_is_that_of_the_files_times_the_fraction(split):
    with open_dataset(split, fraction=0.25) as dataset:
        assert len(dataset) == 300


def test_cuts_that_leave_nothing_are_an_error_and_not_an_endless_search(split):
    with open_dataset(split, window=100, pt=(1e6, None)) as dataset:
        for ask in (lambda: dataset.take(1), lambda: list(dataset.batches(10))):
            with pytest.raises(RinoError, match=r"no jet that is wanted: .*1200 left out by the selection: check"):
                ask()


# --- mixtures ---


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    write_parquet(tmp_path / "large.parquet", columns_of(as_written(500, 1)), row_group_size=50)
    write_root(tmp_path / "small.root", columns_of(as_written(20, 2)))
    return tmp_path / "large.parquet", tmp_path / "small.root"


def test_a_mixture_has_the_shares_asked_for_and_repeats_what_is_small(pair):
    with open_dataset({pair[0]: 3, pair[1]: 1}, window=100, shuffle_seed=2) as mixture:
        assert isinstance(mixture, Mixture) and len(mixture) == 520
        np.testing.assert_allclose(mixture.weights, [0.75, 0.25])
        jets = [identities(mixture.take(count)) for count in (1, 700, 99, 1200)]
    flat = [jet for part in jets for jet in part]
    assert [len(part) for part in jets] == [1, 700, 99, 1200]
    numbers = Counter(name for name, _ in flat)
    assert abs(numbers["small.root"] - 500) < 5 * math.sqrt(2000 * 0.75 * 0.25)
    # Every source is a stream of its own: whole passes, none skipped.
    for name, size in (("large.parquet", 500), ("small.root", 20)):
        own = [entry for other, entry in flat if other == name]
        for begin in range(0, len(own) - size + 1, size):
            assert len(set(own[begin : begin + size])) == size
    # The draws are independent of one another.
    drawn = np.array([name == "small.root" for name, _ in flat], dtype=float)
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 5 / math.sqrt(2000)


def test_a_mixture_does_not_depend_on_how_it_is_taken_and_resumes_exactly(pair):
    def opened() -> Mixture:
        return open_dataset({pair[0]: 0.6, pair[1]: 0.4}, window=64, shuffle_seed=8)

    with opened() as mixture:
        expected = mixture.take(700)
    with opened() as mixture:
        parts = [mixture.take(count) for count in (13, 1, 286)]
        place = mixture.position
    assert Jets.concatenate(parts) == expected[:300]
    with opened() as mixture:
        mixture.seek(place)
        assert mixture.position == place
        rest = mixture.take(400)
    assert rest == expected[300:] and identities(rest) == identities(expected[300:])


def mixtures(pair: tuple[Path, Path], ranks: int) -> list[Mixture]:
    weights = {pair[0]: 0.6, pair[1]: 0.4}
    return [open_dataset(weights, window=64, shuffle_seed=8, rank=r, world_size=ranks) for r in range(ranks)]


def test_ranks_of_a_mixture_draw_together_what_one_would_alone(pair):
    """Not all of them the same at the same time."""

    def drawn(mixture: Mixture, count: int) -> list[bool]:
        return [name == "small.root" for name, _ in identities(mixture.take(count))]

    with ExitStack() as stack:
        one, *two = (stack.enter_context(m) for ranks in (1, 2) for m in mixtures(pair, ranks))
        assert one._fingerprint() == two[0]._fingerprint() == two[1]._fingerprint()
        assert [m.share for m in (one, *two)] == [(0, 1), (0, 2), (1, 2)]
        assert [len(m) for m in (one, *two)] == [520, 260, 260]
        expected = drawn(one, 400)
        assert expected[::2] == drawn(two[0], 200) and expected[1::2] == drawn(two[1], 200)


def test_a_mixture_goes_on_with_another_number_of_ranks(pair):
    with ExitStack() as stack:
        old = [stack.enter_context(m) for m in mixtures(pair, 2)]
        for mixture in old:
            mixture.take(150)  # 90 of 250 and 60 of 10, about
        for ranks in (1, 3):
            for mixture in mixtures(pair, ranks):
                stack.enter_context(mixture)
                mixture._seek_others([m.position for m in old])
                assert mixture.position[0] == 300 // ranks
                passes = [
                    np.mean([stream._passes_done(rank, [s.streams[i].position for s in old], 1.0) for rank in (0, 1)])
                    for i, stream in enumerate(mixture.streams)
                ]
                for stream, wanted in zip(mixture.streams, passes, strict=True):
                    left = len(a_pass(stream))
                    assert abs(left - (1 - wanted % 1) * stream._total() / ranks) <= 2
        before = old[0].position
        with pytest.raises(RinoError, match="there is no position"):
            old[0]._seek_others([before, [3, 0]])
        assert old[0].position == before


def test_streams_of_different_ranks_are_not_mixed(pair):
    with open_dataset(pair[0], world_size=2) as one, open_dataset(pair[1], rank=1, world_size=2) as other:
        with pytest.raises(RinoError, match="0 of 2 and 1 of 2 of the ranks: open all of them with the same rank"):
            Mixture([one, other], [1, 1])


def test_mixtures_that_cannot_be_are_named(pair, tmp_path):
    one, other = open_dataset(pair[0]), open_dataset(pair[1])
    for streams, weights, words in [
        ([one], [1], "1 streams and 1 weights"),
        ([one, other], [1], "2 streams and 1 weights"),
        ([one, other], [1, 0], r"weights = \[1.0, 0.0\]"),
        ([one, other], [1, math.nan], "weights = .*nan"),
    ]:
        with pytest.raises(RinoError, match=words):
            Mixture(streams, weights)
    with pytest.raises(RinoError, match="seed = -1"):
        Mixture([one, other], [1, 1], seed=-1)
    mixture = Mixture([one, other], [1, 1])
    for place in ([], [0], [0, 3, 0, 0, 0], [0, -1, 3], [0, 0, 0], [-1, 3, 0, 0, 0, 3, 0, 0, 0], [5, 3, 0, 0]):
        with pytest.raises(RinoError, match="there is no position"):
            mixture.seek(place)
    mixture.close()
    with pytest.raises(RinoError, match="1 paths with weights"):
        open_dataset({pair[0]: 1})


def test_labels_of_different_meaning_are_not_mixed(pair, tmp_path):
    net = write_jetnet(tmp_path / "t.hdf5", *jetnet_arrays())
    with pytest.raises(RinoError, match="numbers of JetClass and numbers of JetNet: leave labels out"):
        open_dataset({pair[0]: 1, net: 1})
    with open_dataset({pair[0]: 1, net: 1}, labelled=False) as mixture:
        assert mixture.take(100).labels is None


# --- training ---


def losses(trainer: rino.Trainer, steps: int) -> list[tuple[float, float]]:
    return [(step["loss"], step["gradient_norm"]) for step in (trainer.step() for _ in range(steps))]


def run_of(loader_threads: int = 1, **more: object) -> rino.Recipe:
    return tiny(training__epochs=3, training__batch_size=64, training__loader_threads=loader_threads, **more)


def test_a_stream_trains_the_same_whatever_the_threads(mixed):
    told = []
    for loader_threads, threads in ((0, 1), (1, 2), (3, 4)):
        with open_dataset(mixed, window=100, labelled=False, threads=threads) as dataset:
            trainer = rino.Trainer(run_of(loader_threads), dataset)
            assert trainer.steps_per_epoch == len(EVERY) // 64 == 12
            told.append(losses(trainer, 20))
            del trainer
    assert told[0] == told[1] == told[2]


def test_a_trainer_is_shown_every_jet_of_a_pass(split):
    class Noted(Dataset):
        def _take(self, count):
            jets = super()._take(count)
            seen.append(Jets._wrap(jets))
            return jets

    seen: list[Jets] = []
    dataset = Noted([rino.data.Source(file) for file in sorted(split.iterdir())], rino.data.Selection(), window=200)
    trainer = rino.Trainer(tiny(training__epochs=2, training__batch_size=100, training__loader_threads=2), dataset)
    for _ in trainer:
        pass
    del trainer
    dataset.close()
    jets = [jet for part in seen for jet in identities(part)]
    assert len(jets) == 2400 and len(set(jets[:1200])) == len(set(jets[1200:])) == 1200


@pytest.mark.parametrize("loader_threads", [0, 2])
def test_a_run_on_a_stream_that_was_stopped_equals_one_that_was_not(mixed, tmp_path, loader_threads):
    def opened() -> Dataset:
        return open_dataset(mixed, window=100, labelled=False, shuffle_seed=3)

    with opened() as dataset:
        straight = rino.Trainer(run_of(), dataset)
        expected = losses(straight, 24)
        weights = straight.encoder().state_dict()
        del straight
    with opened() as dataset:
        first = rino.Trainer(run_of(loader_threads), dataset)
        assert losses(first, 7) == expected[:7]
        first.save(tmp_path / "c.safetensors")
        losses(first, 3)
        first.restore(tmp_path / "c.safetensors")  # back, in the middle of reading ahead
        assert losses(first, 2) == expected[7:9]
        del first
    with opened() as dataset:
        dataset.take(50)  # wherever it stands
        second = rino.Trainer(run_of(loader_threads), dataset)
        second.restore(tmp_path / "c.safetensors")
        assert losses(second, 17) == expected[7:]
        for name, value in second.encoder().state_dict().items():
            assert value.equal(weights[name])
        del second


def test_a_mixture_trains_and_resumes(pair, tmp_path):
    def opened() -> Mixture:
        return open_dataset({pair[0]: 1, pair[1]: 1}, window=64)

    with opened() as mixture:
        trainer = rino.Trainer(run_of(2), mixture)
        expected = losses(trainer, 12)
        del trainer
    with opened() as mixture:
        trainer = rino.Trainer(run_of(0), mixture)
        losses(trainer, 5)
        trainer.save(tmp_path / "c.safetensors")
        del trainer
    with opened() as mixture:
        trainer = rino.Trainer(run_of(), mixture)
        trainer.restore(tmp_path / "c.safetensors")
        assert losses(trainer, 7) == expected[5:]
        del trainer


def test_a_run_is_not_resumed_with_other_jets(mixed, split, tmp_path):
    usual = {"path": mixed, "window": 100, "labelled": False, "shuffle_seed": 3}
    with open_dataset(**usual) as dataset:
        trainer = rino.Trainer(run_of(), dataset)
        losses(trainer, 2)
        trainer.save(tmp_path / "c.safetensors")
        del trainer
    for change in (
        {"path": split},
        {"window": 101},
        {"shuffle_seed": 4},
        {"pt": (20, None)},
    ):
        with open_dataset(**(usual | change)) as dataset:
            trainer = rino.Trainer(run_of(), dataset)
            with pytest.raises(RinoError, match="other jets, batch size or seed: resuming goes on with the same"):
                trainer.restore(tmp_path / "c.safetensors")
            del trainer
    trainer = rino.Trainer(run_of(), small_jets(818))
    with pytest.raises(RinoError, match="other jets, batch size or seed"):
        trainer.restore(tmp_path / "c.safetensors")
    # Said in other words, the same jets.
    with open_dataset(**usual, pt=(0, np.float32(1e6)), seed=np.int64(0)) as dataset:
        one = dataset._fingerprint()
    with open_dataset(**(usual | {"window": np.int32(100)}), pt=[0.0, 1e6]) as dataset:
        assert dataset._fingerprint() == one


def test_an_error_of_the_stream_arrives_at_a_step_and_names_the_file(split, tmp_path):
    for file in split.glob("*.parquet"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    columns = columns_of(as_written(100, 1))
    columns["part_px"][5] = columns["part_px"][5] * np.float32(np.nan)
    write_parquet(tmp_path / "zz.parquet", columns)
    with open_dataset(tmp_path, window=200) as dataset:
        trainer = rino.Trainer(run_of(2), dataset)
        for _ in range(2):  # once more says the same
            with pytest.raises(RinoError, match=r"zz.parquet: constituent 0 of jet 5 is not finite"):
                losses(trainer, 30)
        del trainer


def quiet(**more: object) -> dict[str, object]:
    return {"progress": False, "tensorboard": False, **more}


def test_pretrain_takes_a_dataset(split, tmp_path):
    with open_dataset(split, window=200) as dataset:
        run = rino.pretrain(run_of(2), dataset, tmp_path / "run", **quiet())
    assert run.jets_seen == 3 * 18 * 64 and run.history.rows == 54
    with open_dataset(split, window=200) as dataset:
        trainer = rino.Trainer(run_of(), dataset)
        assert [loss for loss, _ in losses(trainer, 54)] == run.history["loss"].tolist()
        del trainer


def test_pretrain_streams_files_of_many_jets(split, tmp_path, monkeypatch):
    in_memory = rino.pretrain(run_of(), split, tmp_path / "few", **quiet())
    monkeypatch.setattr("pyrino.data.opening.IN_MEMORY", 1000)
    streamed = rino.pretrain(run_of(), split, tmp_path / "many", **quiet())
    assert streamed.history.rows == in_memory.history.rows == 54
    assert streamed.history["loss"].tolist() != in_memory.history["loss"].tolist()  # another order
    with open_dataset(split, labelled=False, shuffle_seed=run_of().training.seed) as dataset:
        trainer = rino.Trainer(run_of(), dataset)
        assert [loss for loss, _ in losses(trainer, 54)] == streamed.history["loss"].tolist()
        del trainer


def test_pretrain_says_what_was_left_out(split, tmp_path):
    for file in split.glob("*.parquet"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "99.parquet").write_bytes(b"PAR1")
    dataset = open_dataset(tmp_path, window=200, on_error="skip")
    assert len(dataset) == 1200
    with pytest.warns(RinoWarning) as said:
        rino.pretrain(run_of(), dataset, tmp_path / "run", **quiet())
    dataset.close()
    assert len(said) >= 3  # at the end of each pass, and of the training
    assert all("1 file skipped, the first: " in str(w.message) and "99.parquet" in str(w.message) for w in said)
    assert "training went without what is broken" in str(said[-1].message)


# --- the end ---


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pyrino-reader")]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    assert not readers()
    yield
    gc.collect()
    for _ in range(200):
        if not readers():
            return
        time.sleep(0.01)
    raise AssertionError(f"threads are left: {readers()}")


def test_a_closed_stream_says_that_it_is_closed(split):
    dataset = open_dataset(split, window=130)
    dataset.take(5)
    dataset.close()
    assert not readers()
    dataset.close()
    with pytest.raises(RinoError, match="was closed"):
        dataset.take(5)


def test_a_forgotten_stream_ends_its_threads(split):
    dataset = open_dataset(split, window=130)
    dataset.take(5)
    assert readers()
    del dataset


def test_opening_that_fails_leaves_no_thread_and_no_open_file(split, tmp_path):
    net = write_jetnet(tmp_path / "t.hdf5", *jetnet_arrays())
    with pytest.raises(RinoError, match="numbers of JetNet") as error:
        open_dataset([split / "00.parquet", net])
    assert not readers() and error is not None
    write_jetnet(net, *jetnet_arrays())  # HDF5 refuses to write what is still open


def test_a_trainer_forgotten_in_the_middle_ends_with_its_stream(split):
    for loader_threads in (0, 1, 3):
        trainer = rino.Trainer(run_of(loader_threads), open_dataset(split, window=130))
        losses(trainer, 2)
        assert readers()
        del trainer
        gc.collect()


def test_pretrain_leaves_no_threads_behind(split, tmp_path, monkeypatch):
    monkeypatch.setattr("pyrino.data.opening.IN_MEMORY", 10)
    rino.pretrain(run_of(), split, tmp_path / "run", **quiet())


SCRIPT = """
import sys, warnings
warnings.simplefilter("error")
import pyrino as rino
sys.path.insert(0, {tests!r})
from helpers import tiny
dataset = rino.open_dataset({folder!r}, window=130)
recipe = tiny(training__epochs=100000, training__batch_size=64, training__loader_threads=2)
"""


def script(folder: Path, rest: str) -> list[str]:
    code = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder)) + textwrap.dedent(rest)
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    "end", ["", "del trainer", "sys.exit(0)", "keep = [dataset, trainer]; keep.append(keep)", "sys.kept = trainer"]
)
def test_the_interpreter_ends_in_the_middle_of_training(split, end):
    rest = f"""
        trainer = rino.Trainer(recipe, dataset)
        for _ in range(3):
            trainer.step()
        {end}
    """
    done = subprocess.run(script(split, rest), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_exception_ends_the_interpreter_in_the_middle_of_training(split):
    rest = """
        trainer = rino.Trainer(recipe, dataset)
        trainer.step()
        raise ArithmeticError("of the user")
    """
    done = subprocess.run(script(split, rest), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.strip().endswith("ArithmeticError: of the user")


def hear_ctrl_c() -> None:
    """In a new process: what runs in the background, as CI may do, ignores it and would hand that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_stops_training_on_a_stream_with_a_checkpoint(split, tmp_path):
    rest = f"""
        import os, signal, threading
        class Stop:
            steps = 0
            def __init__(self): self.take = dataset._take
            def __call__(self, count):
                self.steps += 1
                if self.steps == 12:
                    os.kill(os.getpid(), signal.SIGINT)
                return self.take(count)
        dataset._take = Stop()
        try:
            rino.pretrain(recipe, dataset, {str(tmp_path / "run")!r}, progress=False, tensorboard=False)
        except KeyboardInterrupt as stopped:
            print(stopped)
    """
    done = subprocess.run(script(split, rest), capture_output=True, text=True, timeout=120, preexec_fn=hear_ctrl_c)
    assert (done.returncode, done.stderr) == (0, "")
    assert "go on with resume=True" in done.stdout and (tmp_path / "run" / "checkpoint.safetensors").is_file()


def test_ctrl_c_ends_a_loop_over_batches(split):
    """After a pass, in which readers import what they need: a module that is executed by a thread while the interpreter
    ends makes CPython forget what it dies of (`run_eval_code_obj`), and on a busy machine the status was 1.
    """
    rest = """
        for jets in dataset.batches(50):
            pass
        print("ready", flush=True)
        while True:
            for jets in dataset.batches(50):
                pass
    """
    process = subprocess.Popen(
        script(split, rest), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and errors.strip().endswith("KeyboardInterrupt")


MEMORY = """
import gc, sys
import psutil
import pyrino as rino
from pyrino.data import pieces
pieces._KEPT_BYTES = 8 * 2**20
me = psutil.Process()
dataset = rino.open_dataset({folder!r}, window={window})
dataset.take(100)
gc.collect()
base, jets, peak = me.memory_info().rss, 0, 0
for batch in dataset.batches(1000):
    jets += len(batch)
    peak = max(peak, me.memory_info().rss)
print(jets, (peak - base) / 1e6)
"""


@pytest.mark.parametrize("suffix", [".parquet", ".root"])
def test_memory_stays_bounded_however_many_jets_pass(tmp_path, suffix):
    """300,000 jets, 80 MB of columns in the files' precision, through windows of 2048."""
    first = tmp_path / f"000{suffix}"
    columns = columns_of(as_written(5000, 1))
    write_parquet(first, columns) if suffix == ".parquet" else write_root(first, columns)
    for number in range(1, 60):
        shutil.copy(first, tmp_path / f"{number:03d}{suffix}")  # not a link: a file is read once
    code = MEMORY.format(folder=str(tmp_path), window=2048)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    jets, grown = done.stdout.split()
    assert int(jets) == 299_900 and float(grown) < 40


def test_a_piece_keeps_no_more_than_itself_in_memory(tmp_path, monkeypatch):
    """Parquet is read by the row group; what is not asked for goes."""
    monkeypatch.setattr("pyrino.data.pieces._KEPT_BYTES", 200_000)
    for number in range(6):
        write_parquet(tmp_path / f"{number}.parquet", columns_of(as_written(1000, number)))
    before = pa.total_allocated_bytes()
    with open_dataset(tmp_path, window=100, threads=1) as dataset:
        group = pq.read_table(tmp_path / "0.parquet", columns=["part_px", "part_py", "part_pz", "part_energy"]).nbytes
        for _ in range(8):
            dataset.take(100)
        dataset._threads.submit(lambda: None).result()
        kept = [reader.kept for _, reader in dataset._readers._idle.values()]
        assert len(kept) > 3 and sum(map(bool, kept)) <= 1
        for _, reader in dataset._readers._idle.values():
            reader.forget()
        # A few pieces of a fifth of a row group, not as many row groups.
        assert pa.total_allocated_bytes() - before < 1.6 * group


# --- what a fresh pair of eyes found ---


def test_ranks_of_few_files_share_each_of_them(tmp_path):
    """Whole files for each would leave a rank without a class, and with nothing where a cut takes the other one."""
    for number, kind in enumerate((0, 8)):
        write_root(tmp_path / f"{number}.root", columns_of(as_written(200, number).with_labels(np.full(200, kind))))
    for label, jets in ((None, 400), ("QCD", 200)):
        taken = []
        for rank in range(3):
            with open_dataset(tmp_path, rank=rank, world_size=3, label=label) as dataset:
                mine = [identities(batch) for batch in dataset.batches(50)]
                taken += [jet for batch in mine for jet in batch]
                assert abs(sum(map(len, mine)) - jets / 3) <= 2
                assert len({name for batch in mine for name, _ in batch}) == (2 if label is None else 1)
        assert len(taken) == len(set(taken)) == jets


def test_a_state_goes_on_in_the_same_stream_only(split):
    with open_dataset(split, window=300, shuffle_seed=1) as dataset:
        dataset.take(457)
        state = json.loads(json.dumps(dataset.state_dict()))
        expected = identities(dataset.take(100))
    with open_dataset(split, window=300, shuffle_seed=1) as dataset:
        dataset.load_state_dict(state)
        assert identities(dataset.take(100)) == expected
    with open_dataset(split, window=300, shuffle_seed=2) as other, pytest.raises(RinoError, match="another stream"):
        other.load_state_dict(state)
    with open_dataset(split) as dataset, pytest.raises(RinoError, match="no state of a stream"):
        dataset.load_state_dict({"position": [0, 0, 0]})


def test_a_position_that_is_not_there_leaves_the_stream_where_it_was(split):
    with open_dataset(split, window=300) as dataset, open_dataset(split, window=300) as untouched:
        dataset.take(7), untouched.take(7)
        for place in ((0, 0, 299999), (0, 99999, 0)):
            with pytest.raises(RinoError, match=r"there is no position \(0, "):
                dataset.seek(place)
        assert identities(dataset.take(3)) == identities(untouched.take(3))
        for position in ("abc", None, (0.5, 0, 0), (0, 0)):
            with pytest.raises(RinoError, match="position"):
                dataset.seek(position)


def test_a_stream_says_how_to_use_it(split):
    with open_dataset(split) as dataset:
        with pytest.raises(RinoError, match=r"stream\.batches\(1000\)"):
            iter(dataset)
        with pytest.raises(RinoError, match="open it in every process"):
            pickle.dumps(dataset)


def test_a_mixture_has_what_a_dataset_has(split):
    files = sorted(split.iterdir())
    with open_dataset({files[0]: 1, files[1]: 3}) as mixture:
        batches = list(mixture.batches(64))
        assert sum(map(len, batches)) == len(mixture) and {len(batch) for batch in batches[:-1]} == {64}
        assert [source.name for source in mixture.sources] == [files[0].name, files[1].name]
        assert len(mixture.layouts) == 2 and mixture.report.files == 2


def test_weights_that_are_no_numbers_are_named(split):
    with pytest.raises(RinoError, match="give a number for each stream"):
        open_dataset({file: word for file, word in zip(sorted(split.iterdir()), ("x", 2), strict=False)})
