"""The command line: what each command does, says and leaves behind, and how it fails."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import assert_same_weights, small_jets, tiny

import pyrino as rino
from pyrino.cli import main, make_parser
from pyrino.data import JETCLASS_CLASSES
from pyrino.evaluate import tagger_metrics
from pyrino.files import whole_file

COMMANDS = (
    "generate",
    "info",
    "pack",
    "compare",
    "draw",
    "recipes",
    "pretrain",
    "finetune",
    "evaluate",
    "predict",
    "embed",
    "study",
    "bench",
)
QCD, TOP = JETCLASS_CLASSES.index("QCD"), JETCLASS_CLASSES.index("Tbqq")


def write_jets(path: Path, jets: rino.Jets, number: int | None) -> Path:
    """A parquet file in JetClass's columns, all jets of one class; without labels for None."""
    cut = jets.offsets[1:-1]
    momenta = zip(("part_px", "part_py", "part_pz", "part_energy"), (jets.px, jets.py, jets.pz, jets.e), strict=True)
    columns = {name: pa.array([part.tolist() for part in np.split(values, cut)]) for name, values in momenta}
    if number is not None:
        for n, name in enumerate(JETCLASS_CLASSES):
            columns[f"label_{name}"] = pa.array(np.full(len(jets), n == number))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def write_with_empty_jet(path: Path) -> Path:
    """Three jets, the second without constituents."""
    names = {"part_px": 3.0, "part_py": 4.0, "part_pz": 0.0, "part_energy": 5.0}
    pq.write_table(pa.table({name: [[value], [], [value, value]] for name, value in names.items()}), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled jets of two classes (labelled/), and the same without labels (plain/)."""
    folder = tmp_path_factory.mktemp("data")
    jets = small_jets(60)
    for name, number in (("qcd", QCD), ("top", TOP)):
        part = jets[jets.labels == (number == TOP)]
        write_jets(folder / "labelled" / f"{name}.parquet", part, number)
        write_jets(folder / "plain" / f"{name}.parquet", part, None)
    recipe = tiny(training__epochs=2, training__batch_size=16, finetune__probe_epochs=2, finetune__epochs=1)
    recipe.save(folder / "tiny.toml")
    return folder


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    """A pretraining run."""
    out = data / "runs" / "tiny"
    assert main(["pretrain", str(data / "tiny.toml"), "--train", str(data / "plain"), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def tagger(data: Path, run: Path) -> Path:
    """A tagger fine-tuned on that run."""
    out = data / "runs" / "tagger"
    assert main(["finetune", str(run), "--train", str(data / "labelled"), "--out", str(out)]) == 0
    return out


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


def call(*arguments: object) -> int:
    """Exit status of a command, that of wrong usage included."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a failing command writes to standard error, after `pyrino: error: `."""
    capsys.readouterr()
    assert call(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("pyrino: error: ")
    return lines[0].removeprefix("pyrino: error: ")


def leftovers(folder: Path) -> list[str]:
    """Files that only a command at work should have there."""
    return [path.name for path in folder.rglob("*") if "partial" in path.name or path.name.endswith(".tmp")]


def subparsers() -> dict[str, argparse.ArgumentParser]:
    action = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def python(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options
    )


# --- help and usage ---


def test_there_are_these_commands():
    assert sorted(subparsers()) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_default_and_examples_that_parse(capsys, command):
    assert call(command, "--help") == 0
    text = capsys.readouterr().out
    listed = {entry.split()[0].strip(","): " ".join(entry.split()) for entry in re.split(r"\n  (?=-)", text)[1:]}
    options = {action.option_strings[0] for action in subparsers()[command]._actions if action.option_strings}
    assert listed.keys() == options
    for option in options - {"-h"}:
        assert re.search(r"\((default: .+|required)\)", listed[option]), listed[option]
    examples = [line.strip() for line in text.splitlines() if line.startswith(f"  pyrino {command} ")]
    assert examples
    for example in examples:
        assert make_parser().parse_args(shlex.split(example)[1:]).command == command


def test_help_takes_defaults_of_recipe_numbers_from_the_recipe(capsys):
    call("pretrain", "--help")
    text = " ".join(capsys.readouterr().out.split())
    recipe = rino.Recipe()
    entries = {(e.section, e.name): e for e in recipe._core.entries()}
    assert f"training.epochs: {entries['training', 'epochs'].meaning} (default: the recipe's; " in text
    assert f"the recipe's; {recipe.training.epochs} in nano" in text
    assert f"the recipe's; {recipe.training.batch_size} in nano" in text


def test_help_of_the_program_names_all_commands_and_its_example_parses(capsys):
    assert call("--help") == 0
    text = capsys.readouterr().out
    assert all(f"    {command} " in text for command in COMMANDS)
    lines = [line.strip() for line in text.splitlines() if line.startswith("  pyrino ")]
    assert len(lines) == 5
    for line in lines:
        make_parser().parse_args(shlex.split(line)[1:])


def test_no_command_shows_the_help(capsys):
    assert call() == 2
    assert "commands:" in capsys.readouterr().out


def test_version_names_torch_too(capsys):
    import torch

    assert call("--version") == 0
    assert capsys.readouterr().out.split() == ["pyrino", rino.__version__, "with", "torch", torch.__version__]


def test_an_unknown_option_ends_with_the_usage_of_its_command(capsys):
    assert call("embed", "run", "--jets", "x", "--out", "y", "--resolutoin", "8") == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: pyrino embed ")
    assert "unrecognized arguments: --resolutoin 8 (did you mean --resolution?)" in error


def test_an_unknown_command_names_those_there_are(capsys):
    assert call("train") == 2
    assert "invalid choice: 'train'" in capsys.readouterr().err


def test_options_are_not_abbreviated(capsys):
    assert call("embed", "run", "--jets", "x", "--out", "y", "--resol", "8") == 2
    capsys.readouterr()


# --- as a program ---


def test_python_m_pyrino_tells_an_error_in_one_line():
    done = python("-m", "pyrino", "recipes", "show", "dmo")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("pyrino: error: there is no preset 'dmo' (did you mean 'demo'?)")


def test_a_reader_that_goes_away_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-m", "pyrino", "recipes", "base"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(60) == 141
    assert error == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_standard_output_is_told_in_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pyrino", "recipes"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr == "pyrino: error: [Errno 28] No space left on device\n"


def test_ctrl_c_leaves_a_checkpoint_from_which_resume_goes_on(data, tmp_path):
    arguments = ["pretrain", data / "tiny.toml", "--train", data / "plain", "--out", tmp_path / "run"]
    arguments = [*map(str, arguments), "--epochs", "150"]
    # A parent that ignores SIGINT hands that down; a user's shell does not.
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); import pyrino.cli; "
    with subprocess.Popen(
        [sys.executable, "-c", f"{start}sys.exit(pyrino.cli.main({arguments!r}))"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("read 60 jets")
        assert process.stdout.readline().startswith("pretraining ")
        while not list((tmp_path / "run" / "tensorboard").glob("*")):
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        error = process.stderr.read()
        assert process.wait(60) == 130, error
    last = error.splitlines()[-1]
    assert re.fullmatch(r"pyrino: stopped after \d+ of 450 steps; the checkpoint is in .*, go on with --resume", last)
    assert "Traceback" not in error
    stopped = int(last.split()[3])
    assert call(*arguments, "--resume") == 0
    history = rino.History.load(tmp_path / "run" / "history.parquet")
    assert 0 < stopped < 450
    np.testing.assert_array_equal(history["step"], np.arange(450) + history["step"][0])


# --- generate ---


@pytest.mark.skipif(importlib.util.find_spec("pythia8mc") is None, reason="needs the package pythia8mc")
def test_generate_writes_jets_once(tmp_path, capsys):
    arguments = ["generate", "--domain", "simulation-wide", "--process", "top", "--jets", 4, "--out", tmp_path / "mc"]
    assert call(*arguments, "--seed", 5, "--workers", 1) == 0
    captured = capsys.readouterr()
    (file,) = (tmp_path / "mc").iterdir()
    assert captured.out.startswith(f"4 jets in 1 file: {file}\n")
    assert captured.err == ""  # no bar where nobody watches
    jets = rino.read_jets(file)
    assert len(jets) == 4 and set(jets.labels) == {TOP}
    before = file.stat().st_mtime_ns
    assert call(*arguments, "--seed", 5) == 0
    assert file.stat().st_mtime_ns == before
    assert call("info", file) == 0
    assert re.search(r"generated +4: simulation-wide top, seed 5, Pythia 8\.", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--domain": "collision"}, "unknown domain 'collision': did you mean 'collisions'?"),
        ({"--process": "higgs"}, "unknown process 'higgs'"),
        ({"--jets": "0"}, "jets = 0: give a whole number >= 1"),
        ({"--seed": "-1"}, "seed = -1: give a whole number >= 0"),
        ({"--workers": "0"}, "workers = 0: give a whole number >= 1"),
    ],
)
def test_generate_refuses(capsys, tmp_path, changes, message):
    options = {"--domain": "simulation", "--process": "qcd", "--jets": "2", "--out": "mc"} | changes
    assert message in error_of(capsys, "generate", *(part for pair in options.items() for part in pair))
    assert not (tmp_path / "mc").exists()


def test_an_empty_jet_is_an_error_that_names_the_option(tmp_path, capsys):
    file = write_with_empty_jet(tmp_path / "empty.parquet")
    capsys.readouterr()
    assert call("draw", file, "--jet", 1, "--out", "x.png") == 2
    assert "leave such jets out with --drop-empty" in capsys.readouterr().err
    assert call("draw", file, "--jet", 1, "--out", "x.png", "--drop-empty") == 0


# --- draw ---


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_draw_writes_pictures(data, tmp_path, capsys, suffix, start):
    out = tmp_path / "pictures" / f"jet.{suffix}"
    arguments = ["--jet", 3, "--resolutions", 1, "kt:20", "all", "--out", out]
    assert call("draw", data / "labelled", *arguments) == 0
    assert out.read_bytes().startswith(start)
    assert str(out) in capsys.readouterr().out
    assert leftovers(tmp_path) == []


def test_draw_shows_the_jet_and_the_clustering_asked_for(data, capsys, monkeypatch):
    drawn, draw = [], rino.Jets.draw

    @functools.wraps(draw)
    def note(jets: rino.Jets, *arguments: object, **options: object) -> object:
        drawn.append((jets, arguments, options))
        return draw(jets, *arguments, **options)

    monkeypatch.setattr(rino.Jets, "draw", note)
    options = ["--resolutions", 2, "all", "--radius", 0.4, "--algorithm", "cambridge"]
    assert call("draw", data / "plain", "--jet", 3, "--out", "jet.svg", *options) == 0
    ((jet, arguments, options),) = drawn
    assert jet == rino.read_jets(data / "plain")[3]
    assert (arguments, options) == ((["2", "all"],), {"radius": 0.4, "algorithm": "cambridge"})


def test_draw_replaces_a_picture_only_when_told(data, tmp_path, capsys):
    out = tmp_path / "jet.png"
    out.write_text("mine")
    assert "give --overwrite to replace it" in error_of(capsys, "draw", data / "plain", "--out", out)
    assert out.read_text() == "mine"
    assert call("draw", data / "plain", "--out", out, "--overwrite") == 0
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jet", 60], "has 60 jets: choose --jet 0 to 59"),
        (["--jet", -1], "--jet is -1: jets are counted from 0"),
        (["--resolutions", 0], "subjets"),
        (["--resolutions", "fine"], "'fine'"),
        (["--radius", 0], "radius"),
        (["--algorithm", "kT2"], "kT2"),
        (["--dpi", 0], "--dpi is 0"),
        (["--out", "jet.docx"], "'.docx': choose from "),
        (["--out", "jet"], "has the suffix ''"),
        (["--out", "."], "has the suffix ''"),
    ],
)
def test_draw_refuses(data, tmp_path, capsys, options, message):
    assert message in error_of(capsys, "draw", data / "plain", "--out", "jet.png", *options)
    assert list(tmp_path.iterdir()) == []


