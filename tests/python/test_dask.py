"""Embeddings and probabilities of awkward arrays and dask's collections: those of `Jets`, in the array's structure."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import awkward as ak
import cloudpickle
import dask
import dask_awkward as dak
import numpy as np
import pytest
import torch
import uproot
import vector
from conftest import ROOT
from distributed import Client, LocalCluster
from helpers import small_jets

import pyrino as rino
from pyrino import JetEncoder, Jets, RinoError, Tagger, inference

MOMENTA = {"px", "py", "pz", "E"}
#: Jets of seven events, 60 in all.
EVENTS = [3, 0, 11, 7, 0, 39, 0]
#: Partitions of the events; one has none, one has events without jets only.
PARTITIONS = (0, 1, 1, 3, 4, 5, 7)


@pytest.fixture(scope="module")
def encoder() -> JetEncoder:
    return JetEncoder.preset("nano", seed=1)


@pytest.fixture(scope="module")
def tagger(encoder: JetEncoder) -> Tagger:
    return Tagger(encoder, "mlp", seed=2)


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(60)


@pytest.fixture(scope="module")
def events(jets: Jets) -> ak.Array:
    """7 events x var jets x var constituents, with columns that no network wants."""
    flat = jets.to_awkward()
    flat = ak.with_field(ak.with_field(flat, flat.px > 0, "charge"), flat.E, "dxy")
    return ak.unflatten(flat, EVENTS)


@pytest.fixture(scope="module")
def lazy(events: ak.Array, tmp_path_factory: pytest.TempPathFactory) -> dak.Array:
    folder = tmp_path_factory.mktemp("events")
    crowd = ak.unflatten(ak.flatten(events), [60])  # an event that is cut: dask-awkward reads no empty files
    for number, (first, last) in enumerate(itertools.pairwise(PARTITIONS)):
        ak.to_parquet(ak.concatenate([crowd, events[first:last]]), folder / f"{number}.parquet")
    read = dak.from_parquet(str(folder / "*.parquet"))
    return read[ak.num(read.px, axis=1) < 60]


@pytest.fixture(scope="module")
def saved(encoder: JetEncoder, tagger: Tagger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both."""
    folder = tmp_path_factory.mktemp("models")
    encoder.save(folder / "encoder.safetensors")
    tagger.save(folder / "tagger.safetensors")
    return folder


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two processes of two threads each."""
    quiet = {"dashboard_address": ":0", "silence_logs": 50}
    with LocalCluster(n_workers=2, threads_per_worker=2, **quiet) as cluster, Client(cluster) as client:
        yield client


def flat(array: ak.Array) -> np.ndarray:
    """The values of all jets."""
    return ak.to_numpy(ak.flatten(array, axis=1))


# --- awkward arrays, here ---


def test_an_awkward_array_gives_what_its_jets_give(encoder, tagger, jets):
    z = rino.embed(encoder, jets.to_awkward())
    assert str(z.type) == "60 * 32 * float32"
    np.testing.assert_array_equal(ak.to_numpy(z), encoder.embed(jets))
    np.testing.assert_array_equal(rino.embed(encoder, jets), encoder.embed(jets))
    p = tagger.predict(jets.to_awkward())
    assert str(p.type) == "60 * float64"
    np.testing.assert_array_equal(ak.to_numpy(p), tagger.predict(jets))
    double = rino.embed(JetEncoder.preset("nano", seed=1).double(), jets.to_awkward(), resolution=2)
    assert str(double.type) == "60 * 32 * float64"


def test_events_keep_their_jets(encoder, tagger, jets, events):
    z, p = rino.embed(encoder, events, batch_size=7), rino.predict(tagger, events)
    assert str(z.type) == "7 * var * 32 * float32" and str(p.type) == "7 * var * float64"
    assert ak.num(z).tolist() == ak.num(p).tolist() == EVENTS
    np.testing.assert_array_equal(flat(z), encoder.embed(jets))
    np.testing.assert_array_equal(flat(p), tagger.predict(jets))
    for none in (events[:0], events[1:2]):
        assert str(rino.embed(encoder, none).type) == f"{len(none)} * var * 32 * float32"
    hemispheres = ak.unflatten(events, [2, 2, 2, 1])
    np.testing.assert_array_equal(flat(ak.flatten(rino.embed(encoder, hemispheres))), encoder.embed(jets))


def test_jets_that_were_cut_do_not_count_and_missing_ones_stay_missing(encoder, jets, events):
    many = ak.num(events.px, axis=2) > 12
    expected = encoder.embed(jets)[jets.multiplicity > 12]
    assert 10 < len(expected) < 50
    kept = rino.embed(encoder, events[many])
    assert ak.num(kept).tolist() == ak.sum(many, axis=1).tolist()
    np.testing.assert_array_equal(flat(kept), expected)
    masked = rino.embed(encoder, ak.mask(events, many))
    assert ak.is_none(masked, axis=1).tolist() == (~many).tolist()
    np.testing.assert_array_equal(flat(ak.drop_none(masked, axis=1)), expected)
    leading = rino.embed(encoder, ak.firsts(events))
    assert ak.is_none(leading).tolist() == [n == 0 for n in EVENTS]
    np.testing.assert_array_equal(ak.to_numpy(ak.drop_none(leading)), encoder.embed(jets)[[0, 3, 14, 21]])


def test_momenta_of_the_vector_library_and_of_coffea_in_other_coordinates(encoder, jets):
    p4 = jets.to_awkward()
    pt = np.hypot(p4.px, p4.py)
    mass = np.sqrt(np.maximum(p4.E**2 - pt**2 - p4.pz**2, 0))
    polar = {"pt": pt, "eta": np.arcsinh(p4.pz / pt), "phi": np.arctan2(p4.py, p4.px), "mass": mass}
    cartesian = {"px": p4.px, "py": p4.py, "pz": p4.pz, "E": p4.E}
    expected = encoder.embed(jets)
    for array in (
        vector.zip(cartesian),  # x, y, z, t of a Momentum4D
        vector.zip(polar),  # rho, phi, eta, tau
        ak.zip(polar, with_name="PtEtaPhiMCandidate"),  # coffea's NanoEvents
        ak.zip(dict(zip("xyzt", cartesian.values(), strict=True)), with_name="LorentzVector"),
    ):
        np.testing.assert_allclose(ak.to_numpy(rino.embed(encoder, array)), expected, rtol=0, atol=1e-5)
    position = ak.zip(dict(zip("xyzt", cartesian.values(), strict=True)), with_name="Vector4D")
    with pytest.raises(RinoError, match=r"the array has the fields \['x', 'y', 'z', 't'\] and has none of px and py"):
        rino.embed(encoder, position)


def test_only_the_momenta_of_virtual_arrays_are_read(encoder, jets, events):
    form, length, buffers = ak.to_buffers(ak.to_packed(events))
    read = []
    virtual = {name: functools.partial(lambda n: read.append(n) or buffers[n], name) for name in buffers}
    z = rino.embed(encoder, ak.from_buffers(form, length, virtual))
    np.testing.assert_array_equal(flat(z), encoder.embed(jets))
    keys = {node["form_key"]: name for name, node in record_of(form.to_dict()).items()}
    assert {keys[name.rsplit("-", 1)[0]] for name in read if name.rsplit("-", 1)[0] in keys} == MOMENTA


def record_of(form: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields of the record inside."""
    while "fields" not in form:
        form = form["content"]
    return dict(zip(form["fields"], form["contents"], strict=True))


