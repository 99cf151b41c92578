"""CMS NanoAOD with candidates: jets that point at their event's candidates, in files written as its users' are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot
from helpers import tiny
from test_readers import columns_of, write_parquet

import pyrino as rino
from pyrino import JetEncoder, Jets, RinoError, RinoWarning, open_dataset, read_jets
from pyrino.cli import main
from pyrino.data import Source, nanoaod, open_file
from pyrino.outputs import embed_files

EVENTS = 40
#: What candidates are called, and their number in the table that joins jets with them.
NAMES = {"PFNano": ("PFCands", "pFCandsIdx"), "old": ("PFCands", "candIdx"), "new": ("PFCand", "pfCandIdx")}

Events = dict[str, Any]


def make_events(candidates: str = "PFCands", index: str = "pFCandsIdx", seed: int = 0) -> Events:
    """Records of `EVENTS` events by collection; the first and the last have no large jets."""
    rng = np.random.default_rng(seed)
    large, small, number = rng.poisson(1.5, EVENTS), rng.poisson(3, EVENTS), rng.integers(20, 40, EVENTS)
    large[[0, 1, 17, 18, -1]] = 0
    total = number.sum()
    mass = rng.choice([0.0, 0.13957], total)
    mass[rng.random(total) < 0.11] = -2e-3
    of_candidates = {
        "pt": rng.exponential(20, total) + 0.5,
        "eta": rng.normal(0, 1, total),
        "phi": rng.uniform(-np.pi, np.pi, total),
        "mass": mass,
        "puppiWeight": rng.choice([0.0, 0.4, 1.0], total),
        "d0": rng.normal(0, 0.1, total),
    }
    columns = {name: values.astype(np.float32) for name, values in of_candidates.items()}
    columns["charge"] = rng.integers(-1, 2, total).astype(np.int32)
    events: Events = {candidates: ak.unflatten(ak.zip(columns), number)}
    for name, counts in (("FatJet", large), ("Jet", small)):
        kinematics = {key: rng.exponential(300, counts.sum()).astype(np.float32) for key in ("pt", "msoftdrop", "tau1")}
        events[name] = ak.unflatten(ak.zip(kinematics), counts)
        jets, picked = [], []
        for jet_count, candidate_count in zip(counts, number, strict=True):
            sizes = rng.integers(2, 9, jet_count)
            jets.append(rng.permutation(np.repeat(np.arange(jet_count), sizes)).astype(np.int32))
            picked.append(rng.integers(0, candidate_count, sizes.sum()).astype(np.int32))
        table = {"jetIdx": ak.Array(jets), index: ak.Array(picked)}
        table["btagEtaRel"] = ak.values_astype(table[index] * 0.5, np.float32)
        events[name + candidates] = ak.zip(table)
    events |= {
        "run": np.full(EVENTS, 362_105, np.uint32),
        "event": np.arange(EVENTS, dtype=np.uint64) + 2**34,
        "HLT_PFJet500": rng.random(EVENTS) < 0.5,
    }
    return events


def write_events(path: Path, events: Mapping[str, Any], step: int = EVENTS) -> Path:
    """As NanoAOD is: a tree `Events` of numbers, and of lists with a counter a collection; `step` events a basket."""
    types = {
        name: values.type.content if isinstance(values, ak.Array) else values.dtype for name, values in events.items()
    }
    with uproot.recreate(path) as file:
        tree = file.mktree(
            "Events",
            types,
            counter_name=lambda collection: f"n{collection}",
            field_name=lambda collection, field: f"{collection}_{field}" if collection else field,
        )
        number = len(events["run"])
        for first in range(0, number, step):
            tree.extend({name: values[first : first + step] for name, values in events.items()})
    return path


def restated(
    events: Events, jets: str = "FatJet", candidates: str = "PFCands", index: str = "pFCandsIdx", puppi: bool = False
) -> list[tuple[int, int, np.ndarray, ak.Array]]:
    """(event, number in the event, (k, 4) momenta, candidates) of every jet, one by one."""
    found = []
    for event in range(EVENTS):
        links = events[jets + candidates][event]
        for number in range(len(events[jets][event])):
            mine = events[candidates][event][links[index][links.jetIdx == number]]
            pt, eta, phi, mass = (mine[name].to_numpy().astype(float) for name in ("pt", "eta", "phi", "mass"))
            e = np.sqrt((pt * np.cosh(eta)) ** 2 + np.clip(mass, 0, None) ** 2)
            p4 = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), e], axis=1)
            if puppi:
                weight = mine.puppiWeight.to_numpy().astype(float)
                p4, mine = (p4 * weight[:, None])[weight > 0], mine[weight > 0]
            found.append((event, number, p4, mine))
    return found


@pytest.fixture(scope="module")
def events() -> Events:
    return make_events()


@pytest.fixture(scope="module")
def file(events: Events, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baskets of seven events."""
    return write_events(tmp_path_factory.mktemp("nano") / "a.root", events, step=7)


