"""pyrino.pack: what goes into a packed cache comes out of it, bit by bit, or an error does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

import pyrino as rino
from pyrino import Jets, RinoError, RinoWarning, read_jets
from pyrino.cli import main
from pyrino.data import Chunk, Labels, Layout, Reader, Source, layout_of, open_file, packed
from pyrino.jets import Origins

MOMENTA = ("part_px", "part_py", "part_pz", "part_energy")
COLUMNS = ("part_charge", "part_id", "jet_mass", "jet_event")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record batches of 16 jets, so that few jets make several."""
    monkeypatch.setattr(packed, "JETS_PER_BATCH", 16)


@pytest.fixture(scope="module")
def jets() -> Jets:
    return rino.toy_jets(70, seed=4, top_fraction=0.5, multiplicity_mean=8, multiplicity_std=4, multiplicity_max=15)


def write_parquet(path: Path, jets: Jets, momenta: Any = np.float32, first: int = 0, **more: Any) -> Path:
    """JetClass-II's columns and others, a function of the jet's number (from `first`)."""
    offsets = pa.array(jets.offsets.astype(np.int32))
    number = np.repeat(np.arange(first, first + len(jets)), jets.multiplicity)
    lists = {name: c.astype(momenta) for name, c in zip(MOMENTA, (jets.px, jets.py, jets.pz, jets.e), strict=True)} | {
        "part_charge": (number % 3 - 1).astype(np.int8),
        "part_id": number * 100_000_001,
    }
    columns = {name: pa.ListArray.from_arrays(offsets, pa.array(values)) for name, values in lists.items()}
    columns |= {"jet_mass": jets.mass, "jet_event": np.arange(first, first + len(jets)) + 2**52}
    if jets.labels is not None:
        columns["jet_label"] = jets.labels
    pq.write_table(pa.table(columns | more), path, row_group_size=13)
    return path


@pytest.fixture
def sources(tmp_path: Path, jets: Jets) -> list[Path]:
    """Two files with the 70 jets."""
    return [
        write_parquet(tmp_path / "a.parquet", jets[:45]),
        write_parquet(tmp_path / "b.parquet", jets[45:], first=45),
    ]


@pytest.fixture
def cache(tmp_path: Path, sources: list[Path]) -> Path:
    """Their packed cache, with all columns."""
    rino.pack(sources, tmp_path / "jets.arrow", columns=COLUMNS, progress=False)
    return tmp_path / "jets.arrow"


def assert_same(one: Jets, other: Jets) -> None:
    """All that jets have is equal, to the bit."""
    assert one == other
    assert one.extras.keys() == other.extras.keys() and one.values.keys() == other.values.keys()
    for name, values in one.values.items():
        np.testing.assert_array_equal(values, other.values[name])
    np.testing.assert_array_equal(one.origins.names, other.origins.names)
    np.testing.assert_array_equal(one.origins.entry, other.origins.entry)


# --- there and back ---


def test_a_cache_holds_what_its_sources_do(sources, cache):
    assert layout_of(Source(cache)).name == "packed"
    assert_same(read_jets(cache, columns=COLUMNS), read_jets(sources, columns=COLUMNS))
    assert_same(read_jets(cache), read_jets(sources))


def test_momenta_are_the_float32_nearest_to_those_of_the_source(tmp_path, jets):
    file = write_parquet(tmp_path / "double.parquet", jets, momenta=np.float64)
    np.testing.assert_array_equal(read_jets(file).p4, jets.p4)
    rino.pack(file, tmp_path / "jets.arrow", progress=False)
    np.testing.assert_array_equal(read_jets(tmp_path / "jets.arrow").p4, jets.p4.astype(np.float32))


def test_columns_keep_their_precision(cache):
    with open_file(Source(cache)) as (_, reader):
        chunk = reader.read(0, 5, COLUMNS)
    types = {name: str(column.dtype) for name, column in (dict(chunk.extras) | dict(chunk.values)).items()}
    assert types == {"part_charge": "float32", "part_id": "int64", "jet_mass": "float64", "jet_event": "int64"}
    np.testing.assert_array_equal(chunk.values["jet_event"], np.arange(5) + 2**52)
    assert {component.dtype for component in chunk.momenta} == {np.dtype(np.float32)}


