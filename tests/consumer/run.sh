#!/bin/sh
# Builds and runs a consumer project: run.sh <find_package | add_subdirectory | core> <build folder> <python with torch>
# [options of CMake]
#
#   find_package, add_subdirectory  the installed package, the source tree
#   core                            the installed package where there is no FastJet
set -eu
mode=$1
build=$2
python=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
project=$here
mkdir -p "$build"

install_package() {
  cmake -S "$source" -B "$build/rino" -DPython_EXECUTABLE="$python" "$@"
  # Installed under one prefix and used from another: nothing in the package may name the first.
  rm -rf "$build/staged" "$build/prefix"
  cmake --install "$build/rino" --prefix "$build/staged"
  mv "$build/staged" "$build/prefix"
}

case $mode in
  find_package)
    install_package "$@"
    set -- -DCMAKE_PREFIX_PATH="$build/prefix" "$@"
    ;;
  core)
    # Whoever looks for FastJet ends here.
    set -- -DCMAKE_DISABLE_FIND_PACKAGE_FastJet=ON "$@"
    install_package -DRINO_FASTJET=OFF "$@"
    project=$here/core
    set -- -DCMAKE_PREFIX_PATH="$build/prefix" "$@"
    ;;
  add_subdirectory)
    set -- -DRINO_SOURCE_DIR="$source" "$@"
    ;;
  *)
    echo "unknown mode '$mode': give find_package, add_subdirectory or core" >&2
    exit 2
    ;;
esac

cmake -S "$project" -B "$build/consumer" -DPython_EXECUTABLE="$python" "$@"
cmake --build "$build/consumer"
"$build/consumer/consumer" >"$build/output.txt" || { cat "$build/output.txt"; exit 1; }
cat "$build/output.txt"
test "$project" = "$here" || exit 0
version=$(sed -n 's/^project(rino VERSION \([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")
grep -qx "rino $version" "$build/output.txt"