@pytest.fixture(scope="module")
def jets(file: Path) -> Jets:
    return read_jets(file, columns=["jet_in_event"])


def places(jets: Jets) -> list[tuple[int, int]]:
    """(event, number in the event) of each jet."""
    return list(zip(jets.origins.entry.tolist(), jets.values["jet_in_event"].astype(int).tolist(), strict=True))


# --- what is read ---


@pytest.mark.parametrize(
    ("step", "names", "collection", "puppi"),
    [
        (EVENTS, "PFNano", "FatJet", False),
        (7, "PFNano", "FatJet", True),
        (7, "PFNano", "Jet", False),
        (EVENTS, "PFNano", "Jet", True),
        (1, "old", "FatJet", False),
        (EVENTS, "old", "Jet", True),
        (7, "new", "FatJet", False),
        (EVENTS, "new", "Jet", False),
    ],
)
def test_jets_are_the_candidates_that_the_table_joins_with_them(tmp_path, step, names, collection, puppi):
    candidates, index = NAMES[names]
    events = make_events(candidates, index)
    file = write_events(tmp_path / "a.root", events, step)
    options = ",".join(([collection] if collection != "FatJet" else []) + (["puppi"] if puppi else []))
    layout = f"nanoaod:{options}" if options else None
    charge, d0 = f"{candidates}_charge", f"{candidates}_d0"
    read = read_jets(file, layout=layout, columns=["jet_in_event", charge, d0], drop_empty=True)
    expected = [jet for jet in restated(events, collection, candidates, index, puppi) if len(jet[2])]
    assert places(read) == [jet[:2] for jet in expected]
    np.testing.assert_array_equal(read.multiplicity, [len(jet[2]) for jet in expected])
    np.testing.assert_allclose(read.p4, np.concatenate([jet[2] for jet in expected]), rtol=1e-13, atol=1e-13)
    for name, column in ((charge, "charge"), (d0, "d0")):
        np.testing.assert_array_equal(read.extras[name], np.concatenate([jet[3][column] for jet in expected]))
    assert read.labels is None and set(read.origins.files) == {str(file)}


def test_columns_have_their_branches_names(file, events):
    with open_file(Source(file)) as (layout, reader):
        assert layout.name == "nanoaod" and reader.entries == ak.sum(ak.num(events["FatJet"]))
        kinds = reader.columns
    large = {f"FatJet_{name}" for name in ("pt", "msoftdrop", "tau1")}
    assert {name for name, kind in kinds.items() if kind == "jet"} == {"jet_in_event", "run", "event", *large}
    assert {name for name, kind in kinds.items() if kind == "constituent"} == {
        *(f"PFCands_{name}" for name in events["PFCands"].fields),
        *(f"FatJetPFCands_{name}" for name in events["FatJetPFCands"].fields),
    }
    wanted = ["FatJet_msoftdrop", "event", "run", "FatJetPFCands_btagEtaRel", "PFCands_pt"]
    read = read_jets(file, columns=wanted)
    np.testing.assert_array_equal(read.values["FatJet_msoftdrop"], ak.flatten(events["FatJet"].msoftdrop))
    np.testing.assert_array_equal(read.values["event"], read.origins.entry + 2.0**34)
    assert set(read.values["run"]) == {362_105}
    table = events["FatJetPFCands"]
    half = [table[e].btagEtaRel[table[e].jetIdx == k].to_numpy() for e, k, *_ in restated(events)]
    np.testing.assert_array_equal(read.extras["FatJetPFCands_btagEtaRel"], np.concatenate(half))
    np.testing.assert_allclose(read.extras["PFCands_pt"], read.constituents.pt, rtol=1e-6)
    with pytest.raises(RinoError, match=r"a\.root lacks the columns HLT_PFJet500; it has jet_in_event"):
        read_jets(file, columns="HLT_PFJet500")