def test_labels_keep_their_meaning_and_names(tmp_path, jets):
    table = pq.read_table(write_parquet(tmp_path / "a.parquet", jets)).drop_columns("jet_label")
    for name, of in (("label_QCD", jets.labels == 0), ("label_Tbqq", jets.labels == 1)):
        table = table.append_column(name, pa.array(of))
    pq.write_table(table, tmp_path / "a.parquet")
    rino.pack(tmp_path / "a.parquet", tmp_path / "jets.arrow", progress=False)
    with open_file(Source(tmp_path / "jets.arrow")) as (_, reader):
        labels = reader.read(0, 3).labels
        assert reader.label_meaning() == labels.meaning == "numbers of JetClass"
    assert labels.names == rino.data.JETCLASS_CLASSES
    top = read_jets(tmp_path / "jets.arrow", label="Tbqq")
    assert len(top) == (jets.labels == 1).sum() and set(top.labels) == {8}


def test_files_without_labels_make_a_cache_without(tmp_path, jets, sources):
    rino.pack(sources, tmp_path / "jets.arrow", labelled=False, columns="jet_label", progress=False)
    read = read_jets(tmp_path / "jets.arrow", columns="jet_label")
    assert read.labels is None
    np.testing.assert_array_equal(read.values["jet_label"], jets.labels)


def test_the_label_may_be_asked_for_as_a_column_too(tmp_path, jets, sources):
    rino.pack(sources, tmp_path / "jets.arrow", columns="jet_label", progress=False)
    read = read_jets(tmp_path / "jets.arrow", columns="jet_label")
    np.testing.assert_array_equal(read.labels, jets.labels)
    np.testing.assert_array_equal(read.values["jet_label"], jets.labels)


def test_origins_are_the_sources(sources, cache):
    origins = read_jets(cache).origins
    assert origins.files == tuple(map(str, sources))
    np.testing.assert_array_equal(origins.file, np.arange(70) >= 45)
    np.testing.assert_array_equal(origins.entry, np.where(np.arange(70) >= 45, np.arange(70) - 45, np.arange(70)))


def test_packing_a_cache_keeps_the_first_origins(tmp_path, sources, cache):
    again = tmp_path / "again.arrow"
    rino.pack([cache], again, columns=COLUMNS, mass=(60, None), progress=False)
    assert_same(read_jets(again, columns=COLUMNS), read_jets(sources, columns=COLUMNS, mass=(60, None)))


def test_caches_and_sources_may_be_packed_together(tmp_path, jets, cache):
    third = write_parquet(tmp_path / "c.parquet", jets[:20], first=200)
    rino.pack([cache, third], tmp_path / "all.arrow", progress=False)
    read = read_jets(tmp_path / "all.arrow")
    assert [Path(name).name for name in read.origins.files] == ["a.parquet", "b.parquet", "c.parquet"]
    assert len(read) == 90


def test_jets_are_selected(tmp_path, sources, jets):
    out = tmp_path / "jets.arrow"
    wanted = {"pt": (600, None), "label": [1], "hardest": 4, "fraction": 0.7, "seed": 5}
    tally = rino.pack(sources, out, columns=COLUMNS, progress=False, **wanted)
    expected = read_jets(sources, columns=COLUMNS, **wanted)
    assert_same(read_jets(out, columns=COLUMNS), expected)
    assert (tally.jets, tally.entries, tally.files) == (len(expected), 70, 2) and tally.cut == 70 - len(expected) > 0


@pytest.mark.parametrize("n", [1, 15, 16, 17, 32, 33])
def test_any_number_of_jets_fits_into_record_batches(tmp_path, jets, n):
    file = write_parquet(tmp_path / "a.parquet", jets[:n])
    rino.pack(file, tmp_path / "jets.arrow", progress=False)
    assert_same(read_jets(tmp_path / "jets.arrow"), read_jets(file))
    with open_file(Source(tmp_path / "jets.arrow")) as (_, reader):
        assert reader.entries == n and reader.starts.tolist() == list(range(0, n, 16))
        assert reader.read(n, n).counts.tolist() == [] and reader.read(n - 1, n).counts.tolist() == [
            jets.multiplicity[n - 1]
        ]


