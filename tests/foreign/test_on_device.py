"""On a device whose memory host code cannot touch: the CPU's numbers, one wait in a step, nothing in the wrong place.

What GPUs do here, where there is none: `device.cpp` says how. Run by `tests/python/test_foreign_device.py`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from foreign import NAME, Watched
from helpers import small_jets, tiny
from test_cli import write_jets

import pyrino as rino
from pyrino import JetEncoder, Jets, Recipe, Trainer
from pyrino.cli import main
from pyrino.data import JETCLASS_CLASSES

HERE = Path(__file__).resolve().parent
#: The last device: whatever is made on the current one, which is 0, is in the wrong place.
DEVICE = f"{NAME}:1"
CLOCKS = ("seconds", "waited")
#: Operators that steps may use, and how many kernels a step of a preset may start. Written by RINO_UPDATE=1.
KNOWN = HERE / "operators.json"


class Spread(rino.Method):
    """Every part that methods in Python have: random views, a teacher, torch's own random numbers."""

    name = "spread-on-device"

    def networks(self):
        self.teacher = rino.Teacher(encoder := JetEncoder(self.recipe), momentum=0.9)
        return {"encoder": encoder, "head": torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(8, 4))}

    def views(self, jets, step):
        return [rino.smear(jets, **step.draws("a")), rino.rotate(jets, **step.draws("b"))]

    def loss(self, batch, step):
        found, wanted = self.encoder(batch.tokens), self.teacher(batch.tokens)
        near = (found.jets - wanted.jets).square().mean()
        return near + rino.uniformity(self.head(found.jets)), {"near": near}


@pytest.fixture(scope="module")
def jets() -> Jets:
    return small_jets(24)


@pytest.fixture(autouse=True)
def _nothing_on_the_other_device():
    torch.ops.foreign.reset()
    yield
    assert torch.ops.foreign.most_bytes()[0] == 0, "something was made on the current device, not on the one asked for"


def recipe_of(preset: str, **numbers: Any) -> Recipe:
    """Two layers of a preset and small heads, no dropout: its masks are the devices' own."""
    recipe = Recipe.preset(preset, **{"training.epochs": 2, "training.batch_size": 12, "seed": 3})
    least = {"encoder.layers": 2, "encoder.dropout": 0.0, "training.precision": "float32"}
    if recipe.method == "self-distillation":
        least |= {"head.prototypes": 32, **({"head.hidden_width": 64} if preset.startswith("rino") else {})}
    return recipe.replace(**{**least, **numbers})


def steps(recipe: Recipe, jets: Jets, device: str) -> list[dict[str, float]]:
    trainer = Trainer(recipe, jets, device=device)
    return [trainer.step() for _ in range(2)]


def watched_steps(recipe: Recipe, jets: Jets) -> tuple[list[dict[str, float]], Watched]:
    """And what the device did in them."""
    trainer = Trainer(recipe, jets, device=DEVICE)
    with Watched() as device:
        return [trainer.step() for _ in range(2)], device


def assert_same(found: list[dict[str, float]], expected: list[dict[str, float]], rel: float, norm: float = 1) -> None:
    """Everything that steps report but times; the norm of the gradient to `norm` times the tolerance."""
    for step, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        assert mine.keys() == theirs.keys()
        for name in theirs.keys() - set(CLOCKS):
            share = rel * (norm if name == "gradient_norm" else 1)
            assert mine[name] == pytest.approx(theirs[name], rel=share, abs=share), f"{name} of step {step}"


# --- the device itself ---


