"""What a user meets before the first jet: installing, importing, building."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import pyrino as rino

ROOT = Path(__file__).parents[2]


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_another_minor_version_of_torch_is_one_sentence():
    done = run("import torch; torch.__version__ = '9.9.1'; import pyrino")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    built = ".".join(torch.__version__.split(".")[:2])
    assert f"pyrino was built with torch {built} and runs with 9.9.1" in last
    assert "rebuild" in last


def test_importing_changes_no_thread_setting():
    code = """
import torch
before = torch.get_num_threads(), torch.get_num_interop_threads()
import pyrino
assert (torch.get_num_threads(), torch.get_num_interop_threads()) == before
"""
    done = run(code, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr


def test_importing_loads_nothing_heavy_beyond_torch():
    # What makes an import slow is what it imports: this is exact where a stop-watch is not.
    code = """
import sys, torch
before = set(sys.modules)
import pyrino
new = {name.split('.')[0] for name in set(sys.modules) - before}
heavy = {'matplotlib', 'sklearn', 'uproot', 'awkward', 'h5py', 'pyarrow', 'fastjet', 'pythia8mc', 'tensorboard',
         'scipy', 'pandas', 'safetensors', 'tqdm', 'jinja2'}
print(sorted(new & heavy))
"""
    done = run(code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_fastjet_banner_on_standard_output():
    code = "import pyrino as rino; rino.ViewGenerator([2])(rino.toy_jets(3, seed=1))"
    assert run(code).stdout == ""


def test_the_interpreter_lock_is_released_while_training():
    recipe = rino.Recipe.preset("nano", epochs=1, batch_size=200)
    trainer = rino.Trainer(recipe, rino.toy_jets(200, seed=1))
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.perf_counter()
    trainer.step()
    end = time.perf_counter()
    stop.set()
    thread.join()
    # With the lock held, no tick falls inside the step.
    assert sum(begin < t < end for t in ticks) > 5


def test_every_public_name_has_a_docstring():
    for name in rino.__all__:
        assert getattr(rino, name).__doc__, name


def test_the_package_says_it_is_typed():
    assert (Path(rino.__file__).parent / "py.typed").is_file()


def test_version_is_the_same_everywhere():
    assert f'version = "{rino.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"VERSION {rino.__version__}" in (ROOT / "CMakeLists.txt").read_text()
    assert f'kVersion = "{rino.__version__}"' in (ROOT / "include/rino/core/version.hpp").read_text()


def test_a_missing_torch_is_an_error_that_says_what_to_install(tmp_path):
    cmake = shutil.which("cmake")
    assert cmake
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment["PATH"] = os.pathsep.join([str(tmp_path / "bare" / "bin"), "/usr/bin", "/bin"])
    done = subprocess.run(
        [cmake, "-S", ROOT, "-B", tmp_path / "build", f"-DPython_EXECUTABLE={tmp_path / 'bare' / 'bin' / 'python'}"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode != 0
    assert "pip install torch" in done.stderr


@pytest.mark.parametrize(
    ("target", "remedy"), [("FastJet", "pip install fastjet"), ("Eigen3", "pip install cmeel-eigen")]
)
def test_a_missing_library_is_an_error_that_says_what_to_install(tmp_path, target, remedy):
    # The real search, in a project that stands in for the libraries which are not the question.
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(probe LANGUAGES CXX)\n"
        "add_library(torch INTERFACE)\n"
        + ("add_library(Eigen3::Eigen INTERFACE IMPORTED)\n" if target == "FastJet" else "")
        + f"include({ROOT / 'cmake' / 'rinoDependencies.cmake'})\n"
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment["PATH"] = os.pathsep.join([str(tmp_path / "bare" / "bin"), "/usr/bin", "/bin"])
    done = subprocess.run(
        [
            shutil.which("cmake"), "-S", tmp_path, "-B", tmp_path / "build",
            f"-DPython_EXECUTABLE={tmp_path / 'bare' / 'bin' / 'python'}",
            # Debian's own copies may be on this machine
            "-DCMAKE_IGNORE_PATH=/usr/include;/usr/lib;/usr/lib/x86_64-linux-gnu;/usr/share/eigen3/cmake",
        ],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert remedy in done.stderr


@pytest.mark.slow
def test_a_wheel_holds_what_users_need_and_works_elsewhere(tmp_path):
    build = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "-w", tmp_path, ROOT],
        capture_output=True, text=True, check=False,
        env={**os.environ, "CMAKE_BUILD_PARALLEL_LEVEL": "2"},
    )  # fmt: skip
    assert build.returncode == 0, build.stdout + build.stderr
    (wheel,) = tmp_path.glob("pyrino-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)
    for wanted in ("pyrino/py.typed", "pyrino/report/template.html", "pyrino/report/style.css"):
        assert wanted in names
    assert any(name.startswith("pyrino/_core") for name in names)
    # As installed: beside torch and fastjet, not in the source tree.
    packages = Path(sysconfig.get_path("purelib"))
    for neighbour in ("torch", "fastjet"):
        (site / neighbour).symlink_to(packages / neighbour)
    code = f"""
import sys
sys.meta_path[:] = [f for f in sys.meta_path if 'Editable' not in type(f).__name__ and 'Scikit' not in type(f).__name__]
sys.path.insert(0, {str(site)!r})
import pyrino as rino
assert rino.__file__.startswith({str(site)!r}), rino.__file__
print(rino.JetEncoder.preset('nano', seed=1).embed(rino.toy_jets(2, seed=1)).shape)
"""
    done = run(code)
    assert done.stdout.strip() == "(2, 32)", done.stderr


def test_examples_of_the_docstrings_run():
    import doctest

    jets = rino.toy_jets(20, seed=1)
    names = {"rino": rino, "np": np, "jets": jets, "Recipe": rino.Recipe}
    for module in (sys.modules["pyrino.recipe"], sys.modules["pyrino.jets"], sys.modules["pyrino.views"]):
        results = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        assert results.failed == 0, module.__name__
        assert results.attempted > 0, module.__name__


def test_the_readmes_cpp_is_the_example_that_is_compiled():
    example = (ROOT / "examples" / "one_jet.cpp").read_text().strip()
    assert f"```cpp\n{example}\n```" in (ROOT / "README.md").read_text()
