"""What a user meets before the first jet: installing, importing, building."""

from __future__ import annotations

import os
import re
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
        + f"set(rino_find_fastjet REQUIRED)\ninclude({ROOT / 'cmake' / 'rinoDependencies.cmake'})\n"
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


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """The C++ package as it is installed where there is no FastJet."""
    folder = tmp_path_factory.mktemp("package")
    done = subprocess.run(
        [
            shutil.which("cmake"), "-S", ROOT, "-B", folder / "build", f"-DPython_EXECUTABLE={sys.executable}",
            "-DRINO_FASTJET=OFF", "-DCMAKE_DISABLE_FIND_PACKAGE_FastJet=ON",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "RINO_FASTJET is off: there is no target rino::fastjet" in done.stdout
    subprocess.run([shutil.which("cmake"), "--install", folder / "build", "--prefix", folder / "prefix"], check=True)
    return folder / "prefix"


@pytest.mark.parametrize(
    ("components", "fastjet", "targets"),
    [
        ("", True, "rino fastjet kernels"),
        ("COMPONENTS fastjet", True, "rino fastjet kernels"),
        ("COMPONENTS core", True, "rino kernels"),
        ("COMPONENTS core", False, "rino kernels"),
        ("COMPONENTS core OPTIONAL_COMPONENTS fastjet", True, "rino fastjet kernels"),
        ("COMPONENTS core OPTIONAL_COMPONENTS fastjet", False, "rino kernels"),
        ("", False, "pip install fastjet"),
        ("COMPONENTS core fastjet", False, "find_package(rino COMPONENTS core)"),
        ("COMPONENTS core pythia", True, "rino has no component 'pythia': choose of core, fastjet"),
    ],
)
def test_fastjet_is_looked_for_where_its_component_is_asked_for(tmp_path, package, components, fastjet, targets):
    site = tmp_path / "site"
    (site / "fastjet" / "include" / "fastjet").mkdir(parents=True)
    (site / "fastjet" / "include" / "fastjet" / "ClusterSequence.hh").touch()
    (site / "fastjet" / "include" / "fastjet" / "config_auto.h").write_text('#define FASTJET_PACKAGE_VERSION "3.4.3"\n')
    (site / "fastjet" / "lib").mkdir()
    (site / "fastjet" / "lib" / "libfastjet.so").touch()
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(probe LANGUAGES CXX)\n"
        "add_library(torch INTERFACE)\nadd_library(Eigen3::Eigen INTERFACE IMPORTED)\n"
        f"find_package(rino REQUIRED {components})\n"
        "foreach(name IN ITEMS rino fastjet kernels)\n  if(TARGET rino::${name})\n    list(APPEND found ${name})\n"
        'endif()\nendforeach()\nlist(JOIN found " " found)\nmessage(STATUS "targets=${found}")\n'
    )
    done = subprocess.run(
        [
            shutil.which("cmake"), "-S", tmp_path, "-B", tmp_path / "build", "-DPython_EXECUTABLE=/nowhere",
            f"-DCMAKE_PREFIX_PATH={package};{site / 'fastjet' if fastjet else ''}",
            "-DCMAKE_IGNORE_PATH=/usr/include;/usr/lib;/usr/lib/x86_64-linux-gnu;/usr/bin",
        ],
        capture_output=True, text=True, check=False,
        env={k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")} | {"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    if targets.startswith("rino ") and targets.endswith("kernels"):
        assert found(done)["targets"] == targets
    else:
        assert targets in said(done)


def fake_torch(
    folder: Path, version: str = "2.11.0+cu130", *, cuda: bool = False, abi: str = "NSt7__cxx1112basic_string"
) -> Path:
    """A wheel of torch as far as CMake looks at it, whose own CMake files ask for what is not there."""
    api = folder / "include" / "torch" / "csrc" / "api" / "include" / "torch"
    api.mkdir(parents=True)
    (api / "torch.h").touch()
    (folder / "__init__.py").touch()
    (folder / "version.py").write_text(f"from typing import Optional\n\n__version__ = '{version}'\n")
    (folder / "lib").mkdir()
    for name in ("torch", "torch_cpu", "torch_cuda") if cuda else ("torch", "torch_cpu"):
        (folder / "lib" / f"lib{name}.so").touch()
    config = folder / "share" / "cmake" / "Torch"
    config.mkdir(parents=True)
    (config / "TorchConfig.cmake").write_text('message(FATAL_ERROR "no CUDA toolkit")')
    (folder / "lib" / "libc10.so").write_bytes(f"\x7fELF\0_ZN3c105ErrorC1ENS_14SourceLocationE{abi}\0".encode())
    return folder


def fake_libtorch(folder: Path, version: str = "2.9.1") -> Path:
    """A LibTorch folder of C++ users: no Python package, and CMake files that make the target `torch`."""
    config = folder / "share" / "cmake" / "Torch"
    config.mkdir(parents=True)
    (config / "TorchConfig.cmake").write_text(
        'get_filename_component(TORCH_INSTALL_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)\n'
        "add_library(torch INTERFACE IMPORTED)\n"
    )
    (config / "TorchConfigVersion.cmake").write_text(
        f'set(PACKAGE_VERSION "{version}")\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n'
    )
    return folder


def configure(
    folder: Path, *options: str, python: str = sys.executable, before: str = "", after: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Configures a project that includes our search for torch and says what it found."""
    folder.mkdir(exist_ok=True)
    (folder / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.22)\nproject(probe LANGUAGES NONE)\n{before}\n"
        f"include({ROOT / 'cmake' / 'rinoTorch.cmake'})\n{after}\n"
        "foreach(what IN ITEMS INCLUDE_DIRECTORIES COMPILE_DEFINITIONS LINK_LIBRARIES LINK_OPTIONS)\n"
        "  get_target_property(value rino::torch INTERFACE_${what})\n"
        '  message(STATUS "${what}=${value}")\n'
        "endforeach()\n"
        'message(STATUS "dir=${rino_torch_dir}")\nmessage(STATUS "version=${rino_torch_version}")\n'
    )
    hidden = ("VIRTUAL_ENV", "CMAKE_PREFIX_PATH", "Torch_ROOT", "PYTHONNOUSERSITE")
    return subprocess.run(
        [shutil.which("cmake"), "-S", folder, "-B", folder / "build", f"-DPython_EXECUTABLE={python}", *options],
        capture_output=True, text=True, check=False,
        env={**{k: v for k, v in os.environ.items() if k not in hidden}, **environment},
    )  # fmt: skip


def found(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^-- (\w+)=(.*)$", done.stdout, re.MULTILINE))


def said(done: subprocess.CompletedProcess[str]) -> str:
    """CMake's message without its line breaks."""
    assert done.returncode != 0, done.stdout
    return " ".join(done.stderr.split())


def test_the_torch_of_the_interpreter_is_linked_without_its_cmake_files(tmp_path):
    # Those of a CUDA build end where there is no CUDA toolkit.
    told = found(configure(tmp_path, "-DCMAKE_DISABLE_FIND_PACKAGE_Torch=ON"))
    folder = Path(torch.__file__).parent
    assert told["version"] == torch.__version__
    assert told["dir"] == str(folder)
    assert told["COMPILE_DEFINITIONS"] == f"_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    includes = [Path(path) for path in told["INCLUDE_DIRECTORIES"].split(";")]
    assert includes == [folder / "include", folder / "include" / "torch" / "csrc" / "api" / "include"]
    libraries = [Path(path) for path in told["LINK_LIBRARIES"].split(";")]
    assert libraries == [folder / "lib" / "libtorch_cpu.so", folder / "lib" / "libc10.so"]
    cache = (tmp_path / "build" / "CMakeCache.txt").read_text()
    assert set(re.findall(r"^\w*cuda\w*", cache, re.IGNORECASE | re.MULTILINE)) == {"RINO_LINK_TORCH_CUDA"}


@pytest.mark.parametrize(("abi", "flag"), [("NSt7__cxx1112basic_string", 1), ("Ss", 0)])
def test_strings_are_those_that_torch_was_compiled_with(tmp_path, abi, flag):
    fake_torch(tmp_path / "site" / "torch", abi=abi)
    told = found(configure(tmp_path / "probe", f"-DCMAKE_PREFIX_PATH={tmp_path / 'site'}"))
    assert told["COMPILE_DEFINITIONS"] == f"_GLIBCXX_USE_CXX11_ABI={flag}"


@pytest.mark.parametrize("make", [fake_torch, fake_libtorch])
def test_a_torch_that_is_too_old_is_an_error_with_the_remedy(tmp_path, make):
    folder = make(tmp_path / "old" / "torch", "2.6.0")
    error = said(configure(tmp_path / "probe", f"-DCMAKE_PREFIX_PATH={folder.parent};{folder}"))
    assert f"torch 2.6.0 in {folder} is too old: rino needs 2.7 or newer" in error
    assert 'pip install "torch>=2.7"' in error


@pytest.mark.parametrize(
    "version", ["2.7.0", "2.7.1+cu128", "2.14.0a0+gitcf30153", "2.14.0.dev20261130+cu130", "3.0.0"]
)
def test_every_torch_from_2_7_on_is_taken(tmp_path, version):
    folder = fake_torch(tmp_path / "site" / "torch", version)
    told = found(configure(tmp_path / "probe", f"-DCMAKE_PREFIX_PATH={folder.parent}"))
    assert (told["version"], told["dir"]) == (version, str(folder))


@pytest.mark.parametrize("below", ["", "torch", "torch/share/cmake", "torch/share/cmake/Torch"])
def test_a_wheel_named_by_hand_is_taken_as_it_lies_there(tmp_path, below):
    # In the ways in which users name it, torch.utils.cmake_prefix_path among them.
    folder = fake_torch(tmp_path / "site" / "torch")
    name = "Torch_DIR" if below.endswith("Torch") else "CMAKE_PREFIX_PATH"
    assert found(configure(tmp_path / "one", f"-D{name}={tmp_path / 'site' / below}"))["dir"] == str(folder)
    if name == "CMAKE_PREFIX_PATH":
        told = found(configure(tmp_path / "two", CMAKE_PREFIX_PATH=f"/nowhere:{tmp_path / 'site' / below}"))
        assert told["dir"] == str(folder)


def test_a_libtorch_folder_named_by_hand_wins_except_in_the_python_module(tmp_path):
    folder = fake_libtorch(tmp_path / "libtorch")
    told = found(configure(tmp_path / "cpp", f"-DCMAKE_PREFIX_PATH={folder}"))
    assert (told["LINK_LIBRARIES"], told["dir"], told["version"]) == ("torch", str(folder), "2.9.1")
    told = found(configure(tmp_path / "python", f"-DCMAKE_PREFIX_PATH={folder}", "-DRINO_BUILD_PYTHON=ON"))
    assert told["dir"] == str(Path(torch.__file__).parent)


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_project_may_look_for_torch_itself(tmp_path, place):
    folder = fake_libtorch(tmp_path / "libtorch")
    told = found(
        configure(tmp_path / "probe", f"-DTheirs={folder}", **{place: "find_package(Torch REQUIRED PATHS ${Theirs})"})
    )
    assert (told["LINK_LIBRARIES"] == "torch") == (place == "before")


def test_cuda_is_linked_on_demand(tmp_path):
    # A program names no symbol of libtorch_cuda, and a linker leaves out what nobody asks for.
    with_cuda = fake_torch(tmp_path / "cuda" / "torch", cuda=True)
    for on in ("ON", "OFF"):
        told = found(
            configure(tmp_path / on, f"-DCMAKE_PREFIX_PATH={with_cuda.parent}", f"-DRINO_LINK_TORCH_CUDA={on}")
        )
        assert (f"--no-as-needed,{with_cuda}/lib/libtorch_cuda.so" in told["LINK_OPTIONS"]) == (on == "ON")
    without = fake_torch(tmp_path / "cpu" / "torch", "2.11.0+cpu")
    error = said(configure(tmp_path / "none", f"-DCMAKE_PREFIX_PATH={without.parent}", "-DRINO_LINK_TORCH_CUDA=ON"))
    assert f"torch 2.11.0+cpu in {without} has no libtorch_cuda" in error


def test_packages_of_the_user_are_seen_from_pips_isolated_builds(tmp_path):
    # pip sets PYTHONNOUSERSITE there, and PYTHONPATH to the packages that it fetched for the build.
    base = getattr(sys, "_base_executable", sys.executable)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    folder = fake_torch(tmp_path / "user" / "lib" / version / "site-packages" / "torch")
    told = found(
        configure(
            tmp_path / "probe", python=base,
            PYTHONUSERBASE=str(tmp_path / "user"), PYTHONNOUSERSITE="1", PYTHONPATH=str(tmp_path),
        )
    )  # fmt: skip
    assert told["dir"] == str(folder)


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
    for module in (sys.modules["pyrino.recipe"], sys.modules["pyrino.jets.jets"], sys.modules["pyrino.views"]):
        results = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        assert results.failed == 0, module.__name__
        assert results.attempted > 0, module.__name__


def test_the_readmes_cpp_is_the_example_that_is_compiled():
    example = (ROOT / "examples" / "one_jet.cpp").read_text().strip()
    assert f"```cpp\n{example}\n```" in (ROOT / "README.md").read_text()