def test_jets_without_constituents_are_an_error_or_nan(encoder, tagger, jets, events):
    hard = events[events.px > 40]
    left = ak.flatten(ak.num(hard.px, axis=2)).to_numpy()
    first = int(np.argmin(left))
    assert left[first] == 0 and left.max() > 0
    with pytest.raises(RinoError, match=f"jet {first} of 60 has no constituents: leave such jets out, or give empty"):
        rino.embed(encoder, hard)
    z, p = flat(rino.embed(encoder, hard, empty="nan")), flat(rino.predict(tagger, hard, empty="nan"))
    some = Jets.from_awkward(ak.flatten(hard)[left > 0][["px", "py", "pz", "E"]])
    np.testing.assert_array_equal(z[left > 0], encoder.embed(some))
    np.testing.assert_array_equal(p[left > 0], tagger.predict(some))
    assert np.isnan(z[left == 0]).all() and np.isnan(p[left == 0]).all()
    np.testing.assert_array_equal(rino.embed(encoder, jets, empty="nan"), encoder.embed(jets))


def test_what_is_no_jets_is_refused(encoder, tagger, events, tmp_path):
    flat_events = ak.flatten(events)
    for array, message in (
        (events.px, "of type 7 .* give jets x var x records .* which ak.zip makes of columns"),
        (events[0, 0], "give jets x var x records"),
        (ak.zip({"px": flat_events.px}, depth_limit=1), "give jets x var x records"),
        (events[["px", "py", "pz"]], "has none of E or e or energy or mass"),
        (ak.with_field(events, events.E, "energy"), "has more than one of E or e or energy"),
        (
            ak.with_field(events, ak.mask(events.px, events.px > 0), "px"),
            r"the field 'px' is of type .*\?float64 and None for constituent \d+ of jet \d+, .*none missing",
        ),
        ([1, 2], "the jets are of type list: give pyrino.Jets, a stream, an awkward array"),
    ):
        with pytest.raises(RinoError, match=message):
            rino.embed(encoder, array)
    with pytest.raises(RinoError, match="choose 'raise' or 'nan'"):
        rino.embed(encoder, events, empty="skip")
    with pytest.raises(RinoError, match=r"a Tagger does not embed: give a pyrino\.Encoder or the path of one"):
        rino.embed(tagger, events)
    with pytest.raises(RinoError, match=r"there are no weights at .*absent"):
        rino.predict(tmp_path / "absent", events)


