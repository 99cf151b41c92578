# make demo   sets up, builds, runs the main job, ends with runs/demo/report.html
# make test   sets up, builds, runs every test
#
# Everything lands in .venv, build and runs. Change on the command line what should be different:
#   make test TORCH=torch==2.11.0 PYTHON=python3.12
PYTHON ?= python3
TORCH ?= torch==2.13.0
JOBS ?= 2
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
# How long OpenMP's threads spin before they sleep while they wait for each other. Much longer, and whatever else runs on
# the machine slows training tenfold; not at all, and a second core is of no use to a network this small.
export GOMP_SPINCOUNT ?= 20000
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: all demo study test test-cpp test-python headers bench gpu cuda-build portability lint format deps build clean
all: build

# Debian's Catch2 and toml++ have no wheels; ccache is only for speed. Only what is missing is asked for, and without
# toml++ C++ does not read TOML, which is tested no more.
APT_NEEDED := $(shell command -v g++ >/dev/null || echo g++) \
              $(if $(wildcard /usr/include/catch2 /usr/local/include/catch2),,catch2) \
              $(shell command -v ccache >/dev/null || echo ccache)
APT_WANTED := $(if $(wildcard /usr/include/toml++ /usr/local/include/toml++),,libtomlplusplus-dev)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -n)
APT_INSTALL = DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends

.PHONY: apt
apt:
	@set -- $(APT_NEEDED) $(APT_WANTED); test $$# != 0 || exit 0; \
	if command -v apt-get >/dev/null && $(SUDO) true 2>/dev/null; then \
	  echo "installing $$*"; \
	  $(SUDO) apt-get update -qq; \
	  test -z "$(strip $(APT_NEEDED))" || $(APT_INSTALL) $(APT_NEEDED) >/dev/null || exit 1; \
	  test -z "$(APT_WANTED)" || $(APT_INSTALL) $(APT_WANTED) >/dev/null || echo "going on without $(APT_WANTED)"; \
	else \
	  echo "please install: apt-get install $$*   (none but g++ is needed for 'make demo')"; \
	fi

deps: apt $(VENV)/.installed
$(VENV)/.installed: requirements.txt $(VENV)/.compiles
	$(PIP) install --quiet -r requirements.txt
	touch $@

# What compilers need comes first: the rest is fetched while they work.
$(VENV)/.compiles: requirements-build.txt $(VENV)/.torch
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "$(TORCH)" -r requirements-build.txt
	touch $@
BESIDE = $(MAKE) --no-print-directory --jobs=2 $(VENV)/.installed

# Another TORCH is another environment, and all that was built with the last one is built anew.
$(VENV)/.torch: FORCE
	@mkdir -p $(VENV) && { echo "$(TORCH)" | cmp -s - $@ || echo "$(TORCH)" >$@; }
.PHONY: FORCE
FORCE:

CPP := $(shell find include cmake -type f) CMakeLists.txt
PY_CPP := $(wildcard python/src/*) python/CMakeLists.txt pyproject.toml

# The Python module, editable: changes of .py files need no new build.
build: apt $(VENV)/.compiles
	$(BESIDE) $(VENV)/.built
$(VENV)/.built: $(VENV)/.compiles $(CPP) $(PY_CPP)
	CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) $(PIP) install --quiet --no-build-isolation --no-deps --editable .
	touch $@

# The C++ tests, examples and benchmarks.
build/cpp/.built: $(VENV)/.compiles $(CPP) $(shell find tests/cpp examples benchmarks -name '*.cpp' -o -name '*.hpp' -o -name CMakeLists.txt)
	cmake --preset default -DPython_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python >build-cpp.log 2>&1 || { cat build-cpp.log; exit 1; }
	rm -f build-cpp.log
	cmake --build --preset default --parallel $(JOBS)
	touch $@

demo: build
	$(VENV)/bin/pyrino study --preset demo --out runs/demo

study: build
	$(VENV)/bin/pyrino study --preset study --out runs/study

test: test-cpp test-python

test-cpp: apt $(VENV)/.compiles
	$(BESIDE) build/cpp/.built
	ctest --preset default --parallel $(JOBS)

# A third of the tests wait: for other ranks, servers, signals.
test-python: build build/cpp/.built
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses $$(($(JOBS) + 1)) --dist loadfile --no-loadscope-reorder

# Every public header compiles alone, warnings are errors: 20 minutes from nothing (estimated), so no part of
# `make test`.
headers: build/cpp/.built
	cmake --build --preset default --parallel $(JOBS) --target headers_alone

# All benchmarks in their short form, in ten minutes on two idle cores; results in build/bench.
bench: build build/cpp/.built
	$(VENV)/bin/python benchmarks/run.py

# All that has to be seen on a GPU, in less than ten minutes: tests, steps, embedding, a profile, NCCL. Results and a page
# in benchmarks/results/gpu.json and gpu.md. TORCH must be a build with CUDA. Tests try it on a device that needs no GPU.
gpu: build
	$(VENV)/bin/python benchmarks/gpu.py

# A CUDA build of torch on a machine without a CUDA toolkit, in an environment of its own: builds, imports, trains on the
# CPU. It fetches 5 GB and is no part of `make test`.
CUDA_TORCH ?= torch==2.11.0
CUDA_VENV ?= build/cuda-venv
cuda-build:
	PYTHON="$(PYTHON)" tests/consumer/cuda_build.sh $(CUDA_VENV) "$(CUDA_TORCH)"

# Jets, clustering, transforms and SIMD on other processors and by another compiler, an hour on two cores (estimated).
portability: APT_NEEDED += clang-19 g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
portability: deps
	tests/portability/run.sh build/portability $(VENV)/bin/python

SOURCES := $(shell find include python/src tests/cpp tests/portability tests/clang tests/consumer tests/foreign \
                         examples benchmarks -name '*.hpp' -o -name '*.cpp' -o -name '*.inc')
# The second compiler: a clang of 16 or later, the headers of others from where pip put them.
CLANG = $(shell for v in 16 17 18 19 20 21 22; do command -v clang++-$$v && break; done)
SITE = $(shell $(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
OTHERS = $(addprefix -isystem $(SITE)/,torch/include torch/include/torch/csrc/api/include fastjet/include cmeel.prefix/include/eigen3)
# Of no use to anything but lint, and large: not among the requirements.
TIDY ?= clang-tidy==23.1.4
lint: APT_NEEDED += $(if $(CLANG),,clang-16)
lint: deps $(VENV)/.built
	clang-format --dry-run --Werror $(SOURCES)
	ruff check .
	ruff format --check .
	mypy
	$(or $(CLANG),clang++-16) -std=c++20 -fsyntax-only -DRINO_FASTJET -Wall -Wextra -Wpedantic -Wconversion -Werror -Iinclude \
	  $(OTHERS) tests/clang/everything.cpp
	$(PIP) install --quiet "$(TIDY)"
	clang-tidy --quiet tests/clang/everything.cpp -- -std=c++20 -DRINO_FASTJET -DRINO_KERNELS_ELSEWHERE -Iinclude $(OTHERS)

format: deps
	clang-format -i $(SOURCES)
	ruff format .
	ruff check --fix .

clean:
	rm -rf build $(VENV)/.built
