#!/bin/sh
# Builds and runs the consumer project: run.sh <find_package | add_subdirectory> <build folder> <python with torch>
# [options of CMake]
set -eu
mode=$1
build=$2
python=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
mkdir -p "$build"

case $mode in
  find_package)
    cmake -S "$source" -B "$build/rino" -DPython_EXECUTABLE="$python" "$@"
    # Installed under one prefix and used from another: nothing in the package may name the first.
    rm -rf "$build/staged" "$build/prefix"
    cmake --install "$build/rino" --prefix "$build/staged"
    mv "$build/staged" "$build/prefix"
    set -- -DCMAKE_PREFIX_PATH="$build/prefix" "$@"
    ;;
  add_subdirectory)
    set -- -DRINO_SOURCE_DIR="$source" "$@"
    ;;
  *)
    echo "unknown mode '$mode': give find_package or add_subdirectory" >&2
    exit 2
    ;;
esac

cmake -S "$here" -B "$build/consumer" -DPython_EXECUTABLE="$python" "$@"
cmake --build "$build/consumer"
"$build/consumer/consumer" | tee "$build/output.txt"
version=$(sed -n 's/^project(rino VERSION \([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")
grep -qx "rino $version" "$build/output.txt"