# --- models by path, bits, threads ---


def test_a_path_is_read_once_and_again_when_the_file_changes(encoder, tagger, jets, saved, tmp_path, monkeypatch):
    file = tmp_path / "encoder.safetensors"
    encoder.save(file)
    loads = []
    load = rino.Encoder.load.__func__
    monkeypatch.setattr(rino.Encoder, "load", classmethod(lambda cls, path: loads.append(path) or load(cls, path)))
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(4) as threads:
        for z in threads.map(lambda path: rino.embed(path, jets), [file, str(file), "encoder.safetensors", file]):
            np.testing.assert_array_equal(z, encoder.embed(jets))
    assert len(loads) == 1
    other = JetEncoder.preset("nano", seed=9)
    other.save(file)
    for path in (file, tmp_path):
        np.testing.assert_array_equal(rino.embed(path, jets), other.embed(jets))
    np.testing.assert_array_equal(rino.predict(saved, jets), tagger.predict(jets))


@pytest.mark.parametrize(("preset", "bound"), [("nano", 0.0), ("rino", 4e-6)])
def test_the_jets_beside_a_jet_change_nothing(preset, bound, jets):
    """No bit where our kernels compute everything. The production recipes' tokens are embedded by a product of the
    processor's own library, whose rounding may depend on the number of rows: their bound is for embeddings of mean
    square 1."""
    encoder = JetEncoder.preset(preset, seed=1)
    z = encoder.embed(jets)
    taggers = [Tagger(encoder, head, seed=2) for head in ("linear", "mlp")]
    p = [tagger.predict(jets) for tagger in taggers]
    for size in (1, 7, 32):
        parts = [jets[i : i + size] for i in range(0, 60, size)]
        np.testing.assert_allclose(np.concatenate([encoder.embed(part) for part in parts]), z, rtol=0, atol=bound)
        for tagger, whole in zip(taggers, p, strict=True):
            found = np.concatenate([tagger.predict(part) for part in parts])
            np.testing.assert_allclose(found, whole, rtol=0, atol=bound)