def test_features_by_name_find_the_candidates_columns(file):
    made = rino.Recipe("contrastive", features=["log_pt", "charge"])
    read = read_jets(file, columns=made.columns)
    tokens = rino.tokenize(rino.hardest(read, 1000), ["all"], made, "float64")
    np.testing.assert_array_equal(tokens.features[:, 1], rino.hardest(read, 1000).extras["PFCands_charge"])


def test_any_part_of_the_jets_is_that_part_of_all(file, jets, monkeypatch):
    whole = read_jets(file, columns=["jet_in_event", "FatJet_pt", "PFCands_charge"])
    for events_at_a_time in (1, 8, 4096):
        monkeypatch.setattr("pyrino.data.nanoaod._EVENTS", events_at_a_time)
        with open_file(Source(file)) as (_, reader):
            for first in range(0, len(whole), 11):
                for last in (first + 1, min(first + 23, len(whole)), len(whole)):
                    chunk = reader.read(first, last, ["jet_in_event", "FatJet_pt", "PFCands_charge"])
                    part = whole[first:last]
                    expected = Jets(part.p4, part.offsets, extras=part.extras)
                    for name, values in part.values.items():
                        expected = expected.with_value(name, values)
                    assert chunk.jets() == expected
                    np.testing.assert_array_equal(chunk.origins.entry, part.origins.entry)
                    for name, values in (chunk.extras | chunk.values).items():
                        np.testing.assert_array_equal(values, (part.extras | dict(part.values))[name])


def test_no_more_events_are_in_memory_than_a_part_of_the_file(file, monkeypatch):
    monkeypatch.setattr("pyrino.data.nanoaod._EVENTS", 10)
    with open_file(Source(file)) as (_, reader):
        # Where baskets begin: reading from there decompresses nothing twice.
        assert reader.starts.tolist() == np.unique(reader.first_jets[np.arange(0, EVENTS, 7)]).tolist()
        read, arrays = [], reader._table.arrays

        def watched(names: Any, first: int, last: int) -> Any:
            read.append((first, last))
            return arrays(names, first, last)

        monkeypatch.setattr(reader._table, "arrays", watched)
        reader.read(0, reader.entries)
    assert all(a == b for (_, a), (b, _) in itertools.pairwise(read)) and len(read) == 6
    assert all(last - first <= 10 and first % 7 in (0, read[0][0]) for first, last in read)


def test_a_stream_gives_every_jet_once(file, jets):
    with rino.open_dataset(file, window=16, columns=["jet_in_event"]) as dataset:
        assert len(dataset) == len(jets)
        for _ in range(2):
            seen = Jets.concatenate(list(dataset.batches(10)))
            order = np.lexsort((seen.values["jet_in_event"], seen.origins.entry))
            assert seen[order] == jets and places(seen) != places(jets)


def test_the_event_stays_with_its_jets(file, jets, tmp_path):
    cut = read_jets(file, columns=["jet_in_event"], pt=(20, 150), hardest=3)
    known = dict(zip(places(jets), jets.pt, strict=True))
    assert 10 < len(cut) < len(jets) and all(20 <= known[place] < 150 for place in places(cut))
    rino.pack(file, tmp_path / "a.arrow", columns=["jet_in_event", "FatJet_pt"], progress=False)
    packed = read_jets(tmp_path / "a.arrow", columns=["jet_in_event"])
    assert places(packed) == places(jets) and packed.origins.names.tolist() == jets.origins.names.tolist()
    (view,) = rino.ViewGenerator([2])(jets)
    assert view.origins.entry.tolist() == jets.origins.entry.tolist()