def test_host_code_that_touches_its_memory_ends():
    code = """
import ctypes, foreign, torch
foreign.load()
for device in ("cpu", "foreign"):
    letters = torch.full((4,), 65, dtype=torch.uint8, device=device)
    print(device, ctypes.string_at(letters.data_ptr(), 4), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "cpu b'AAAA'\n")


def test_it_refuses_what_a_gpu_refuses():
    here, other = torch.ones(3, device=DEVICE), torch.ones(3)
    with pytest.raises(RuntimeError, match=r"all tensors (to be )?on the same device"):
        here + other
    with pytest.raises(RuntimeError, match=r"all tensors (to be )?on the same device"):
        here[torch.tensor([0, 1])]
    with pytest.raises(RuntimeError, match="generator is of another device"):
        here.bernoulli_(0.5, generator=torch.Generator(f"{NAME}:0"))
    assert (here * torch.tensor(2.0)).tolist() == [2, 2, 2]  # numbers of the CPU are arguments of kernels
    assert torch.isnan(torch.empty(5, device=DEVICE)).all()


@pytest.mark.parametrize(
    ("work", "waits"),
    [
        (lambda x: x.cpu(), 1),
        (lambda x: x.sum().item(), 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x.index_put_((x > 0,), torch.tensor(1.0)), 1),
        (lambda x: torch.ones(3).to(DEVICE), 1),
        (lambda x: torch.ones(3).to(DEVICE, non_blocking=True), 1),
        (lambda x: torch.ones(3).pin_memory().to(DEVICE, non_blocking=True), 0),
        (lambda x: x.repeat_interleave(torch.ones(3, device=DEVICE, dtype=torch.int64)), 1),
        (lambda x: x.repeat_interleave(torch.ones(3, device=DEVICE, dtype=torch.int64), output_size=3), 0),
        (lambda x: torch.where(x > 0, x, 0)[torch.zeros(2, device=DEVICE, dtype=torch.int64)], 0),
    ],
)
def test_it_counts_what_a_gpu_is_waited_for(work, waits):
    x = torch.ones(3, device=DEVICE)
    with Watched() as device:
        work(x)
    assert sum(device.waits.values()) == waits


def attend(flash: bool, **change: Any) -> torch.Tensor:
    """Two sequences of 2 and 3 rows, with what `change` says."""
    width, kind = change.get("width", 8), change.get("dtype", torch.bfloat16 if flash else torch.float32)
    qkv = torch.ones(5, 3, 2, width + change.get("gap", 0), dtype=kind, device=DEVICE)[..., :width]
    q, k, v = qkv.unbind(1)
    begins = torch.tensor([0, 2, change.get("end", 5)], dtype=change.get("index", torch.int32))
    begins = begins.to(change.get("device", DEVICE))
    dropout = change.get("dropout", 0.0)
    if flash:
        return torch.ops.aten._flash_attention_forward(q, k, v, begins, begins, 3, 3, dropout, False, False)[0]
    q, k, v = (x.unsqueeze(0) for x in (q, k, v))
    return torch.ops.aten._efficient_attention_forward(q, k, v, None, begins, begins, 3, 3, dropout, 0, True)[0]


@pytest.mark.parametrize("flash", [True, False], ids=["flash", "efficient"])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"width": 6}, "no multiple of"),
        ({"gap": 3}, "not aligned"),
        ({"index": torch.int64}, "int32"),
        ({"device": "cpu"}, "on the device"),
        ({"device": f"{NAME}:0"}, "on the device"),
        ({"dropout": 0.1}, "dropout"),
        ({"end": 4}, "do not fit the rows"),
        ({"dtype": torch.float64}, "only supports|has no kernel"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_its_attention_refuses_what_cudas_kernels_refuse(flash, change, match, request):
    assert torch.equal(attend(flash).float(), torch.ones_like(attend(flash).float()))
    with pytest.raises(RuntimeError, match=match):
        attend(flash, **change)
    torch.ops.foreign.reset()  # what was made on the other device was made by this test


def test_flash_attention_refuses_float32_and_wide_heads():
    with pytest.raises(RuntimeError, match="only supports fp16 and bf16"):
        attend(True, dtype=torch.float32)
    with pytest.raises(RuntimeError, match="at most 256"):
        attend(True, width=264)
    assert attend(False, width=264).shape == (1, 5, 2, 264)


AFTER_A_FAILURE = """
import sys
sys.path[:0] = {paths}
import foreign; foreign.load()
import torch, pyrino as rino
from helpers import small_jets, tiny
trainer = rino.Trainer(tiny(epochs=4, batch_size=6, average=0.9), small_jets(24), device="foreign:1")
trainer.step()
torch.ops.foreign.fail()
try:
    trainer.step()
except RuntimeError as error:
    print(error)