class Watched:
    """A C++ module that is slow to change, and knows whether it was used meanwhile."""

    def __init__(self, core: Any) -> None:
        self.core = core
        self.changes, self.changing, self.clashes = 0, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def rebind(self, tensors: Any) -> None:
        self.changes += 1
        self.changing += 1
        time.sleep(0.02)
        self.core.rebind(tensors)
        self.changing -= 1

    def embed_batch(self, *arguments: Any) -> Any:
        self.clashes += self.changing
        found = self.core.embed_batch(*arguments)
        self.clashes += self.changing
        return found


def test_threads_share_an_encoder(jets):
    encoder = JetEncoder.preset("nano", seed=1)
    expected = JetEncoder.preset("nano", seed=1).embed(jets)
    side = encoder._side(training=False)
    watched = side.core = Watched(side.core)
    start = threading.Barrier(4)

    def work(_: int) -> list[np.ndarray]:
        start.wait()
        return [encoder.embed(jets[first:]) for first in range(10)]

    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(work, range(4)):
            for first, z in enumerate(found):
                np.testing.assert_array_equal(z, expected[first:])
    assert (watched.changes, watched.clashes) == (1, 0)


def test_threads_share_a_tagger_that_is_being_trained(encoder, jets):
    tagger = Tagger(encoder, "mlp", seed=2)
    expected = tagger.eval().predict(jets)
    tagger.train()
    with ThreadPoolExecutor(4) as threads:
        for p in threads.map(lambda _: tagger.predict(jets), range(40)):
            np.testing.assert_array_equal(p, expected)
    assert all(module.training for module in tagger.modules())


# --- dask, without a cluster ---


def test_a_collection_is_computed_lazily_and_only_momenta_are_read(encoder, tagger, lazy, jets, monkeypatch):
    sizes = []
    embed = JetEncoder.embed
    monkeypatch.setattr(JetEncoder, "embed", lambda self, j, **k: sizes.append(len(j)) or embed(self, j, **k))
    z, p = rino.embed(encoder, lazy), tagger.predict(lazy)
    assert isinstance(z, dak.Array) and z.npartitions == lazy.npartitions
    assert str(z._meta.type) == "## * var * 32 * float32" and str(p._meta.type) == "## * var * float64"
    # As the leading jet's and with a cut of an analysis, everything lazy.
    leading = rino.embed(encoder, ak.firsts(lazy[ak.num(lazy.px, axis=1) > 0]))
    for result in (z, p, leading):
        (columns,) = dak.report_necessary_columns(result).values()
        assert {name.rsplit(".", 1)[-1] for name in columns} == MOMENTA
    assert set(sizes) == {0}  # types alone were asked for
    with dask.config.set(scheduler="threads", num_workers=4):
        computed, probabilities, first = dask.compute(z, p, leading)
    assert str(computed.type) == "7 * var * 32 * float32" and ak.num(computed).tolist() == EVENTS
    np.testing.assert_array_equal(flat(computed), embed(encoder, jets))
    np.testing.assert_array_equal(flat(probabilities), tagger.predict(jets))
    np.testing.assert_array_equal(
        flat(rino.predict(tagger, lazy, prior=0.2).compute()), tagger.predict(jets, prior=0.2)
    )
    np.testing.assert_array_equal(flat(tagger.predict(lazy, prior=0.2).compute()), tagger.predict(jets, prior=0.2))
    with pytest.raises(RinoError, match="prior is 2"):
        tagger.predict(lazy, prior=2)
    np.testing.assert_array_equal(ak.to_numpy(first), embed(encoder, jets)[[0, 3, 14, 21]])