def test_a_fraction_takes_whole_events(file, jets):
    taken = {place[0] for place in places(read_jets(file, columns=["jet_in_event"], fraction=0.5, seed=2))}
    assert places(read_jets(file, columns=["jet_in_event"], fraction=0.5, seed=2)) == [
        place for place in places(jets) if place[0] in taken
    ]
    assert 3 < len(taken) < len(set(jets.origins.entry)) < len(jets)


# --- what can be wrong ---


def test_jets_without_candidates_are_named_and_left_out_on_request(tmp_path, events, jets):
    event = int(jets.origins.entry[5])
    table = events["FatJetPFCands"]
    bare = events | {"FatJetPFCands": table[(np.arange(EVENTS) != event) | (table.jetIdx != 0)]}
    file = write_events(tmp_path / "a.root", bare)
    first = places(jets).index((event, 0))
    with pytest.raises(RinoError, match=f"a.root: jet {first} has no constituents: .*drop_empty=True"):
        read_jets(file)
    kept = read_jets(file, drop_empty=True, columns="jet_in_event")
    assert kept == jets[np.arange(len(jets)) != first]


@pytest.mark.parametrize("value", [-1, 1000])
@pytest.mark.parametrize("column", ["jetIdx", "pFCandsIdx"])
def test_numbers_out_of_range_are_named_and_cost_no_other_event(tmp_path, events, jets, column, value):
    event = int(jets.origins.entry[-4])
    table = events["FatJetPFCands"]
    flat = table[column].layout.content.to_packed().data.copy()
    flat[int(ak.sum(ak.num(table)[:event])) + 2] = value
    broken = ak.with_field(table, ak.unflatten(flat, ak.num(table)), column)
    file = write_events(tmp_path / "a.root", events | {"FatJetPFCands": broken}, step=7)
    what, collection = ("jets", "FatJet") if column == "jetIdx" else ("candidates", "PFCands")
    words = (
        rf"a\.root: FatJetPFCands_{column} is {value} in event {event} \(jet \d+ of the file\), which has "
        rf"{len(events[collection][event])} {what}"
    )
    with pytest.raises(RinoError, match=words):
        read_jets(file)
    # A jet's number that there is not may have been any of its event.
    jet = int(table[event].jetIdx[2])
    lost = {place for place in places(jets) if place[0] == event and (column == "jetIdx" or place[1] == jet)}
    with pytest.warns(RinoWarning, match=f"{len(lost)} broken jet"):
        left = read_jets(file, on_error="skip", columns="jet_in_event")
    assert left == jets[[place not in lost for place in places(jets)]]


