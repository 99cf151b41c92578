"""What killed processes leave: removed by the next one that writes there, in the way of nobody; and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import small_jets, tiny

import pyrino as rino
from pyrino import JetEncoder, Recipe, RinoError
from pyrino.cli import main
from pyrino.files import text_of, unfinished, whole_file

SMALL = ["--set", "encoder.width=8", "--set", "encoder.heads=2", "--set", "encoder.layers=1", "--epochs", "1"]


def dead() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@contextlib.contextmanager
def killed_while_it_writes(file: Path) -> Iterator[Path]:
    """What a process left that was killed in a `whole_file`."""
    code = (
        "import sys, time\nfrom pyrino.files import whole_file\n"
        "with whole_file(sys.argv[1]) as partial:\n    partial.write_text('half')\n    print(partial, flush=True)\n"
        "    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True) as process:
        partial = Path(process.stdout.readline().rstrip())
        assert partial.read_text() == "half" and not file.exists()
        with contextlib.suppress(RinoError), whole_file(file.with_name("other")):
            assert partial.exists()  # its process lives
            raise RinoError
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert partial.exists()
    yield partial


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_partial_file_names_its_process_and_where_it_counts(tmp_path):
    with whole_file(tmp_path / "out.txt") as partial:
        partial.write_text("all")
        inode = os.readlink("/proc/self/ns/pid").strip("pid:[]")
        assert partial.name == f".out.txt.{os.getpid()}@{os.uname().nodename}-{inode}.0.partial"


def test_the_next_one_removes_what_a_killed_process_left(tmp_path):
    with killed_while_it_writes(tmp_path / "out.txt") as partial:
        assert unfinished(partial.name)
        with whole_file(tmp_path / "another.txt") as mine:
            mine.write_text("all")
        assert names(tmp_path) == ["another.txt"]


def test_only_leftovers_are_removed(tmp_path):
    gone, host = dead(), os.uname().nodename
    machine = f"{host}-{os.readlink('/proc/self/ns/pid').strip('pid:[]')}"
    keep = [
        f".recipe.toml.{os.getpid()}.partial",  # alive
        f".recipe.toml.{gone}@elsewhere.0.partial",  # of another machine
        f".rino-{gone}@elsewhere-0.tmp",
        f".recipe.toml.{gone}@{host}-1.0.partial",  # of a container on this host, which counts its own processes
        f".rino-{gone}@{host}-1-0.tmp",
        f".rino-{os.getpid()}@{machine}-0.tmp",
        f"recipe.toml.{gone}.partial",
        f".{gone}.partial",
        f".download.{gone}.tmp",
        ".recipe.toml.partial",
    ]
    remove = [
        f".recipe.toml.{gone}.partial",  # of earlier versions
        f".recipe.toml.{gone}@{host}.0.partial",
        f".rino-{gone}@{host}-3.tmp",
        f".recipe.toml.{gone}@{machine}.0.partial",
        f".a@b.1.txt.{gone}@{machine}.12.partial",
        f".rino-{gone}-0.tmp",
        f".rino-{gone}@{machine}-3.tmp",
        f".x.{2**70}.partial",
    ]
    for name in (*keep, *remove):
        (tmp_path / name).write_text(name)
    with whole_file(tmp_path / "out.txt") as partial:
        partial.write_text("all")
    assert names(tmp_path) == sorted([*keep, "out.txt"])


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_a_kill_before_the_first_file_does_not_block_the_folder(tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--jets", "12", "--process", "qcd", "--out", "d"]) == 0
    Path("run").mkdir()
    alive = f".recipe.toml.{os.getpid()}.partial"
    for name in (f".recipe.toml.{dead()}.partial", f".rino-{dead()}-0.tmp", alive):
        Path("run", name).write_text("half")
    run = ["pretrain", "nano", "--train", "d", "--out", "run", "--batch-size", "6", *SMALL]
    assert main([*run, option]) == 0
    assert [name for name in names(Path("run")) if name.startswith(".")] == [alive]
    assert main(["finetune", "run", "--train", "d", "--out", "run"]) == 2  # what is there is no leftover


def test_a_checkpoint_has_the_name_that_is_swept(tmp_path):
    """C++ writes it: killed in the middle of that, it leaves a file of this form."""
    trainer = rino.Trainer(tiny(epochs=1, batch_size=20), small_jets(40))
    taken = tmp_path / f".rino-{os.getpid()}@{os.uname().nodename}-{os.stat('/proc/self/ns/pid').st_ino}-0.tmp"
    taken.symlink_to("elsewhere")
    trainer.save(tmp_path / "checkpoint.safetensors")
    assert taken.is_symlink() and not (tmp_path / "elsewhere").exists() and unfinished(taken.name)


def test_every_command_that_writes_sweeps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--jets", "8", "--process", "qcd", "--out", "d"]) == 0
    JetEncoder(tiny()).save("enc.safetensors")
    left = Path(f".out.{dead()}.partial")
    for command in (
        ["generate", "--jets", "8", "--process", "top", "--out", "."],
        ["pack", "d", "--out", "p.arrow"],
        ["embed", "enc.safetensors", "--jets", "d", "--out", "z.parquet"],
        ["draw", "d", "--out", "j.png"],
        ["info", "d", "--plot", "i.png"],
        ["compare", "d", "d", "--no-classifier", "--plot", "c.png"],
        ["recipes", "show", "nano", "--toml", "r.toml"],
    ):
        left.write_text("half")
        assert main(command) == 0, command
        assert not left.exists(), command


def test_a_planted_link_is_not_followed(tmp_path):
    """Whoever may write to the folder can foresee the name, and lead it to a file of the user's."""
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    with whole_file(tmp_path / "out.txt") as partial:
        first = partial.name
    (tmp_path / "out.txt").unlink()
    (tmp_path / first).symlink_to(mine)
    with whole_file(tmp_path / "out.txt") as partial:
        assert partial.name != first and partial.is_file() and not partial.is_symlink()
        partial.write_text("all")
    assert mine.read_text() == "precious" and (tmp_path / "out.txt").read_text() == "all"
    assert (tmp_path / first).is_symlink()


def test_two_threads_write_one_name_each_for_itself(tmp_path):
    with whole_file(tmp_path / "out.txt") as one, whole_file(tmp_path / "out.txt") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "out.txt").read_text() == "one" and names(tmp_path) == ["out.txt"]


def test_long_names_can_be_written(tmp_path):
    with whole_file(tmp_path / ("x" * 255)) as partial:
        partial.write_text("all")
    assert names(tmp_path) == ["x" * 255]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_recipe_may_have_a_byte_order_mark(tmp_path, encoding):
    """As Windows' editors save text."""
    file = tmp_path / "mine.toml"
    file.write_bytes('preset = "mini"\r\n[training]\r\nepochs = 3  # é\r\n'.encode(encoding))
    recipe = Recipe.load(file)
    assert (recipe.name, recipe.training.epochs) == ("mini", 3) and "é" in text_of(file)
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RinoError, match="is no TOML"):
        Recipe.load(file)