def test_a_collection_is_of_the_encoder_as_it_was(jets, lazy):
    encoder = JetEncoder.preset("nano", seed=3)
    before, z = encoder.embed(jets), rino.embed(encoder, lazy)
    assert rino.embed(encoder, lazy).name == z.name != rino.embed(encoder, lazy, resolution=2).name
    with torch.no_grad():
        encoder.norm.weight.mul_(2)
    assert rino.embed(encoder, lazy).name != z.name
    np.testing.assert_array_equal(flat(z.compute()), before)
    np.testing.assert_array_equal(flat(rino.embed(encoder, lazy).compute()), encoder.embed(jets))


def test_weights_that_are_exchanged_before_the_computation_are_an_error(encoder, lazy, tmp_path):
    file = tmp_path / "encoder.safetensors"
    encoder.save(file)
    z = rino.embed(file, lazy)
    JetEncoder.preset("nano", seed=9).save(file)
    with pytest.raises(RinoError, match="are not those any more that the computation was made for"):
        z.compute()


def made(seed: int) -> ak.Array:
    """A partition that is no data of the graph."""
    return small_jets(3, seed=seed).to_awkward()


def test_the_graph_has_the_weights_once_or_not_at_all(tagger, saved):
    many = dak.from_map(made, range(50))
    weights = sum(parameter.nbytes for parameter in tagger.parameters())
    for model, most in ((tagger, weights + 70_000), (saved, 20_000)):
        tasks = dict(dask.optimize(rino.predict(model, many))[0].__dask_graph__())
        partitions = [task for key, task in tasks.items() if isinstance(key, tuple)]
        assert len(partitions) == 50 and max(len(cloudpickle.dumps(task)) for task in partitions) < 5_000
        assert len(cloudpickle.dumps(tasks)) < most


def test_other_collections_and_a_missing_dask_awkward_say_what_to_do(encoder, lazy, jets, monkeypatch):
    with pytest.raises(RinoError, match=r"the jets are a Delayed.*: give .*dask\.delayed\(pyrino\.embed\)"):
        rino.embed(encoder, dask.delayed(jets))
    with monkeypatch.context() as patch:
        patch.setattr(dak, "__version__", "2025.3.0")
        patch.setattr(dask, "__version__", "2026.8.0")
        with pytest.raises(RinoError, match=r"2025\.3\.0 does not work with dask 2026\.8\.0: pip install 'pyrino\[da"):
            rino.embed(encoder, lazy)
    monkeypatch.setitem(sys.modules, "dask_awkward", None)
    with pytest.raises(RinoError, match=r"need dask-awkward .*: pip install 'pyrino\[dask\]'"):
        rino.embed(encoder, lazy)
    np.testing.assert_array_equal(ak.to_numpy(rino.embed(encoder, jets.to_awkward())), encoder.embed(jets))


# --- a cluster of two processes ---


def test_a_cluster_gives_the_bits_of_this_process(client, encoder, tagger, saved, jets, events, lazy):
    assert lazy.npartitions == len(PARTITIONS) - 1
    for z in (rino.embed(encoder, lazy), rino.embed(saved, lazy), rino.embed(encoder, lazy, threads=2)):
        found = z.compute()
        assert str(found.type) == "7 * var * 32 * float32" and ak.num(found).tolist() == EVENTS
        np.testing.assert_array_equal(flat(found), encoder.embed(jets))
        np.testing.assert_array_equal(flat(z.partitions[2].compute()), flat(rino.embed(encoder, events[1:3])))
    for p in (tagger.predict(lazy), rino.predict(saved, lazy)):
        np.testing.assert_array_equal(flat(p.compute()), tagger.predict(jets))
    none = lazy[ak.num(lazy.px, axis=1) > 60]  # every partition is empty
    assert str(rino.embed(encoder, none).compute().type) == "0 * var * 32 * float32"


def where(jets: Jets, path: Path) -> tuple[int, np.ndarray]:
    """In which process, and what."""
    return os.getpid(), rino.embed(path, jets)