del trainer
print("alive")
"""


def test_a_device_that_has_failed_says_why_and_ends_nothing_else():
    code = AFTER_A_FAILURE.format(paths=[str(HERE), str(HERE.parent / "python")])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "foreign error: an illegal memory access was encountered"
    assert done.stdout.splitlines()[-1] == "alive"


# --- steps ---


@pytest.mark.parametrize("preset", Recipe.presets())
def test_steps_of_every_preset_are_the_cpus(jets, preset):
    recipe = recipe_of(preset)
    found, device = watched_steps(recipe, jets)
    assert_same(found, steps(recipe, jets, "cpu"), rel=1e-5)
    assert device.waits == {"copy to the host": 2}  # one in a step
    assert device.unseeded == 0
    check_operators(preset, device.kernels)


def check_operators(preset: str, kernels: dict[str, int]) -> None:
    """Against the list: on a GPU an operator that is not there may have no kernel, or wait; each is a launch."""
    version = ".".join(torch.__version__.split(".")[:2])
    known = json.loads(KNOWN.read_text()) if KNOWN.is_file() else {"torch": version, "operators": [], "kernels": {}}
    count = sum(kernels.values()) // 2
    if os.environ.get("RINO_UPDATE"):
        known |= {"torch": version, "operators": sorted({*known["operators"], *kernels})}
        known["kernels"][preset] = count
        KNOWN.write_text(json.dumps(known, indent=1) + "\n")
    if known["torch"] == version:  # others make the same of other operators
        assert kernels.keys() <= set(known["operators"])
        assert count <= 1.02 * known["kernels"][preset]


@pytest.mark.parametrize("preset", ["nano", "base", "part-nano", "rino", "contrastive", "supcon"])
def test_steps_in_bf16_are_the_cpus(jets, preset):
    recipe = recipe_of(preset, **{"training.precision": "bf16"})
    found, device = watched_steps(recipe, jets)
    assert_same(found, steps(recipe_of(preset), jets, "cpu"), rel=3e-2, norm=5)
    assert device.waits == {"copy to the host": 2} and device.unseeded == 0
    assert device.kernels["aten::_flash_attention_forward"] > 0


@pytest.mark.parametrize(
    ("preset", "precision"), [("nano", "float32"), ("nano", "bf16"), ("part-nano", "float32"), ("rino", "bf16")]
)
def test_dropout_is_drawn_on_the_device_from_the_recipes_seed(jets, preset, precision):
    recipe = recipe_of(preset, **{"encoder.dropout": 0.2, "training.precision": precision})
    found, device = watched_steps(recipe, jets)
    assert device.waits == {"copy to the host": 2} and device.unseeded == 0
    again, other = steps(recipe, jets, DEVICE), steps(recipe.replace(seed=4), jets, DEVICE)
    assert_same(again, found, rel=0)
    assert found[1]["loss"] != other[1]["loss"] and np.isfinite(found[1]["loss"])


def test_a_method_in_python_trains_there(jets):
    recipe = Recipe(Spread.name, **{"encoder.width": 8, "encoder.heads": 2, "encoder.layers": 1, "seed": 3})
    recipe.update({"training.epochs": 2, "training.batch_size": 12, "encoder.dropout": 0.1})
    found = steps(recipe, jets, DEVICE)
    torch.rand(3, device=DEVICE)  # its numbers are the recipe's, whatever else draws from torch's generators
    assert_same(steps(recipe, jets, DEVICE), found, rel=0)
    recipe.update({"encoder.dropout": 0.0})
    without = [steps(recipe, jets, device) for device in (DEVICE, "cpu")]
    assert_same(*without, rel=1e-5)


@pytest.mark.parametrize(
    "numbers", [{"training.accumulate": 2, "loss.assignment": "centering"}, {"training.average": 0.9}]
)
def test_parts_of_a_batch_and_averages_are_the_cpus(jets, numbers):
    recipe = recipe_of("nano", **{"loss.koleo": 0.0, **numbers})
    assert_same(steps(recipe, jets, DEVICE), steps(recipe, jets, "cpu"), rel=1e-5)


def test_weighted_jets_are_the_cpus(jets):
    weighted = jets.with_value("w", np.linspace(0.5, 1.5, len(jets)))
    recipe = recipe_of("supcon", **{"training.weight": "w"})
    assert_same(steps(recipe, weighted, DEVICE), steps(recipe, weighted, "cpu"), rel=1e-5)


def test_double_precision_is_the_cpus(jets):
    recipe = recipe_of("nano", **{"training.precision": "float64"})
    assert_same(steps(recipe, jets, DEVICE), steps(recipe, jets, "cpu"), rel=1e-9)


@pytest.mark.parametrize("preset", ["nano", "contrastive"])
def test_what_tensorboard_shows_comes_to_the_host(jets, preset):
    shown = []
    for device in (DEVICE, "cpu"):
        trainer = Trainer(recipe_of(preset), jets, device=device)
        trainer.step()
        shown.append({name: tensor.numpy() for name, tensor in trainer._core.snapshot().items()})
    assert shown[0].keys() == shown[1].keys() and "embeddings" in shown[0]
    for name, values in shown[1].items():
        np.testing.assert_allclose(shown[0][name], values, rtol=0, atol=1e-5, err_msg=name)


# --- checkpoints, runs ---


def test_a_checkpoint_goes_on_there_and_on_the_cpu(jets, tmp_path):
    recipe = recipe_of("nano", **{"training.average": 0.9})
    trainer = Trainer(recipe, jets, device=DEVICE)
    trainer.step()
    trainer.save(tmp_path / "checkpoint.safetensors")
    expected = [trainer.step() for _ in range(3)]
    for device, share in ((DEVICE, 0.0), ("cpu", 1e-5)):
        other = Trainer(recipe, jets, device=device)
        other.restore(tmp_path / "checkpoint.safetensors")
        assert_same([other.step() for _ in range(3)], expected, rel=share)


def test_a_run_stops_and_resumes_there(jets, tmp_path):
    recipe, quiet = recipe_of("nano"), {"progress": False, "tensorboard": False, "device": DEVICE}

    def stop(step: dict[str, float]) -> None:
        if step["step"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rino.pretrain(recipe, jets, tmp_path / "stopped", callback=stop, **quiet)
    rino.pretrain(recipe, jets, tmp_path / "stopped", resume=True, **quiet)
    whole = rino.pretrain(recipe, jets, tmp_path / "whole", **quiet)
    assert whole.encoder.device.type == NAME
    one, other = (JetEncoder.load(tmp_path / name).state_dict() for name in ("stopped", "whole"))
    assert all(torch.equal(one[name], value) and value.device.type == "cpu" for name, value in other.items())


# --- encoders and taggers ---


@pytest.mark.parametrize("preset", ["nano", "part-nano", "rino"])
def test_embeddings_are_the_cpus(jets, preset):
    cpu, there = (JetEncoder(recipe_of(preset), seed=1).eval() for _ in range(2))
    there.to(DEVICE)
    for options in ({}, {"resolution": 4}, {"batch_tokens": 100}):
        with Watched() as device:
            found = there.embed(jets, **options)
        np.testing.assert_allclose(found, cpu.embed(jets, **options), rtol=0, atol=1e-5)
        assert set(device.waits) == {"copy to the host"}


def test_many_sequences_are_attended_to_in_runs_whose_memory_fits():
    """Kernels take memory for 128 rows a sequence: 20,000 of them are three runs of at most 2^20 rows."""
    few = rino.toy_jets(100, 3, multiplicity_mean=3, multiplicity_std=1)
    many = np.arange(20_000) % 100
    encoder = JetEncoder(tiny(), seed=1).eval()
    expected = encoder.embed(few)
    encoder.to(DEVICE)
    with Watched() as device:
        found = encoder.embed(few[many], batch_tokens=10**7)
    np.testing.assert_allclose(found, expected[many], rtol=0, atol=1e-5)
    attention = {name: count for name, count in device.kernels.items() if "attention" in name}
    # Two layers; nothing is kept for a backward pass.
    assert attention == {"aten::_efficient_attention_forward, not for a backward pass": 2 * 3}


def short(**numbers: Any) -> Recipe:
    least = {"encoder.dropout": 0.0, "finetune.batch_size": 8, "finetune.epochs": 2, "probe_epochs": 2}
    return tiny(**{**least, "supervised.epochs": 2, "validation": 0.25, "head_lr": 1e-2, **numbers})


@pytest.mark.parametrize(
    "numbers",
    [{}, {"finetune.head": "mlp"}, {"finetune.average": 0.9, "finetune.l2_sp": 0.1, "finetune.layer_decay": 0.7}],
    ids=["linear", "mlp", "everything"],
)
def test_fine_tuning_and_predictions_are_the_cpus(jets, numbers, tmp_path):
    recipe = short(**numbers)
    encoder = JetEncoder(recipe, seed=2)
    expected = rino.finetune(encoder, jets, progress=False)
    found = rino.finetune(encoder.to(DEVICE), jets, progress=False, out=tmp_path / "tagger")
    np.testing.assert_allclose(found.history["loss"], expected.history["loss"], rtol=1e-4)
    np.testing.assert_allclose(found.predict(jets), expected.predict(jets), rtol=0, atol=1e-4)
    np.testing.assert_allclose(rino.Tagger.load(tmp_path / "tagger").predict(jets), expected.predict(jets), atol=1e-4)


def test_fine_tuning_with_dropout_waits_once_in_a_step(jets):
    encoder = JetEncoder(short(**{"encoder.dropout": 0.1, "probe_epochs": 0}), seed=2).to(DEVICE)
    counts = []

    def look(_: dict[str, float]) -> None:
        counts.append(sum(torch.ops.foreign.waits().values()))

    rino.finetune(encoder, jets, progress=False, callback=look)
    assert len(counts) == 6 and torch.ops.foreign.unseeded() == 0
    assert np.diff(counts)[:2].tolist() == [1, 1]  # of the first epoch


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_supervised_training_is_the_cpus(jets, head):
    found, expected = (
        rino.train_supervised(short(), jets, head=head, device=device, progress=False) for device in (DEVICE, "cpu")
    )
    for name in ("loss", "validation_loss"):
        np.testing.assert_allclose(found.history[name], expected.history[name], rtol=1e-4)
    np.testing.assert_allclose(found.predict(jets), expected.predict(jets), rtol=0, atol=1e-4)


def test_other_tasks_are_the_cpus(jets):
    classes = jets.with_labels(np.arange(len(jets)) % 3)
    for numbers, train in (
        ({"finetune.task": "multiclass"}, classes),
        ({"finetune.task": "regression", "finetune.targets": ["pt"]}, (jets, np.log(jets.pt))),
    ):
        encoder = JetEncoder(short(**numbers), seed=2)
        expected = rino.finetune(encoder, train, progress=False)
        found = rino.finetune(encoder.to(DEVICE), train, progress=False)
        np.testing.assert_allclose(found.predict(jets), expected.predict(jets), rtol=0, atol=1e-4)


def test_the_command_line_computes_there(jets, tmp_path):
    recipe = tiny(training__epochs=1, training__batch_size=12, finetune__probe_epochs=1, finetune__epochs=1)
    recipe.replace(**{"encoder.dropout": 0.0}).save(tmp_path / "tiny.toml")
    for label, name in ((0, "QCD"), (1, "Tbqq")):
        write_jets(tmp_path / "data" / f"{name}.parquet", jets[jets.labels == label], JETCLASS_CLASSES.index(name))
    found = {}
    for device in ("cpu", DEVICE):
        run, tagger = tmp_path / f"{device} run", tmp_path / f"{device} tagger"
        data, on = str(tmp_path / "data"), ["--device", device]
        assert main(["pretrain", str(tmp_path / "tiny.toml"), "--train", data, "--out", str(run), *on]) == 0
        assert main(["finetune", str(run), "--train", data, "--out", str(tagger), *on]) == 0
        for command, given in (("embed", run), ("predict", tagger)):
            out = tmp_path / f"{device} {command}.parquet"
            assert main([command, str(given), "--jets", data, "--out", str(out), *on]) == 0
            found[command, device] = pq.read_table(out)
    for command in ("embed", "predict"):
        one, other = (found[command, device] for device in ("cpu", DEVICE))
        assert one.schema == other.schema and len(one) == len(jets)
        for name in one.column_names:
            mine, theirs = (np.array(table[name].to_pylist()) for table in (one, other))
            if mine.dtype.kind == "f":
                np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-4, err_msg=name)
            else:
                assert (mine == theirs).all()


# --- two devices, two ranks ---


def test_two_devices_train_as_one(jets, tmp_path):
    presets = {"nano": 1, "rino-ibot": 2}  # waits of a step; how many are masked is known before the loss, on all ranks
    recipes = {preset: recipe_of(preset, **{"training.epochs": 1}) for preset in presets}
    for preset, recipe in recipes.items():
        recipe.save(tmp_path / f"{preset}.toml")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "rank.py"), str(tmp_path), *presets],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
            | {"MASTER_PORT": str(port), "PYTHONWARNINGS": "error"},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(90) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    for preset, waits in presets.items():
        expected = steps(recipes[preset], jets, "cpu")
        for rank in range(2):
            found = json.loads((tmp_path / f"{preset}.{rank}.json").read_text())
            assert_same(found["steps"], expected, rel=1e-5)
            assert found["waits"] == 2 * waits  # of two steps


def test_the_library_is_built_once():
    assert foreign.build() == foreign.build()
