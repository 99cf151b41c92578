#!/bin/sh
# Compiles and runs what needs no LibTorch (jets, clustering, transforms, SIMD) for other processors and by another
# compiler: run.sh <build folder> <python with Eigen's headers>. Compilers that are not installed are left out, and that
# is said. `make portability` installs them first.
set -eu
build=$1
python=$2
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
eigen=$("$python" -c 'import cmeel, pathlib; print(pathlib.Path(cmeel.__file__).parent.parent / "cmeel.prefix/include/eigen3")')
tests="core jets jet_pool kinematics resolution transforms augmentations toy_shower"
mkdir -p "$build/include"
ln -sfn /usr/include/catch2 "$build/include/catch2"  # not all of /usr/include, which is this processor's
printf '#define CATCH_CONFIG_MAIN\n#include <catch2/catch.hpp>\n' >"$build/main.cpp"
flags="-std=c++20 -O2 -Wall -Wextra -Wpedantic -Wconversion -Werror -I$source/include -I$source/tests/cpp \
  -isystem $build/include -isystem $eigen"

# portable <name> <how programs are run> <compiler and its flags>
portable() {
  name=$1 run=$2 compile=$3
  if ! command -v "${compile%% *}" >/dev/null || { test -n "$run" && ! command -v "${run%% *}" >/dev/null; }; then
    echo "$name: not run, there is no ${compile%% *} or ${run%% *}"
    return
  fi
  to="$build/$name"
  mkdir -p "$to"
  # shellcheck disable=SC2086
  {
    $compile -std=c++20 -w -isystem "$build/include" -c "$build/main.cpp" -o "$to/main.o"
    objects=$to/main.o
    for test in $tests; do
      $compile $flags -c "$source/tests/cpp/test_$test.cpp" -o "$to/$test.o"
      objects="$objects $to/$test.o"
    done
    $compile $flags -c "$source/include/rino/kernels.cpp" -o "$to/kernels.o"
    $compile -o "$to/tests" $objects -pthread
    $compile $flags "$here/digests.cpp" -o "$to/digests" -pthread
    test -e "$build/jets" || $run "$to/digests" make "$build/jets"
    $run "$to/tests" | tail -n 2
    $run "$to/digests" "$build/jets" >"$to/views"
  }
  cmp "$build/native/views" "$to/views"
  echo "$name: $($compile --version | head -n 1): the tests pass and views have the same bits"
}

rm -f "$build/jets"
portable native "" "g++"
portable x86-64 "" "g++ -march=x86-64"
portable clang "" "clang++-19"
portable aarch64 "qemu-aarch64 -L /usr/aarch64-linux-gnu" "aarch64-linux-gnu-g++"