def test_many_numbers_out_of_range_are_read_around_at_once(tmp_path, events, jets, monkeypatch):
    """And each jet is broken for its own reason, a part of a file's as all of it."""
    table = events["FatJetPFCands"]
    number, counts = ak.to_numpy(ak.flatten(table.pFCandsIdx)).copy(), ak.num(table)
    number[::11] = 999
    broken = ak.with_field(table, ak.unflatten(number, counts), "pFCandsIdx")
    jet = ak.to_numpy(ak.flatten(table.jetIdx)).copy()
    late = int(ak.sum(counts[:30]))
    jet[late::40] = -1
    broken = ak.with_field(broken, ak.unflatten(jet, counts), "jetIdx")
    file = write_events(tmp_path / "a.root", events | {"FatJetPFCands": broken}, step=7)
    wrong = {
        (event, int(pick))
        for event in range(EVENTS)
        for pick, index in zip(broken[event].jetIdx, broken[event].pFCandsIdx, strict=True)
        if index == 999
    }
    lost = {event for event in range(EVENTS) if ak.any(broken[event].jetIdx < 0)}
    kept = [place not in wrong and place[0] not in lost for place in places(jets)]
    assert 5 < sum(kept) < len(kept) - 5
    reads = []
    read = nanoaod._Reader._read
    monkeypatch.setattr(nanoaod._Reader, "_read", lambda self, *a: reads.append(a) or read(self, *a))
    with pytest.warns(RinoWarning, match=f"{len(kept) - sum(kept)} broken jets"):
        assert read_jets(file, on_error="skip", columns="jet_in_event") == jets[kept]
    assert len(reads) == 1
    with open_file(Source(file)) as (_, reader):
        whole = reader.read(0, reader.entries).broken
        assert sorted(whole) == np.flatnonzero(~np.array(kept)).tolist()
        assert all(f"(jet {n} of the file)" in why for n, why in whole.items())
        for first in range(0, reader.entries, 5):
            part = reader.read(first, min(first + 5, reader.entries)).broken
            assert {first + n: why for n, why in part.items()} == {n: whole[n] for n in whole if 0 <= n - first < 5}


@pytest.mark.parametrize(
    ("mass", "bad"), [(-2e-3, False), (-4.9e-3, False), (-0.006, True), (-0.14, True), (np.nan, True)]
)
def test_masses_below_0_are_rounding_or_named(tmp_path, events, jets, mass, bad):
    event, number = places(jets)[4]
    table = events["FatJetPFCands"][event]
    picked = int(table.pFCandsIdx[table.jetIdx == number][1])
    masses = events["PFCands"].mass
    flat = ak.to_numpy(ak.flatten(masses)).copy()
    flat[int(ak.sum(ak.num(masses)[:event])) + picked] = mass
    changed = ak.with_field(events["PFCands"], ak.unflatten(flat, ak.num(masses)), "mass")
    file = write_events(tmp_path / "a.root", events | {"PFCands": changed})
    if not bad:
        assert read_jets(file).n_constituents == jets.n_constituents
        return
    words = "is not finite" if np.isnan(mass) else rf"has the mass = {mass:g} GeV; it must be -0.005 or more"
    with pytest.raises(RinoError, match=rf"a\.root: constituent \d of jet \d+ {words}"):
        read_jets(file)
    with pytest.warns(RinoWarning, match="broken jet"):
        assert len(read_jets(file, on_error="skip")) < len(jets)


def test_files_without_what_joins_jets_and_candidates_say_so(tmp_path, events):
    def refused(words: str, layout: str | None = None, **changes: Any) -> None:
        changed = {name: values for name, values in (events | changes).items() if values is not None}
        with pytest.raises(RinoError, match=words):
            read_jets(write_events(tmp_path / "a.root", changed), layout=layout)

    refused(
        r"lacks the branches PFCands_pt, .*, FatJetPFCands_jetIdx, .* where PFNano's tables were asked for$",
        PFCands=None, FatJetPFCands=None, JetPFCands=None,
    )  # fmt: skip
    refused(
        r"lacks the branches FatJetPFCands_jetIdx, FatJetPFCands_pFCandsIdx, which join FatJet .*; it has them of Jet: "
        r"layout='nanoaod:Jet'",
        FatJetPFCands=None,
    )
    refused(r"SubJetPFCands_jetIdx, .*; it has them of FatJet, Jet: layout='nanoaod:FatJet'", "nanoaod:SubJet")
    unweighted = events["PFCands"][["pt", "eta", "phi", "mass"]]
    refused(r"lacks the branches PFCands_puppiWeight", "nanoaod:puppi", PFCands=unweighted)
    assert len(read_jets(tmp_path / "a.root", layout="nanoaod")) > 0
    for options in ("Jet,FatJet", "", "puppi,", "a b", "Jet;puppi"):
        with pytest.raises(RinoError, match=rf"'{options}' is no option of the layout 'nanoaod': give the jets' name"):
            read_jets(tmp_path / "a.root", layout=f"nanoaod:{options}")