def test_functions_map_over_partitions_and_files(client, encoder, tagger, saved, jets):
    parts = [jets[i : i + 10] for i in range(0, 60, 10)]
    expected = encoder.embed(jets)
    found = client.gather(client.map(functools.partial(where, path=saved), parts))
    np.testing.assert_array_equal(np.concatenate([z for _, z in found]), expected)
    assert os.getpid() not in {process for process, _ in found}
    assert all(info.misses <= 2 for info in client.run(lambda: inference._read_once.cache_info()).values())
    # An encoder that was sent ahead, once to each worker.
    sent = client.scatter([encoder, tagger], broadcast=True, hash=False)
    z = client.gather(client.map(lambda part, encoder: rino.embed(encoder, part), parts, encoder=sent[0]))
    np.testing.assert_array_equal(np.concatenate(z), expected)
    p = client.gather(client.map(lambda part, tagger: tagger.predict(part), parts, tagger=sent[1]))
    np.testing.assert_array_equal(np.concatenate(p), tagger.predict(jets))
    back = client.gather(sent[0])
    np.testing.assert_array_equal(back.embed(jets), expected)
    shared = dask.delayed(encoder)
    z = dask.compute(*(dask.delayed(rino.embed)(shared, part.to_awkward()) for part in parts))
    np.testing.assert_array_equal(ak.to_numpy(ak.concatenate(z)), expected)


def test_pickles_hold_the_weights_and_little_else(encoder, tagger, jets):
    for model in (encoder, tagger):
        model_bytes = pickle.dumps(model)
        assert len(model_bytes) < sum(parameter.nbytes for parameter in model.parameters()) + 40_000
    encoder.embed(jets)  # what was remembered of the pass is not sent
    assert len(pickle.dumps(encoder)) < sum(parameter.nbytes for parameter in encoder.parameters()) + 40_000
    reference = pickle.loads(pickle.dumps(encoder))
    reference.kernels = "reference"
    assert pickle.loads(pickle.dumps(reference)).kernels == "reference"


def test_the_example_writes_what_this_process_says(client, encoder, tagger, saved, tmp_path, capsys):
    files = []
    for number in range(2):
        jets = small_jets(30, seed=number)
        columns = {f"part_{n}": ak.unflatten(v.astype("f4"), jets.multiplicity) for n, v in momenta_of(jets).items()}
        columns["part_charge"] = columns["part_px"]
        columns["jet_pt"] = jets.pt
        files.append(tmp_path / f"{number}.root")
        with uproot.recreate(files[-1]) as file:
            file.mktree(
                "tree", {n: "var * float32" if isinstance(c, ak.Array) else c.dtype for n, c in columns.items()}
            ).extend(columns)
        ak.to_parquet(ak.zip(columns, depth_limit=1), tmp_path / f"{number}.parquet")
    spec = importlib.util.spec_from_file_location("dask_inference", ROOT / "examples" / "dask_inference.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    read = rino.read_jets(files)
    for kind in ("root", "parquet"):
        out = tmp_path / kind
        models = ["--encoder", str(saved), "--tagger", str(saved), "--keep", "jet_pt"]
        cluster = ["--scheduler", client.scheduler.address]
        example.main([str(tmp_path / f"*.{kind}"), *models, "--out", str(out), *cluster])
        said = capsys.readouterr().out
        assert "reading jet_pt, part_energy, part_px, part_py, part_pz\n" in said and "60 jets" in said
        table = ak.from_parquet(out)
        np.testing.assert_array_equal(ak.to_numpy(table.embedding), encoder.embed(read))
        np.testing.assert_array_equal(ak.to_numpy(table.probability), tagger.predict(read))
        np.testing.assert_allclose(ak.to_numpy(table.jet_pt), read.pt, rtol=1e-5)


def momenta_of(jets: Jets) -> dict[str, np.ndarray]:
    return {"px": jets.px, "py": jets.py, "pz": jets.pz, "energy": jets.e}
