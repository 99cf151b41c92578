"""What `device` may be: where there is no such GPU the error says what was found and what to do, in one place."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers import small_jets, tiny

from pyrino import RinoError, Trainer, _arguments
from pyrino._arguments import device_of, require_bf16
from pyrino.bench import interleaved
from pyrino.ranks import Ranks, joined

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("built", "driver", "visible", "match"),
    [
        (None, "", None, r"without CUDA, no driver of NVIDIA's was found\): install a torch with CUDA, https:"),
        (None, "550.54", None, r"without CUDA, NVIDIA's driver is 550.54\): install a torch with CUDA"),
        ("13.0", "", None, r"for CUDA 13.0, no driver of NVIDIA's was found\): install the driver"),
        ("13.0", "550.54", None, r"driver is 550.54\): install a driver that knows CUDA 13.0, or a torch for an older"),
        ("13.0", "550.54", "", r"CUDA_VISIBLE_DEVICES is ''\): unset CUDA_VISIBLE_DEVICES, or choose 'cpu'"),
    ],
)
def test_without_a_gpu_the_error_says_what_was_found_and_what_helps(no_gpu, built, driver, visible, match):
    no_gpu.setattr(torch.version, "cuda", built)
    no_gpu.setattr(_arguments, "_driver", lambda: driver)
    if visible is not None:
        no_gpu.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = rf"device is 'cuda' but torch sees no CUDA device \(torch {re.escape(torch.__version__)} .*"
    with pytest.raises(RinoError, match=found + match) as said:
        device_of("cuda")
    assert str(said.value).endswith(", or choose 'cpu'")


def test_whoever_takes_a_device_says_so(no_gpu):
    jets = small_jets(8)
    with pytest.raises(RinoError, match="torch sees no CUDA device"):
        Trainer(tiny(), jets, device="cuda")
    no_gpu.setenv("RANK", "0")
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        no_gpu.setenv(name, value)
    with pytest.raises(RinoError, match="torch sees no CUDA device"), joined("cuda"):
        pass


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(RinoError, match="device is 'cuda:2' but torch sees 2 CUDA devices: cuda:0 is the first"):
        device_of("cuda:2")


def test_the_driver_is_read_where_there_is_one():
    assert re.fullmatch(r"|\d+(\.\d+)+|for CUDA \d+\.\d|of an unknown version", _arguments._driver())


@pytest.mark.parametrize("capability", [(7, 5), (6, 1)])
def test_bf16_needs_a_gpu_with_units_for_it(monkeypatch, capability):
    """FlashAttention, which half precisions take, starts at 8.0, too."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    major, minor = capability
    match = rf"'bf16', but Tesla T4 has compute capability {major}\.{minor} and bfloat16 needs 8.0: choose .*'float32'"
    with pytest.raises(RinoError, match=match):
        Trainer(tiny(precision="bf16"), small_jets(8), device="cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    require_bf16(torch.device("cuda:0"))
    require_bf16(torch.device("cpu"))


def test_one_place_asks_which_gpus_there_are():
    asks = re.compile(r"cuda\.is_available|there is no device")
    files = [file for file in (ROOT / "python/pyrino").rglob("*.py") if asks.search(file.read_text(encoding="utf-8"))]
    assert [file.name for file in files] == ["_arguments.py"]


def test_times_wait_for_the_device_that_works_not_for_the_current_one(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    interleaved({"one": lambda: None, "other": lambda: None}, repetitions=2, device="cuda:1")
    assert waited == [torch.device("cuda", 1)] * 5
    interleaved({"one": lambda: None}, repetitions=1)
    assert len(waited) == 5


class TwoRanks:
    """A process group of NCCL alone, of which this is one."""

    def rank(self) -> int:
        return 0

    def size(self) -> int:
        return 2


def test_ranks_talk_by_way_of_the_device_that_they_compute_on(monkeypatch):
    """Not of the current one, which is cuda:0 on all of them."""
    passed, current = [], ["cuda:0"]

    @contextlib.contextmanager
    def device(wanted: torch.device) -> Iterator[None]:
        current.append(str(wanted))
        yield
        current.pop()

    def tensor(numbers: list[int], *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        passed.append(str(device))
        return torch.asarray(numbers, dtype=dtype)

    def gather(found: list[object], value: object, group: object) -> None:
        passed.append(current[-1])
        found[:] = [value] * 2

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch, "tensor", tensor)
    monkeypatch.setattr(dist, "get_backend_config", lambda _: "cuda:nccl")
    monkeypatch.setattr(dist, "all_reduce", lambda *_, **__: None)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    ranks = Ranks(TwoRanks())
    ranks.device = torch.device("cuda", 1)
    assert ranks.largest(3, 4) == [3, 4] and ranks.gathered("here") == ["here", "here"]
    assert passed == ["cuda:1", "cuda:1"]


def test_a_trainer_says_where_its_ranks_compute():
    ranks = Ranks()
    Trainer(tiny(), small_jets(8), group=ranks)
    assert ranks.device == torch.device("cpu")
