"""Labels are looked at where they are wanted, and broken jets cost themselves alone, however many there are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from helpers import small_jets, tiny
from test_broken_data import as_written
from test_readers import columns_of, jetnet_arrays, write_jetnet, write_parquet, write_root

import pyrino as rino
from pyrino import RinoError, RinoWarning, open_dataset, read_jets
from pyrino.cli import main

N = 12
JETS = small_jets(N, 3)
COLUMNS = columns_of(as_written(N, 3))
WITHOUT = {name: values for name, values in COLUMNS.items() if not name.startswith("label_")}
SOUND = np.arange(N) % 2


def one_hot(qcd: Any, top: Any) -> dict[str, Any]:
    return WITHOUT | {"label_QCD": qcd, "label_Tbqq": top}


def energyflow(path: Path, y: np.ndarray) -> Path:
    padded, mask = JETS.to_numpy()
    pt = np.hypot(padded[..., 0], padded[..., 1])
    rapidity = np.where(mask, np.arcsinh(np.divide(padded[..., 2], pt, out=np.zeros_like(pt), where=mask)), 0)
    x = np.stack([pt, rapidity, np.arctan2(padded[..., 1], padded[..., 0])], axis=2)
    np.savez(path, X=x, y=y)
    return path


def landscape(path: Path, label: Any) -> Path:
    padded, _ = JETS.to_numpy()
    order = [3, 0, 1, 2]
    names = [f"{p}_{i}" for i in range(padded.shape[1]) for p in ("E", "PX", "PY", "PZ")]
    frame = pd.DataFrame(padded[..., order].reshape(N, -1).astype(np.float32), columns=names)
    frame.assign(is_signal_new=label).to_hdf(path, key="table", format="table")
    return path


def rs3l(path: Path, types: np.ndarray) -> Path:
    padded, _ = JETS.to_numpy()
    pt = np.hypot(padded[..., 0], padded[..., 1])
    candidates, jets = np.zeros((N, 5, 11, padded.shape[1])), np.zeros((N, 5, 13))
    jets[..., 9:13] = np.stack([JETS.pt, JETS.eta, JETS.phi, JETS.four_momenta[:, 3]], axis=1)[:, None]
    jets[..., 0] = types[:, None]
    with np.errstate(all="ignore"):
        eta, phi = np.arcsinh(padded[..., 2] / pt), np.arctan2(padded[..., 1], padded[..., 0])
        dphi = np.remainder(phi - JETS.phi[:, None] + np.pi, 2 * np.pi) - np.pi
        rows = [pt, pt / JETS.pt[:, None], eta, phi, np.hypot(eta - JETS.eta[:, None], dphi)]
        rows += [padded[..., 3], padded[..., 3] / JETS.four_momenta[:, 3:]]
    for i, row in enumerate(rows):
        candidates[:, :, i] = np.where(pt > 0, row, 0)[:, None]
    with h5py.File(path, "w") as file:
        file["singletons"], file["jet_pflow_cands"] = jets, candidates
    return path


def partly(good: np.ndarray, bad: Any, kind: Any = None) -> np.ndarray:
    """`good`, with `bad` for jets 3 and 7."""
    values = good.astype(kind or object)
    values[[3, 7]] = bad
    return values


NONE = np.zeros(N, dtype=int)

#: Files of which jets 3 and 7 have no label, or none has: name -> (write, class numbers or None, what is said of one).
UNLABELLED: dict[str, tuple[Callable[[Path], Path], np.ndarray | None, str]] = {
    "one-hot of zeros": (lambda d: write_parquet(d / "a.parquet", one_hot(NONE, NONE)), None, "has the labels"),
    "one-hot of zeros in ROOT": (lambda d: write_root(d / "a.root", one_hot(NONE, NONE)), None, "has the labels"),
    "two hot": (
        lambda d: write_parquet(d / "a.parquet", one_hot(partly(1 - SOUND, 1, int), partly(SOUND, 1, int))),
        8 * SOUND,
        r"has the labels .*exactly one of them must be 1",
    ),
    "one-hot with null": (
        lambda d: write_parquet(d / "a.parquet", one_hot(partly(1 - SOUND, None).tolist(), SOUND)),
        8 * SOUND,
        r"has no label_QCD \(null\)",
    ),
    "jet_label -1": (
        lambda d: write_parquet(d / "a.parquet", WITHOUT | {"jet_label": partly(SOUND, -1, int)}),
        SOUND,
        "has jet_label = -1; labels are 0, 1, 2",
    ),
    "jet_label NaN in ROOT": (
        lambda d: write_root(d / "a.root", WITHOUT | {"jet_label": partly(SOUND, np.nan, float)}),
        SOUND,
        "has jet_label = nan",
    ),
    "jet_label null": (
        lambda d: write_parquet(d / "a.parquet", WITHOUT | {"jet_label": partly(SOUND, None).tolist()}),
        SOUND,
        r"has no jet_label \(null\)",
    ),
    "jet_label text": (
        lambda d: write_parquet(d / "a.parquet", WITHOUT | {"jet_label": ["QCD"] * N}),
        None,
        "has jet_label = QCD",
    ),
    "EnergyFlow -1": (lambda d: energyflow(d / "a.npz", partly(SOUND, -1, int)), SOUND, "has y = -1; it must be 0"),
    "EnergyFlow NaN": (lambda d: energyflow(d / "a.npz", np.full(N, np.nan)), None, "has y = nan"),
    "EnergyFlow text": (lambda d: energyflow(d / "a.npz", np.array(["g", "q"] * 6)), None, "has y = [gq]"),
    "EnergyFlow one-hot": (
        lambda d: energyflow(d / "a.npz", np.eye(2)[SOUND]),
        None,
        r"has no label; y \(12, 2\) of float64 is not one number for each of the 12 jets",
    ),
    "EnergyFlow objects": (
        lambda d: energyflow(d / "a.npz", np.array([None] * N)),
        None,
        r"has no label; y cannot be read",
    ),
    "landscape -1": (
        lambda d: landscape(d / "a.h5", partly(SOUND, -1, int)),
        SOUND,
        "has is_signal_new = -1; it must be 0",
    ),
    "landscape text": (lambda d: landscape(d / "a.h5", ["QCD"] * N), None, "has is_signal_new = b?'?QCD"),
    "RS3L 0": (lambda d: rs3l(d / "a.h5", partly(SOUND + 1, 0, int)), SOUND + 1, r"has type = 0.0; RS3L's types"),
}


@pytest.fixture(params=UNLABELLED.values(), ids=UNLABELLED)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray | None, str]:
    write, numbers, said = request.param
    return write(tmp_path), numbers, said


def with_label(numbers: np.ndarray | None) -> list[int]:
    """The jets that have a label."""
    return [] if numbers is None else [j for j in range(N) if j not in (3, 7)]


def test_jets_without_labels_are_read_where_labels_are_not_wanted(case):
    file, _, _ = case
    jets = read_jets(file, labelled=False)
    assert len(jets) == N and jets.labels is None
    np.testing.assert_allclose(jets.pt, JETS.pt, rtol=1e-5)
    with open_dataset(file, labelled=False) as dataset:
        assert sorted(dataset.take(N).origins.entry) == list(range(N))


def test_where_labels_are_wanted_the_jet_without_is_named_or_skipped(case):
    file, numbers, said = case
    jet = 0 if numbers is None else 3
    with pytest.raises(RinoError, match=rf"{file.name}: jet {jet} {said}.*: leave labels out with labelled=False"):
        read_jets(file)
    with pytest.raises(RinoError, match=rf"jet \d+ {said}"), open_dataset(file) as dataset:
        dataset.take(N)
    if numbers is None:
        with pytest.warns(RinoWarning), pytest.raises(RinoError, match=f"no jet is left: .*{N} broken jets skipped"):
            read_jets(file, on_error="skip")
        return
    with pytest.warns(RinoWarning, match=rf"2 broken jets skipped, the first: .*jet 3 {said}"):
        jets = read_jets(file, on_error="skip")
    kept = with_label(numbers)
    assert jets.origins.entry.tolist() == kept and jets.labels.tolist() == numbers[kept].tolist()


def test_jets_without_labels_are_embedded_packed_drawn_described_and_compared(case, tmp_path, capsys):
    file, numbers, _ = case
    kept = with_label(numbers)
    rino.JetEncoder(tiny(), seed=1).save(tmp_path / "e.safetensors")
    out = tmp_path / "z.parquet"
    assert main(["embed", str(tmp_path / "e.safetensors"), "--jets", str(file), "--out", str(out)]) == 0
    table = pq.read_table(out)
    assert table.num_rows == N
    assert [j for j, label in enumerate(table["label"].to_pylist()) if label is not None] == kept
    tally = rino.pack(file, tmp_path / "p.arrow", progress=False)
    assert tally.jets == N
    assert len(read_jets(tmp_path / "p.arrow", labelled=False)) == N
    with pytest.raises(
        RinoError, match=f"p.arrow: jet {0 if numbers is None else 3} has jet_label = -1; .* do not tell"
    ):
        read_jets(tmp_path / "p.arrow")
    assert main(["draw", str(file), "--out", str(tmp_path / "a.svg")]) == 0
    capsys.readouterr()
    assert main(["info", str(file), "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert (group["taken"], group["broken"]["unread"]) == (N, 0)
    assert group["classes"]["no label"] == N - len(kept) and sum(group["classes"].values()) == N
    assert main(["info", str(file)]) == 0
    assert "no label" in capsys.readouterr().out
    assert main(["compare", str(file), str(file), "--json"]) == 0


def test_friends_of_jets_without_labels_say_minus_one(tmp_path):
    file = write_root(tmp_path / "a.root", WITHOUT | {"jet_label": partly(SOUND, np.nan, float)})
    rino.embed_files(rino.JetEncoder(tiny(), seed=1), file, tmp_path / "f.root", progress=False)
    with uproot.open(tmp_path / "f.root") as root:
        assert root["rino"]["label"].array().tolist() == partly(SOUND, -1, int).tolist()
        assert all(root["rino"]["valid"].array())


def test_who_pretrains_on_a_stream_wants_no_labels(case, tmp_path):
    file, _, said = case
    recipe = tiny(training__epochs=2, training__batch_size=5)
    with open_dataset(file) as dataset, open_dataset(file, labelled=False) as unlabelled:
        runs = [
            rino.pretrain(recipe, stream, out=tmp_path / str(k), progress=False, tensorboard=False)
            for k, stream in enumerate((dataset, unlabelled))
        ]
        np.testing.assert_array_equal(*(run.history["loss"] for run in runs))
        # A checkpoint is read amid a window.
        trainers = [rino.Trainer(recipe, stream) for stream in (dataset, unlabelled)]
        for trainer in trainers:
            trainer.step()
            trainer.save(tmp_path / "c.safetensors")
            trainer.restore(tmp_path / "c.safetensors")
        with pytest.raises(RinoError, match=rf"jet \d+ {said}"):
            dataset.take(N)


def test_who_asks_a_stream_for_jets_gets_labels_after_a_trainer(tmp_path):
    file = write_parquet(tmp_path / "a.parquet", one_hot(1 - SOUND, SOUND))
    for path in (file, {file: 1.0, str(tmp_path / "b.parquet"): 2.0}):
        write_parquet(tmp_path / "b.parquet", one_hot(SOUND, 1 - SOUND))
        with open_dataset(path) as dataset:
            rino.Trainer(tiny(training__batch_size=5), dataset).step()
            assert set(dataset.take(N).labels) == {0, 8}
            assert all(batch.labels is not None for batch in dataset.batches(4))


def test_unlabelled_jets_are_pretrained_on(tmp_path):
    file = write_parquet(tmp_path / "a.parquet", one_hot(NONE, NONE))
    recipe = tiny(training__epochs=1, training__batch_size=6)
    run = rino.pretrain(recipe, str(file), out=tmp_path / "run", progress=False, tensorboard=False)
    assert run.history.rows == 2


# --- many broken jets ---


def null(columns: dict[str, Any], jet: int) -> None:
    columns["part_pz"][jet] = None


def null_inside(columns: dict[str, Any], jet: int) -> None:
    columns["part_energy"][jet] = [None, *columns["part_energy"][jet][1:]]


def null_label(columns: dict[str, Any], jet: int) -> None:
    columns["label_QCD"][jet] = None


def not_a_number(columns: dict[str, Any], jet: int) -> None:
    columns["part_px"][jet] = [np.nan, *columns["part_px"][jet][1:]]


def below(columns: dict[str, Any], jet: int) -> None:
    columns["part_energy"][jet] = [0.0, *columns["part_energy"][jet][1:]]


def longer(columns: dict[str, Any], jet: int) -> None:
    columns["part_py"][jet] = [*columns["part_py"][jet], 1.0]


def lists(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: [getattr(v, "tolist", lambda v=v: v)() for v in values] for name, values in columns.items()}


CHANGES = [null, null_inside, null_label, not_a_number, below, longer]


def parquet_of(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=1000)
    return path


@pytest.mark.parametrize("change", CHANGES)
def test_many_broken_jets_cost_no_sound_one(tmp_path, change):
    total, broken = 2500, list(range(5, 2500, 9))
    columns = lists(columns_of(as_written(total, 9)))
    for jet in broken:
        change(columns, jet)
    file = parquet_of(tmp_path / "a.parquet", columns)
    sound = np.setdiff1d(np.arange(total), broken)
    said = rf"{len(sound)} jets of 1 file .*; {len(broken)} broken jets skipped, the first: .*jet 5\b"
    with pytest.warns(RinoWarning, match=said):
        jets = read_jets(file, on_error="skip", columns=["part_charge", "jet_pt"])
    assert jets.origins.entry.tolist() == sound.tolist()
    reference = as_written(total, 9)[sound]
    np.testing.assert_array_equal(jets.px, reference.px.astype(np.float32))
    np.testing.assert_array_equal(jets.values["jet_pt"], reference.pt.astype(np.float32))
    with open_dataset(file, on_error="skip", window=500) as dataset, pytest.warns(RinoWarning, match=said[:30]):
        assert sorted(e for part in dataset.batches(100) for e in part.origins.entry) == sound.tolist()
    with pytest.raises(RinoError, match=r"a\.parquet: .*jet 5\b.*, or skip such jets with on_error='skip'"):
        read_jets(file)


def test_many_broken_jets_of_root_npz_and_hdf5_cost_no_sound_one(tmp_path):
    total = 400
    broken = list(range(1, 400, 3))
    sound = np.setdiff1d(np.arange(total), broken)
    columns = columns_of(as_written(total, 4))
    for jet in broken:
        columns["part_py"][jet] = np.append(columns["part_py"][jet], np.float32(1))
    particles, features = jetnet_arrays(total)
    particles[broken, 0, 3] = 0.5
    x = np.zeros((total, 3, 4))
    x[...] = 5, 0, 0, 22
    x[broken[::2], 1, 3], x[broken[1::2], 0, 0] = 9999, -1
    np.savez(tmp_path / "e.npz", X=x)
    for file, first in (
        (write_root(tmp_path / "a.root", columns), "values of part_px but"),
        (write_jetnet(tmp_path / "t.hdf5", particles, features), "mask of constituent 0 of jet 1 is 0.5"),
        (tmp_path / "e.npz", "constituent 1 of jet 1 has the PDG id 9999"),
    ):
        with pytest.warns(RinoWarning, match=rf"{len(broken)} broken jets skipped, the first: .*{first}"):
            jets = read_jets(file, on_error="skip")
        assert jets.origins.entry.tolist() == sound.tolist()


def test_info_counts_many_broken_jets_without_giving_up(tmp_path, capsys):
    columns = lists(columns_of(as_written(300, 9)))
    for jet in range(0, 300, 2):
        null_inside(columns, jet)
    file = parquet_of(tmp_path / "a.parquet", columns)
    assert main(["info", str(file), "--json", "--on-error", "skip"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert (group["jets"], group["read"], group["taken"]) == (300, 150, 150)
    assert group["broken"] == {
        "jets": 0, "empty": 0, "not_finite": dict.fromkeys(("px", "py", "pz", "E"), 0), "below_momentum": 0,
        "unread": 150,
    }  # fmt: skip


# --- the first jet, the first file ---


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("limit", [[], ["--max-jets", "30"]])
def test_finetune_and_evaluate_skip_the_first_jet_and_the_first_file(tmp_path, change, limit, capsys):
    columns = lists(columns_of(as_written(40, 6)))
    columns |= {"label_QCD": [0, 1] * 20, "label_Tbqq": [1, 0] * 20}
    change(columns, 0)
    file = parquet_of(tmp_path / "b.parquet", columns)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 is all that is left")
    rino.JetEncoder(tiny(finetune__epochs=1, finetune__probe_epochs=1), seed=1).save(tmp_path / "e.safetensors")
    for paths in ([file], [tmp_path / "a.parquet", file], [f"{tmp_path}/*.parquet"]):
        arguments = [*map(str, paths), "--on-error", "skip", *limit]
        out = str(tmp_path / f"t{len(list(tmp_path.iterdir()))}")
        assert main(["finetune", str(tmp_path / "e.safetensors"), "--train", *arguments, "--out", out]) == 0
        said = capsys.readouterr()
        assert f"on {30 if limit else 39} jets, signal" in said.out
        assert main(["evaluate", out, "--test", *arguments, "--resamplings", "5"]) == 0
        assert f"on {30 if limit else 39} jets, signal" in capsys.readouterr().out
    assert main(["finetune", str(tmp_path / "e.safetensors"), "--train", str(file), "--out", "t", *limit]) == 2
    assert "jet 0" in capsys.readouterr().err


@pytest.mark.parametrize("limit", [[], ["--max-jets", "30"]])
@pytest.mark.parametrize("order", ["au", "ua", "aj", "uaj"])
def test_files_without_the_labels_of_the_others_are_skipped_on_request(tmp_path, capsys, order, limit):
    hot = one_hot(1 - SOUND, SOUND)
    files = {
        "a": write_parquet(tmp_path / "a.parquet", hot),
        "u": write_parquet(tmp_path / "u.parquet", WITHOUT),
        "j": write_jetnet(tmp_path / "t.hdf5", *jetnet_arrays(5)),
    }
    rino.JetEncoder(tiny(finetune__epochs=1, finetune__probe_epochs=1), seed=1).save(tmp_path / "e.safetensors")
    paths = [str(files[name]) for name in order]
    call = ["finetune", str(tmp_path / "e.safetensors"), "--train", *paths, "--out", str(tmp_path / "t"), *limit]
    assert main(call) == 2
    said = capsys.readouterr().err
    assert "has no labels" in said or "those of" in said
    assert main([*call, "--on-error", "skip"]) == 0
    said = capsys.readouterr()
    assert f"on {N} jets, signal: {N // 2}" in said.out
    for name in set(order) - {"a"}:
        assert f"left out {files[name]}: " in said.err


def test_commands_advise_what_they_have(tmp_path, capsys):
    bad = SOUND.copy()
    bad[3] = 0
    file = write_parquet(tmp_path / "a.parquet", one_hot(1 - SOUND, bad))
    rino.JetEncoder(tiny(finetune__epochs=1, finetune__probe_epochs=1), seed=1).save(tmp_path / "e.safetensors")
    call = ["finetune", str(tmp_path / "e.safetensors"), "--train", str(file), "--out", str(tmp_path / "t")]
    assert main(call) == 2
    said = capsys.readouterr().err
    assert said.rstrip().endswith("exactly one of them must be 1; skip such jets with --on-error skip")
    assert main([*call, "--on-error", "skip"]) == 0
    assert "labelled" not in capsys.readouterr().err


def test_a_first_file_without_labels_is_named(tmp_path, capsys):
    file = write_parquet(tmp_path / "a.parquet", WITHOUT)
    rino.JetEncoder(tiny(), seed=1).save(tmp_path / "e.safetensors")
    call = ["finetune", str(tmp_path / "e.safetensors"), "--train", str(file), "--out", str(tmp_path / "t")]
    assert main([*call, "--on-error", "skip"]) == 2
    assert "has no labels" in capsys.readouterr().err