def test_any_range_can_be_read(sources, cache, jets):
    whole = read_jets(sources, columns=COLUMNS)
    rng = np.random.default_rng(1)
    ranges = [(0, 70), (0, 0), (70, 70), (16, 32), (15, 17), (69, 70), *np.sort(rng.integers(0, 71, (40, 2))).tolist()]
    with open_file(Source(cache)) as (_, reader):
        for first, last in ranges:
            chunk = reader.read(first, last, COLUMNS)
            part = whole[first:last]
            np.testing.assert_array_equal(chunk.counts, part.multiplicity)
            for mine, theirs in zip(chunk.momenta, (part.px, part.py, part.pz, part.e), strict=True):
                np.testing.assert_array_equal(mine, theirs)
            for name in COLUMNS[:2]:
                np.testing.assert_array_equal(chunk.extras[name], part.extras[name])
            for name in COLUMNS[2:]:
                np.testing.assert_array_equal(chunk.values[name], part.values[name])
            np.testing.assert_array_equal(chunk.labels.values, part.labels)
            np.testing.assert_array_equal(chunk.origins.names, part.origins.names)
            np.testing.assert_array_equal(chunk.origins.entry, part.origins.entry)


def test_nothing_is_copied_within_a_record_batch(cache):
    def owner(array: np.ndarray) -> Any:
        while isinstance(array, np.ndarray) and array.base is not None:
            array = array.base
        return array

    with open_file(Source(cache)) as (_, reader):
        chunk = reader.read(17, 30, COLUMNS)
        assert reader.spans(64, 64) == [(0, 16), (16, 32), (32, 48), (48, 64), (64, 70)]
    arrays = [*chunk.momenta, *chunk.extras.values(), *chunk.values.values(), chunk.labels.values, chunk.origins.entry]
    assert not any(isinstance(owner(array), np.ndarray) or array.flags.writeable for array in arrays)
    np.testing.assert_array_equal(chunk.momenta[0], read_jets(cache)[17:30].px)  # after the reader was closed


def test_chunks_outlive_the_pages_that_are_given_back(cache):
    with open_file(Source(cache)) as (_, reader):
        kept, other = reader.read(0, 8), reader.read(0, 16)
        expected = kept.momenta[0].copy()
        del other  # gives pages back that `kept` has, too
        np.testing.assert_array_equal(kept.momenta[0], expected)


def test_a_stream_of_a_cache_has_every_jet_once(sources, cache):
    dataset = rino.open_dataset(cache, columns=COLUMNS, seed=3, window=40)
    read = Jets.concatenate(dataset.batches(9))
    order = np.lexsort((read.origins.entry, read.origins.names))
    assert_same(read[order], read_jets(sources, columns=COLUMNS))


def test_origins_that_a_layout_of_the_user_gives_are_kept(tmp_path):
    class Merged(Layout):
        name, title, container, suffixes = "merged", "a merged file", "", (".merged",)

        def recognise(self, file: Any) -> bool:
            return file.read(6) == b"merged"

        def reader(self, source: Source, file: Any) -> Reader:
            file.close()
            return Rows()

    class Rows(Reader):
        entries, starts, columns = 40, np.zeros(1, dtype=np.int64), {}

        def read(self, first: int, last: int, columns: Sequence[str] = ()) -> Chunk:
            n = np.arange(first, last)
            ones = np.ones(len(n))
            origins = Origins(("x", "unused", "y"), np.where(n < 20, 0, 2).astype(np.int32), n + 7)
            return Chunk((ones, ones, ones, 2 * ones), np.ones(len(n), np.int64), Labels(n % 2, "odd"), origins=origins)

        def close(self) -> None:
            pass

    rino.data.register(Merged())
    try:
        (tmp_path / "a.merged").write_bytes(b"merged")
        rino.pack(tmp_path / "a.merged", tmp_path / "jets.arrow", progress=False)
    finally:
        rino.data.layout._LAYOUTS.pop("merged")
    origins = read_jets(tmp_path / "jets.arrow").origins
    np.testing.assert_array_equal(origins.names, np.repeat(["x", "y"], 20))
    np.testing.assert_array_equal(origins.entry, np.arange(40) + 7)