# --- recipes ---


def test_recipes_lists_the_presets_by_where_they_come_from(capsys):
    assert call("recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    catalogue = rino.Recipe.catalogue()
    shown = [line for line in lines if " parameters  " in line]
    assert [line.split()[0] for line in shown] == rino.Recipe.presets()
    for preset, line in zip(catalogue, shown, strict=True):
        assert line.endswith(preset.summary)
        heading = next(text for text in reversed(lines[: lines.index(line)]) if text.endswith(":"))
        assert heading == f"{preset.source}:"
    sizes = {line.split()[0]: line.split()[1] for line in shown}
    assert (sizes["base"], sizes["rino"], sizes["rino-no-positions"]) == ("4,743,424", "10,987,264", "8,427,264")


def test_what_recipes_says_of_the_toml_line_is_true(tmp_path, capsys):
    assert call("recipes") == 0
    line = re.search(r'preset = "(\S+)"', capsys.readouterr().out)
    (tmp_path / "mine.toml").write_text(f"{line[0]}\n")
    assert rino.Recipe.load("mine.toml") == rino.Recipe.preset(line[1])


@pytest.mark.parametrize(
    ("name", "base"),
    [("nano", None), ("demo", "nano"), ("rino", "nano"), ("rino-swapped", "rino"), ("rino-slow-teacher", "rino")],
)
def test_recipes_shows_every_number_with_unit_source_and_meaning(capsys, name, base):
    assert call("recipes", "show", name) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    lines, networks = lines[:-2], lines[-1]
    recipe = rino.Recipe.preset(name)
    assert ("in " in header) == (base is not None) and (base is None or f"in {base} " in header)
    assert len(lines) == len(recipe.describe())
    for line, number in zip(lines, recipe.describe(), strict=True):
        cells = line.split()
        assert cells[0] == number.key
        value = getattr(getattr(recipe, number.section), number.name)
        text = ",".join(map(str, value)) or "[]" if isinstance(value, list) else str(value).lower() or '""'
        assert cells[1] == text
        assert re.search(rf"{re.escape(number.source)} +{re.escape(number.meaning)}$", line)
        assert not number.unit or f" {number.unit} " in line
        if base is not None:
            other = getattr(getattr(rino.Recipe.preset(base), number.section), number.name)
            assert (line[header.index("in ")] != " ") == (other != value)
    assert networks.startswith(f"encoder: {recipe.encoder_parameters:,} parameters")


def test_recipes_shows_the_numbers_of_the_production_recipe(capsys):
    """Those of ../shared/recipes.md that a reader looks for, as they are printed."""
    assert call("recipes", "show", "rino") == 0
    *lines, _, networks = capsys.readouterr().out.splitlines()
    printed = dict(line.split()[:2] for line in lines)
    expected = {
        "views.teacher": "6,8,16",
        "views.student": "2,3,4,all",
        "views.student_drawn": "3",
        "jets.max_constituents": "90",
        "encoder.registers": "4",
        "encoder.layer_scale": "0.01",
        "encoder.radial_range": "5.6",
        "head.prototypes": "2048",
        "loss.ibot": "1.0",
        "loss.koleo": "0.1",
        "loss.momentum_end": "0.997",
        "optimizer.lr": "0.003",
        "optimizer.layer_decay": "0.9",
        "training.batch_size": "3000",
        "training.warmup": "0.2",
        "training.precision": "bf16",
    }
    assert {key: printed[key] for key in expected} == expected
    assert networks == (
        "encoder: 10,987,264 parameters, 2,560,000 of them in the table of positions; a head: 2,099,456"
    )


def test_recipes_shows_what_a_file_changes_and_that_it_is_the_file(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text('preset = "rino-swapped"\n[optimizer]\nlr = 0.5\n')
    assert call("recipes", "show", "mine.toml") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["number", "value", "in", "rino-swapped", "unit", "source", "meaning"]
    changed = [line.split()[:5] for line in lines[:-2] if line[header.index("in ")] != " "]
    assert changed == [["optimizer.lr", "0.5", "0.003", "this", "file"]]
    assert sum("this file" in line for line in lines) == 1


def test_show_may_be_left_out(capsys):
    assert call("recipes", "show", "lite") == call("recipes", "lite") == 0
    shown = capsys.readouterr().out
    assert shown[: len(shown) // 2] * 2 == shown


def test_recipes_writes_a_file_that_pretrain_reads(tmp_path, capsys):
    assert call("recipes", "show", "demo", "--toml", "mine.toml") == 0
    assert "pyrino pretrain mine.toml" in capsys.readouterr().out
    assert rino.Recipe.load("mine.toml") == rino.Recipe.preset("demo")
    assert "give --overwrite" in error_of(capsys, "recipes", "show", "nano", "--toml", "mine.toml")
    assert call("recipes", "show", "nano", "--toml", "mine.toml", "--overwrite") == 0
    assert rino.Recipe.load("mine.toml") == rino.Recipe.preset("nano")
    capsys.readouterr()
    assert call("recipes", "base", "--toml", "-") == 0
    (tmp_path / "printed.toml").write_text(capsys.readouterr().out)
    assert rino.Recipe.load("printed.toml") == rino.Recipe.preset("base")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show"], "show is without a recipe: write for example pyrino recipes show nano"),
        (["--toml", "x.toml"], "--toml is without a recipe"),
        (["nano", "lite"], "'nano lite' are several recipes: write pyrino recipes show lite"),
        (["show", "rino-swaped"], "did you mean 'rino-swapped'?"),
        (["show", "none.toml"], "none.toml cannot be read"),
    ],
)
def test_recipes_refuses(tmp_path, capsys, arguments, message):
    assert message in error_of(capsys, "recipes", *arguments)
    assert list(tmp_path.iterdir()) == []


# --- pretrain ---


def test_pretrain_does_what_python_does(data, run, tmp_path):
    mine = rino.JetEncoder.load(run)
    theirs = rino.pretrain(str(data / "tiny.toml"), str(data / "plain"), tmp_path / "run", progress=False)
    assert_same_weights(mine, theirs.encoder)
    assert leftovers(run) == []


def test_pretrain_takes_numbers_of_the_recipe(data, tmp_path, capsys):
    settings = ["views.student=3,all", "views.teacher=[1, 2]", "optimizer.lr=1e-3", "encoder.class_token=learned"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    numbers = ["--epochs", 1, "--batch-size", 30, "--seed", 9]
    assert call("pretrain", data / "tiny.toml", "--train", data / "plain", "--out", "run", *arguments, *numbers) == 0
    captured = capsys.readouterr()
    assert "2 steps, 60 jets seen, last loss " in captured.out
    assert "\r" not in captured.err and "epoch 1.0/1" in captured.err  # lines, no bar where nobody watches
    recipe = rino.Recipe.load(tmp_path / "run" / "recipe.toml")
    assert recipe.views.student == [3, "all"] and recipe.views.teacher == [1, 2]
    assert (recipe.optimizer.lr, recipe.encoder.class_token) == (1e-3, "learned")
    assert (recipe.training.epochs, recipe.training.batch_size, recipe.training.seed) == (1, 30, 9)


def test_pretrain_reads_several_paths_and_part_of_them(data, tmp_path, capsys):
    files = [data / "plain" / "qcd.parquet", data / "plain" / "top.parquet"]
    arguments = ["--out", "run", "--epochs", 1, "--max-jets", 9]
    assert call("pretrain", data / "tiny.toml", "--train", *files, *arguments) == 0
    assert "tiny.toml on 18 jets, 1 epoch, " in capsys.readouterr().out


def test_pretrain_in_a_folder_with_a_run(data, run, tmp_path, capsys):
    arguments = ["pretrain", data / "tiny.toml", "--train", data / "plain", "--out", run]
    before = rino.JetEncoder.load(run)
    assert "give --resume to go on, --overwrite to replace it" in error_of(capsys, *arguments)
    assert call(*arguments, "--resume") == 0
    assert "went on after step 6" in capsys.readouterr().out
    assert call(*arguments, "--overwrite") == 0
    assert_same_weights(rino.JetEncoder.load(run), before)
    assert call(*arguments, "--overwrite", "--resume") == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "epochs=3"], "--set 'epochs=3' is no SECTION.NAME=VALUE"),
        (["--set", "training.epochs"], "--set 'training.epochs' is no SECTION.NAME=VALUE"),
        (["--set", "training.epoch=3"], "no 'training.epoch' (did you mean 'epochs'?)"),
        (["--set", "trainin.epochs=3"], "no section 'trainin' (did you mean 'training'?)"),
        (["--set", "training.epochs=many"], "training.epochs has the wrong type: give a whole number"),
        (["--set", "encoder.class_token=mean"], "encoder.class_token is 'mean'"),
        (["--set", "training.epochs=2020-01-01"], "training.epochs"),
        (["--epochs", 0], "epochs"),
        (["--device", "gpu"], "there is no device 'gpu'"),
        (["--train", "nowhere"], "there is no file nowhere"),
    ],
)
def test_pretrain_refuses(data, tmp_path, capsys, options, message):
    arguments = ["--train", data / "plain", "--out", "run", *options]
    assert message in error_of(capsys, "pretrain", data / "tiny.toml", *arguments)
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there(data, run, tagger, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for arguments in (
        ["pretrain", data / "tiny.toml", "--train", data / "plain", "--out", "new"],
        ["finetune", run, "--train", data / "labelled", "--out", "new"],
        ["evaluate", tagger, "--test", data / "labelled"],
        ["embed", run, "--jets", data / "plain", "--out", "new.parquet"],
        ["study", "--out", "new"],
    ):
        assert "torch sees no CUDA device" in error_of(capsys, *arguments, "--device", "cuda")


# --- finetune ---


def test_finetune_does_what_python_does(data, run, tmp_path):
    arguments = ["--train", data / "labelled", "--out", tmp_path / "tagger", "--head", "mlp", "--seed", 3]
    assert call("finetune", run, *arguments, "--set", "finetune.head_lr=0.01", "--epochs", 2) == 0
    encoder = rino.JetEncoder.load(run)
    jets = rino.read_jets(data / "labelled")
    recipe = encoder.recipe.replace(**{"finetune.head_lr": 0.01, "finetune.epochs": 2})
    theirs = rino.finetune(encoder, (jets, jets.labels == TOP), head="mlp", recipe=recipe, seed=3, progress=False)
    mine = rino.Tagger.load(tmp_path / "tagger")
    assert mine.kind == "mlp"
    assert_same_weights(mine, theirs)


@pytest.mark.parametrize("signal_class", ["QCD", str(QCD)])
def test_finetune_takes_the_signal_by_name_or_number(data, run, tmp_path, capsys, signal_class):
    assert call("finetune", run, "--train", data / "labelled", "--out", "t", "--signal", signal_class) == 0
    captured = capsys.readouterr()
    n = len(rino.read_jets(data / "labelled" / "qcd.parquet"))
    assert f"60 jets, signal: {n} QCD, background: {60 - n} Tbqq" in captured.out
    assert all(" probing: step " in line or " fine-tuning: step " in line for line in captured.err.splitlines())
    scores = rino.Tagger.load("t").predict(rino.read_jets(data / "labelled"))
    assert call("finetune", run, "--train", data / "labelled", "--out", "u") == 0
    assert not np.array_equal(scores, rino.Tagger.load("u").predict(rino.read_jets(data / "labelled")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--signal", "Tbq"], "there is no class 'Tbq' (did you mean 'Tbqq'?)"),
        (["--signal", "Hbb"], "none of the 60 jets are signal (Hbb), they are"),
        (["--signal", "Tbqq", "QCD"], "all of the 60 jets are signal (Tbqq, QCD)"),
        (["--head", "tree"], "there is no head 'tree'"),
        (["--set", "training.epochs=3"], "has no effect here: only numbers of finetune have"),
    ],
)
def test_finetune_refuses(data, run, tmp_path, capsys, options, message):
    arguments = ["--train", data / "labelled", "--out", "tagger", *options]
    assert message in error_of(capsys, "finetune", run, *arguments)
    assert not (tmp_path / "tagger").exists() or not list((tmp_path / "tagger").iterdir())


def test_finetune_needs_labels_of_one_kind(data, run, tmp_path, capsys):
    plain = data / "plain" / "qcd.parquet"
    assert f"{plain} has no labels" in error_of(capsys, "finetune", run, "--train", plain, "--out", "t")
    table = pq.read_table(data / "plain" / "top.parquet")
    pq.write_table(table.append_column("jet_label", pa.array(np.ones(len(table), int))), "numbers.parquet")
    files = [data / "labelled" / "qcd.parquet", "numbers.parquet"]
    assert "give files with labels of one kind" in error_of(capsys, "finetune", run, "--train", *files, "--out", "t")
    assert "is no number" in error_of(capsys, "finetune", run, "--train", "numbers.parquet", "--out", "t")


def test_finetune_without_an_encoder(data, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    message = error_of(capsys, "finetune", "empty", "--train", data / "labelled", "--out", "t")
    assert "there are no weights at empty/encoder.safetensors" in message


def test_finetune_replaces_a_tagger_only_when_told(data, run, tagger, capsys):
    arguments = ["finetune", run, "--train", data / "labelled", "--out", tagger]
    before = rino.Tagger.load(tagger)
    assert "--overwrite to replace it" in error_of(capsys, *arguments)
    assert call(*arguments, "--overwrite") == 0
    assert_same_weights(rino.Tagger.load(tagger), before)


# --- evaluate ---


def test_evaluate_prints_and_writes_the_metrics(data, tagger, tmp_path, capsys):
    arguments = ["--test", data / "labelled", "--out", "numbers.json", "--resamplings", 50, "--seed", 2]
    assert call("evaluate", tagger, *arguments) == 0
    captured = capsys.readouterr()
    jets = rino.read_jets(data / "labelled")
    expected = tagger_metrics(rino.Tagger.load(tagger).predict(jets), jets.labels == TOP, 2, n=50)
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert found["metrics"] == expected
    signal = int(np.sum(jets.labels == TOP))
    assert (found["jets"], found["counts"], found["signal"]) == (
        60,
        {"background": 60 - signal, "signal": signal},
        ["Tbqq"],
    )
    auc = expected["auc"]
    assert re.search(rf"\nAUC +{auc['value']:.4f}  \+- {auc['error']:.4f}\n", captured.out)
    rejection = expected["rejection_at_0.5"]
    assert re.search(rf"\n1/eps_B at eps_S = 0.5 +(> )?{rejection['value']:.1f} ", captured.out)
    assert captured.err == ""
    assert "--overwrite" in error_of(capsys, "evaluate", tagger, *arguments)


def test_evaluate_marks_lower_limits(data, tagger, capsys, monkeypatch):
    monkeypatch.setattr(rino.Tagger, "predict", lambda self, jets, **how: (jets.labels == 1) * 0.8 + 0.1)
    assert call("evaluate", tagger, "--test", data / "labelled") == 0
    text = capsys.readouterr().out
    assert re.search(r"accuracy at 0.5 +1.0000", text)
    assert re.search(r"1/eps_B at eps_S = 0.3 +> [\d.]+ +\(95% confidence: no background jet passes\)", text)


def test_evaluate_needs_a_tagger_and_labels(data, run, tagger, tmp_path, capsys):
    encoder = run / "encoder.safetensors"
    assert "is no tagger" in error_of(capsys, "evaluate", encoder, "--test", data / "labelled")
    assert "has no labels" in error_of(capsys, "evaluate", tagger, "--test", data / "plain", "--out", "x.json")
    assert "resamplings" in error_of(capsys, "evaluate", tagger, "--test", data / "labelled", "--resamplings", 1)
    assert list(tmp_path.iterdir()) == []


# --- embed ---


def test_embed_writes_embeddings_by_file_and_entry(data, run, tmp_path, capsys):
    files = [data / "labelled" / "top.parquet", data / "plain" / "qcd.parquet"]
    assert call("embed", run, "--jets", *files, "--out", "z.parquet") == 0
    captured = capsys.readouterr()
    assert "60 jets" in captured.out and captured.err == ""
    table = pq.read_table("z.parquet")
    assert table.column_names == ["file", "entry", "label", "embedding"]
    parts = [rino.read_jets(file) for file in files]
    assert table["file"].to_pylist() == [str(f) for f, jets in zip(files, parts, strict=True) for _ in jets]
    assert table["entry"].to_pylist() == [j for jets in parts for j in range(len(jets))]
    assert table["label"].to_pylist() == [TOP] * len(parts[0]) + [None] * len(parts[1])
    z = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(z, np.concatenate([rino.JetEncoder.load(run).embed(jets) for jets in parts]))
    assert json.loads(table.schema.metadata[b"pyrino.embed"])["encoder"] == str(run)


def test_embed_at_a_resolution(data, run, tmp_path):
    file = data / "plain" / "top.parquet"
    assert call("embed", run, "--jets", file, "--resolution", 2, "--out", "z.parquet", "--batch-size", 7) == 0
    z = np.array(pq.read_table("z.parquet")["embedding"].to_pylist())
    expected = rino.JetEncoder.load(run).embed(rino.read_jets(file), resolution=2)
    np.testing.assert_allclose(z, expected, rtol=0, atol=1e-6)


def test_embed_counts_the_rows_of_the_file(run, tmp_path, capsys):
    file = write_with_empty_jet(tmp_path / "empty.parquet")
    assert "--drop-empty" in error_of(capsys, "embed", run, "--jets", file, "--out", "z.parquet")
    assert call("embed", run, "--jets", file, "--out", "z.parquet", "--drop-empty") == 0
    assert pq.read_table("z.parquet")["entry"].to_pylist() == [0, 2]


def test_embed_leaves_nothing_of_a_failure(data, run, tmp_path, capsys):
    (tmp_path / "broken.parquet").write_bytes(b"nonsense")
    files = [data / "plain" / "qcd.parquet", "broken.parquet"]
    error = error_of(capsys, "embed", run, "--jets", *files, "--out", "z.parquet")
    assert "broken.parquet cannot be recognised" in error
    assert "batch_size" in error_of(capsys, "embed", run, "--jets", files[0], "--out", "z.parquet", "--batch-size", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.parquet"]


def test_embed_does_not_replace_its_own_input(data, run, tmp_path, capsys):
    file = write_jets(tmp_path / "jets.parquet", small_jets(5), None)
    before = file.read_bytes()
    assert "exists" in error_of(capsys, "embed", run, "--jets", file, "--out", file)
    assert file.read_bytes() == before


# --- study ---


def test_study_hands_over_to_run_study(capsys, monkeypatch):
    calls = []

    def run_study(preset: str, out: str, **options: object) -> Path:
        calls.append((preset, out, options))
        return Path(out) / "report.html"

    monkeypatch.setattr("pyrino.study.run_study", run_study)
    assert call("study", "--preset", "study", "--out", "runs/s", "--workers", 3) == 0
    assert calls == [("study", "runs/s", {"recipe": None, "device": "cpu", "workers": 3, "progress": False})]
    assert "runs/s/report.html" in capsys.readouterr().out
    assert call("study", "--out", "runs/d") == 0
    assert calls[1][:2] == ("demo", "runs/d")


def test_study_names_those_there_are(capsys):
    assert "choose one of demo, study" in error_of(capsys, "study", "--preset", "dem", "--out", "x")


# --- files ---


def test_a_file_gets_its_name_only_when_it_is_complete(tmp_path):
    with pytest.raises(rino.RinoError, match=r"out.txt cannot be written: No space left on device: make room"):
        with whole_file(tmp_path / "new" / "out.txt", overwrite=False) as partial:
            partial.write_text("half")
            raise OSError(28, os.strerror(28))
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "out.txt", overwrite=False) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    with whole_file(tmp_path / "out.txt", overwrite=False) as partial:
        partial.write_text("all")
    assert (tmp_path / "out.txt").read_text() == "all"
    (tmp_path / "file").touch()
    with pytest.raises(rino.RinoError, match="cannot be written"), whole_file(tmp_path / "file" / "x", overwrite=False):
        pass