def test_branches_of_one_table_must_be_equally_long(tmp_path, events):
    columns = {f"PFCands_{name}": events["PFCands"][name] for name in events["PFCands"].fields}
    columns["PFCands_eta"] = columns["PFCands_eta"][:, 1:]
    columns["PFCands_d0"] = columns["PFCands_d0"][:, :-1]
    others = {name: values for name, values in events.items() if name != "PFCands"}
    file = write_events(tmp_path / "a.root", others | columns)
    with pytest.raises(RinoError, match=r"a\.root: PFCands_eta is not as long as the other branches of its table"):
        read_jets(file)


def test_files_without_jets_are_no_error_beside_others(tmp_path, events, file, jets):
    none = {name: values[:0] for name, values in events.items()}
    bare = {name: values[17:19] for name, values in events.items()}
    empty = [write_events(tmp_path / "none.root", none), write_events(tmp_path / "bare.root", bare)]
    for path in empty:
        with pytest.raises(RinoError, match=r"no jet is left: .* 1 file without jets"):
            read_jets(path)
    assert read_jets([*empty, file], columns="jet_in_event") == jets


@pytest.mark.parametrize("layout", [None, "nanoaod:puppi", "nanoaod:Jet"])
def test_an_rntuple_is_read_as_the_tree_is(tmp_path, events, file, layout):
    flat: dict[str, Any] = {}
    for name, values in events.items():
        fields = values.fields if isinstance(values, ak.Array) else ()
        flat |= {f"{name}_{field}": values[field] for field in fields} or {name: values}
    with uproot.recreate(tmp_path / "r.root") as root:
        root.mkrntuple("Events", {name: values[:11] for name, values in flat.items()}).extend(
            {name: values[11:] for name, values in flat.items()}
        )
    wanted = ["run", "jet_in_event", f"{'Jet' if layout == 'nanoaod:Jet' else 'FatJet'}_pt", "PFCands_charge"]
    tuple_, tree = (
        read_jets(path, layout=layout, columns=wanted, drop_empty=True) for path in (tmp_path / "r.root", file)
    )
    assert tuple_ == tree and tuple_.origins.entry.tolist() == tree.origins.entry.tolist()
    with open_dataset(tmp_path / "r.root", layout=layout, window=16, drop_empty=True) as dataset:
        assert sorted(dataset.take(len(tree)).origins.entry) == tree.origins.entry.tolist()


def test_other_trees_called_events_are_of_no_known_layout(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as root:
        root.mktree("Events", {"Muon_pt": "var * float32"}).extend({"Muon_pt": ak.Array([[1.0, 2.0]])})
    with pytest.raises(RinoError, match=r"a\.root is ROOT of no known layout: it has the keys Events"):
        read_jets(tmp_path / "a.root")


# --- commands and outputs ---


def test_embeddings_say_which_jet_of_which_event(file, jets, events, tmp_path):
    encoder = JetEncoder(tiny(), seed=1)
    z = encoder.embed(jets)
    embed_files(encoder, file, tmp_path / "z.parquet", pt=(20, None), progress=False)
    table = pq.read_table(tmp_path / "z.parquet")
    assert table.column_names == ["file", "entry", "jet_in_event", "label", "embedding"]
    taken = jets.pt >= 20
    assert list(zip(table["entry"].to_pylist(), table["jet_in_event"].to_pylist(), strict=True)) == places(jets[taken])
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), z[taken], rtol=0, atol=1e-5)
    # The friend has a row for every jet, so that it is the flattened collection's.
    embed_files(encoder, file, tmp_path / "z.root", pt=(20, None), progress=False)
    with uproot.open(tmp_path / "z.root") as root:
        friend = root["rino"].arrays()
    assert len(friend) == len(ak.flatten(events["FatJet"]))
    assert list(zip(friend.entry.tolist(), friend.jet_in_event.tolist(), strict=True)) == places(jets)
    assert friend.valid.tolist() == taken.tolist()
    np.testing.assert_allclose(friend.embedding[taken].to_numpy(), z[taken], rtol=0, atol=1e-5)
    assert np.isnan(friend.embedding[~taken].to_numpy()).all()
    # Packed with the number in the event, its embeddings have it, too.
    rino.pack(file, tmp_path / "a.arrow", columns="jet_in_event", progress=False)
    embed_files(encoder, tmp_path / "a.arrow", tmp_path / "y.parquet", progress=False)
    again = pq.read_table(tmp_path / "y.parquet")
    assert list(zip(again["entry"].to_pylist(), again["jet_in_event"].to_pylist(), strict=True)) == places(jets)