def test_a_cache_is_read_from_a_url(cache):
    fsspec.filesystem("memory").pipe("/cache.arrow", cache.read_bytes())
    try:
        assert_same(read_jets("memory://cache.arrow", columns=COLUMNS), read_jets(cache, columns=COLUMNS))
    finally:
        fsspec.filesystem("memory").rm("/cache.arrow")


# --- for others ---


def test_others_read_it_without_pyrino(cache, sources, jets):
    expected = read_jets(sources, columns=COLUMNS)
    table = pa.feather.read_table(cache)
    assert table.column_names == [*MOMENTA, *COLUMNS, "jet_label", "origin_file", "origin_entry"]
    about = json.loads(table.schema.metadata[b"pyrino.pack"])
    assert about["version"] == 1 and about["labels"]["meaning"] and about["selection"]["columns"] == list(COLUMNS)
    array = ak.from_arrow(table)
    np.testing.assert_array_equal(ak.flatten(array.part_px), expected.px)
    np.testing.assert_array_equal(ak.num(array.part_energy), expected.multiplicity)
    frame = table.to_pandas()
    np.testing.assert_array_equal(frame["part_charge"].iloc[50], expected[50:51].extras["part_charge"])
    np.testing.assert_array_equal(frame["origin_file"].astype(str), expected.origins.names)
    np.testing.assert_array_equal(frame["origin_entry"], expected.origins.entry)
    np.testing.assert_array_equal(frame["jet_label"], expected.labels)


def test_a_parquet_copy_made_by_others_is_read_as_jetclass2(tmp_path, cache):
    pq.write_table(pa.feather.read_table(cache).drop_columns("origin_file"), tmp_path / "copy.parquet")
    assert layout_of(Source(tmp_path / "copy.parquet")).name == "jetclass2"
    assert read_jets(tmp_path / "copy.parquet", columns=COLUMNS) == read_jets(cache, columns=COLUMNS)


def test_a_jet_takes_few_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "JETS_PER_BATCH", 1024)
    jets = rino.toy_jets(2000, seed=1)
    rino.pack(write_parquet(tmp_path / "a.parquet", jets), tmp_path / "jets.arrow", progress=False)
    momenta = 16 * jets.n_constituents / len(jets)
    assert (tmp_path / "jets.arrow").stat().st_size / len(
        jets
    ) < momenta + 16 + 8 + 4 + 8 + 10  # offsets, label, origin


# --- damage ---


def outcome(file: Path, reference: Jets) -> str:
    """The error that reading gives, or "" if it gives what it should."""
    try:
        read = read_jets(file, columns=COLUMNS)
    except RinoError as error:
        assert str(file) in str(error)
        return str(error)
    assert_same(read, reference)
    return ""


def test_a_flipped_bit_is_never_other_jets(tmp_path, cache):
    reference = read_jets(cache, columns=COLUMNS)
    content = cache.read_bytes()
    rng = np.random.default_rng(2)
    damaged = tmp_path / "damaged.arrow"
    found = 0
    # All over, and every place of the metadata at the end.
    places = [*rng.choice(len(content), 400, replace=False), *range(len(content) - 600, len(content), 3)]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(changed)
        found += outcome(damaged, reference) != ""
    assert found > len(places) / 2  # the others are padding, and what Arrow writes twice


def test_damage_is_named_with_its_place_and_remedy(tmp_path, cache):
    content = cache.read_bytes()
    pz = read_jets(cache).pz[300:310].astype("<f4").tobytes()
    assert content.count(pz) == 1
    changed = bytearray(content)
    changed[content.index(pz) + 13] ^= 4
    (tmp_path / "damaged.arrow").write_bytes(changed)
    jet = int(np.searchsorted(read_jets(cache).offsets, 303, side="right")) - 1
    batch = jet // 16
    message = f"damaged.arrow is damaged: the checksum of part_pz in record batch {batch} \\(jets {16 * batch} to "
    with pytest.raises(RinoError, match=f"{message}{16 * batch + 15}\\) does not fit: pack it again"):
        read_jets(tmp_path / "damaged.arrow")
    with open_file(Source(tmp_path / "damaged.arrow")) as (_, reader):
        for _ in range(2):  # not only the first time
            with pytest.raises(RinoError, match="does not fit"):
                reader.read(16 * batch, 16 * batch + 2)
        reader.read(0, 16)
    with pytest.warns(RinoWarning, match="1 file skipped.* does not fit"):
        assert len(read_jets(tmp_path / "damaged.arrow", on_error="skip")) == 16 * batch


def test_only_what_is_read_is_checked_and_checking_can_be_left_out(tmp_path, cache):
    content = cache.read_bytes()
    mass = read_jets(cache, columns="jet_mass").values["jet_mass"][:16].tobytes()
    changed = bytearray(content)
    changed[content.index(mass)] ^= 1
    (tmp_path / "damaged.arrow").write_bytes(changed)
    assert read_jets(tmp_path / "damaged.arrow") == read_jets(cache)
    with pytest.raises(RinoError, match="checksum of jet_mass"):
        read_jets(tmp_path / "damaged.arrow", columns="jet_mass")
    rino.data.register(packed.Packed(verify=False), replace=True)
    try:
        read = read_jets(tmp_path / "damaged.arrow", columns="jet_mass").values["jet_mass"]
    finally:
        rino.data.register(packed.Packed(), replace=True)
    assert (read != read_jets(cache, columns="jet_mass").values["jet_mass"]).sum() == 1


def test_a_truncated_file_is_an_error_at_any_length(tmp_path, cache):
    content = cache.read_bytes()
    lengths = {*range(40), *range(len(content) - 40, len(content)), *range(40, len(content), 211)}
    for length in sorted(lengths):
        (tmp_path / "short.arrow").write_bytes(content[:length])
        with pytest.raises(RinoError, match=r"short\.arrow"):
            read_jets(tmp_path / "short.arrow")


def rewritten(cache: Path, path: Path, order: Sequence[int] = range(5), **changes: Any) -> Path:
    """The cache with other things in its description, checksum and all, and these of its record batches."""
    with pa.memory_map(str(cache)) as place:
        file = pa.ipc.open_file(place)
        about = json.loads(file.schema.metadata[packed.KEY]) | changes
        text = json.dumps(about).encode()
        metadata = {packed.KEY: text, packed.KEY + b".checksum": packed.digest(text)}
        with pa.ipc.new_file(str(path), file.schema.with_metadata(metadata)) as writer:
            for number in order:
                writer.write_batch(*file.get_batch_with_custom_metadata(number))
    return path


def test_a_later_version_asks_for_an_upgrade(tmp_path, cache):
    with pytest.raises(RinoError, match=r"of version 2, and this pyrino reads version 1: upgrade pyrino"):
        read_jets(rewritten(cache, tmp_path / "new.arrow", version=2))
    assert read_jets(rewritten(cache, tmp_path / "same.arrow")) == read_jets(cache)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 0, 2, 3, 4), (0, 0, 2, 3, 4), ()])
def test_record_batches_that_others_left_out_or_moved_are_missed(tmp_path, cache, order):
    with pytest.raises(RinoError, match=r"is damaged: .* pack it again"):
        read_jets(rewritten(cache, tmp_path / "other.arrow", order))


def test_a_description_that_does_not_fit_is_refused(tmp_path, cache):
    columns = {"part_px": "<f4", "part_py": "<f4", "part_pz": "<f4", "part_energy": "<f8"}
    with pytest.raises(RinoError, match="its columns are not those of its description"):
        read_jets(rewritten(cache, tmp_path / "other.arrow", constituent_columns=columns))


def test_arrow_of_others_is_no_packed_cache(tmp_path, cache):
    table = pa.feather.read_table(cache).replace_schema_metadata(None)
    pa.feather.write_feather(table, str(tmp_path / "other.arrow"))
    with pytest.raises(RinoError, match="Arrow of no known layout: it has the columns part_px"):
        read_jets(tmp_path / "other.arrow")
    with pytest.raises(RinoError, match=r"no packed cache: it is Arrow without pyrino\.pack"):
        read_jets(tmp_path / "other.arrow", layout="packed")


# --- whole or absent ---


def files_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.fixture
def broken(tmp_path: Path, jets: Jets) -> Path:
    """A file whose jet 60 has a NaN."""
    p4 = jets.p4.copy()
    table = pq.read_table(write_parquet(tmp_path / "broken.parquet", jets))
    p4[jets.offsets[60], 0] = np.nan
    px = pa.ListArray.from_arrays(pa.array(jets.offsets.astype(np.int32)), pa.array(p4[:, 0].astype(np.float32)))
    pq.write_table(table.set_column(0, "part_px", px), tmp_path / "broken.parquet", row_group_size=13)
    return tmp_path / "broken.parquet"