def test_a_cache_says_which_jet_of_which_event(file, jets, tmp_path):
    rino.pack(file, tmp_path / "a.arrow", progress=False)
    assert places(read_jets(tmp_path / "a.arrow", columns="jet_in_event")) == places(jets)
    rino.pack(tmp_path / "a.arrow", tmp_path / "b.arrow", pt=(20, None), progress=False)
    encoder = JetEncoder(tiny(), seed=1)
    for source, cuts in ((file, {"pt": (20, None)}), (tmp_path / "b.arrow", {})):
        embed_files(encoder, source, tmp_path / f"{Path(source).stem}.parquet", progress=False, **cuts)
    direct, cached = (pq.read_table(tmp_path / f"{stem}.parquet").to_pylist() for stem in "ab")
    keys = [[(row["file"], row["entry"], row["jet_in_event"]) for row in rows] for rows in (direct, cached)]
    assert keys[0] == keys[1] and len(set(keys[0])) == len(keys[0]) < len(jets)


def test_a_cache_of_both_kinds_has_jet_0_where_an_entry_is_a_jet(file, jets, tmp_path):
    toy = rino.toy_jets(6, 1)
    other = write_parquet(
        tmp_path / "z.parquet", columns_of(toy.with_extra("part_charge", np.zeros(toy.n_constituents)))
    )
    rino.pack([file, other], tmp_path / "a.arrow", progress=False, labelled=False)
    read = read_jets(tmp_path / "a.arrow", columns="jet_in_event")
    assert read.values["jet_in_event"].tolist() == [*jets.values["jet_in_event"].tolist(), *[0] * 6]
    with pytest.raises(RinoError, match=r"a\.root has several jets an entry, unlike the files before: name it first"):
        rino.pack([other, file], tmp_path / "b.arrow", progress=False, labelled=False)


def test_files_with_one_and_with_several_jets_an_entry_are_not_written_into_one(file, tmp_path):
    toy = rino.toy_jets(10, 1).with_extra("part_charge", np.zeros(rino.toy_jets(10, 1).n_constituents))
    one = write_parquet(tmp_path / "b.parquet", columns_of(toy.with_labels(8 * toy.labels)))
    for paths, words in (([file, one], r"b\.parquet has one jet an entry"), ([one, file], r"a\.root has several jets")):
        with pytest.raises(RinoError, match=words):
            embed_files(JetEncoder(tiny()), paths, tmp_path / "z.parquet", progress=False)
        assert not (tmp_path / "z.parquet").exists()


def test_commands_take_such_files(file, jets, tmp_path, capsys):
    assert main(["info", str(file), "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert (group["layout"], group["jets"], group["broken"]["jets"]) == ("nanoaod", len(jets), 0)
    assert group["columns"]["FatJet_msoftdrop"] == "jet" and group["columns"]["PFCands_charge"] == "constituent"
    assert main(["info", str(file), "--layout", "nanoaod:Jet,puppi", "--drop-empty"]) == 0
    assert "nanoaod:Jet,puppi (CMS NanoAOD" in capsys.readouterr().out
    assert main(["compare", str(file), str(file), "--layout", "nanoaod"]) == 0
    assert main(["pack", str(file), "--out", str(tmp_path / "a.arrow"), "--layout", "nanoaod:Jet"]) == 0
    assert len(read_jets(tmp_path / "a.arrow")) == len(read_jets(file, layout="nanoaod:Jet")) != len(jets)