def test_an_error_in_the_middle_leaves_no_file(tmp_path, broken):
    before = files_in(tmp_path)
    with pytest.raises(RinoError, match="constituent 0 of jet 60 is not finite"):
        rino.pack(broken, tmp_path / "jets.arrow", progress=False)
    assert files_in(tmp_path) == before


def test_an_error_leaves_the_file_that_was_there(cache, broken):
    content = cache.read_bytes()
    with pytest.raises(RinoError, match="not finite"):
        rino.pack(broken, cache, overwrite=True, progress=False)
    assert cache.read_bytes() == content


def test_what_is_broken_can_be_skipped_but_not_in_silence(tmp_path, broken, sources):
    (tmp_path / "rubbish.parquet").write_bytes(b"PAR1 and nothing")
    (tmp_path / "rubbish.arrow").write_bytes(b"ARROW1 and nothing")
    files = [broken, tmp_path / "rubbish.parquet", tmp_path / "rubbish.arrow"]
    with pytest.warns(RinoWarning, match="1 broken jet skipped.*2 files skipped"):
        tally = rino.pack(files, tmp_path / "jets.arrow", on_error="skip", progress=False)
    assert tally.bad_jets == 1 and tally.jets == 69 and len(tally.skipped) == 2
    assert 60 not in read_jets(tmp_path / "jets.arrow").origins.entry


def test_an_empty_selection_is_an_error_and_no_file(tmp_path, sources):
    before = files_in(tmp_path)
    with pytest.raises(RinoError, match=r"no jet is left: 0 jets of 2 files.*70 left out by the selection"):
        rino.pack(sources, tmp_path / "jets.arrow", pt=(1e6, None), progress=False)
    assert files_in(tmp_path) == before


def test_a_file_is_replaced_only_on_request(sources, cache):
    with pytest.raises(RinoError, match="exists: give overwrite=True"):
        rino.pack(sources[0], cache, progress=False)
    rino.pack(sources[0], cache, overwrite=True, progress=False)
    assert len(read_jets(cache)) == 45


def test_a_cache_is_not_packed_into_itself(tmp_path, cache):
    with pytest.raises(RinoError, match="one of the files to pack"):
        rino.pack(tmp_path, cache, overwrite=True, progress=False)


# --- what cannot be packed ---


def test_labels_of_several_meanings_are_refused(tmp_path, jets, sources):
    bare = write_parquet(tmp_path / "bare.parquet", Jets(jets.p4, jets.offsets))
    with pytest.raises(RinoError, match=r"labels of .* are numbers of the column jet_label, those of .* absent"):
        rino.pack([*sources, bare], tmp_path / "jets.arrow", progress=False)
    rino.pack([*sources, bare], tmp_path / "jets.arrow", labelled=False, progress=False)
    assert len(read_jets(tmp_path / "jets.arrow")) == 140


def test_names_of_the_format_are_refused_as_columns(tmp_path, sources):
    with pytest.raises(RinoError, match="'origin_entry' cannot be packed"):
        rino.pack(sources, tmp_path / "jets.arrow", columns="origin_entry", progress=False)


def test_missing_columns_are_named(tmp_path, sources, cache):
    with pytest.raises(RinoError, match=r"a\.parquet lacks the columns part_d0val"):
        rino.pack(sources, tmp_path / "other.arrow", columns="part_d0val", progress=False)
    with pytest.raises(RinoError, match=r"jets\.arrow lacks the columns part_d0val; it has part_charge"):
        read_jets(cache, columns="part_d0val")


def test_columns_of_other_types_are_refused_if_numbers_would_change(tmp_path, jets, sources):
    wide = write_parquet(tmp_path / "wide.parquet", jets, jet_event=np.arange(70) + 0.5)
    with pytest.raises(RinoError, match=r"wide\.parquet: jet_event is float64 and was int64 in the files before"):
        rino.pack([*sources, wide], tmp_path / "jets.arrow", columns="jet_event", progress=False)
    narrow = write_parquet(tmp_path / "narrow.parquet", jets, jet_event=np.arange(70, dtype=np.int32))
    rino.pack([*sources, narrow], tmp_path / "jets.arrow", columns="jet_event", progress=False)
    assert read_jets(tmp_path / "jets.arrow", columns="jet_event").values["jet_event"][-1] == 69


def test_numbers_too_large_for_float32_are_refused(tmp_path, jets):
    offsets = pa.array(jets.offsets.astype(np.int32))
    large = pa.ListArray.from_arrays(offsets, pa.array(np.full(jets.n_constituents, 1e39)))
    file = write_parquet(tmp_path / "a.parquet", jets, part_large=large)
    with pytest.raises(RinoError, match=r"a\.parquet: a number of the jets 0 to \d+ is too large for float32"):
        rino.pack(file, tmp_path / "jets.arrow", columns="part_large", progress=False)


# --- memory ---

_PACK = """
import resource, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
import pyrino as rino

folder, files = sys.argv[1], int(sys.argv[2])
jets = rino.toy_jets(15000, seed=1)
offsets = pa.array(jets.offsets.astype(np.int32))
momenta = dict(zip(("part_px", "part_py", "part_pz", "part_energy"), (jets.px, jets.py, jets.pz, jets.e)))
table = pa.table({n: pa.ListArray.from_arrays(offsets, pa.array(c.astype(np.float32))) for n, c in momenta.items()})
for number in range(files):
    pq.write_table(table, f"{folder}/{number:02}.parquet", compression="none", use_dictionary=False)

def resident():
    with open("/proc/self/status") as status:
        lines = [line.split() for line in status]
    return {line[0]: int(line[1]) * 1024 for line in lines if line[0] in ("VmHWM:", "VmRSS:")}

rino.pack(f"{folder}/00.parquet", f"{folder}/first.arrow", progress=False)
before = resident()["VmHWM:"]
rino.pack(f"{folder}/??.parquet", f"{folder}/all.arrow", progress=False)
packing = resident()["VmHWM:"] - before
from pyrino.data import Source, open_file
rests = []
with open_file(Source(f"{folder}/all.arrow")) as (_, reader):
    for first, last in reader.spans(16384, 65536):
        sum(float(component.sum()) for component in reader.read(first, last).momenta)
        rests.append(resident()["VmRSS:"])
print(packing, max(rests) - rests[0], reader.entries)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_bounded_in_packing_and_in_reading(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _PACK, str(tmp_path), "20"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    packing, reading, jets = map(int, done.stdout.split())
    assert jets == 300_000 and (tmp_path / "all.arrow").stat().st_size > 200e6
    assert packing < 100e6 and reading < 40e6


# --- the command ---


def test_the_command_packs_as_the_function_does(tmp_path, sources, capsys):
    out = tmp_path / "cli.arrow"
    files = [str(file) for file in sources]
    assert main(["pack", *files, "--out", str(out), "--columns", *COLUMNS, "--hardest", "5", "--label", "1"]) == 0
    assert f"{len(read_jets(out))} jets, " in capsys.readouterr().out
    assert_same(read_jets(out, columns=COLUMNS), read_jets(sources, columns=COLUMNS, hardest=5, label=1))
    assert main(["pack", *files, "--out", str(out)]) == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert main(["pack", *files, "--out", str(out), "--overwrite", "--no-labels"]) == 0
    assert read_jets(out).labels is None


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No test leaves a partial file."""
    yield
    assert not [name for name in files_in(tmp_path) if name.endswith(".partial")]


def test_a_fraction_is_that_of_the_sources(tmp_path, jets):
    """So that a part for validation, drawn from the sources, is not in what the cache gives for training."""
    source = write_parquet(tmp_path / "s.parquet", jets)
    rino.pack(source, tmp_path / "a.arrow", progress=False, pt=(550, None))
    packed, plain = (
        rino.read_jets(file, fraction=0.3, seed=5, pt=(550, None)).origins for file in (tmp_path / "a.arrow", source)
    )
    np.testing.assert_array_equal(packed.entry, plain.entry)
    assert packed.files == plain.files


def test_a_name_that_no_folder_shows_is_refused(tmp_path, sources):
    with pytest.raises(RinoError, match=r"ends in \.arrow"):
        rino.pack(sources, tmp_path / "a.feather", progress=False)
