#!/bin/sh
# Builds and runs a consumer project: run.sh <find_package | add_subdirectory | core | own_method> <build folder>
# <python with torch> [options of CMake]
#
#   find_package, add_subdirectory  the installed package, the source tree
#   core                            the installed package where there is no FastJet
#   own_method                      the installed package and a method that is not rino's; needs toml++
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
  find_package | own_method)
    install_package "$@"
    test "$mode" = find_package || project=$here/own_method
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
    echo "unknown mode '$mode': give find_package, add_subdirectory, core or own_method" >&2
    exit 2
    ;;
esac

cmake -S "$project" -B "$build/consumer" -DPython_EXECUTABLE="$python" "$@"
cmake --build "$build/consumer"
"$build/consumer/consumer" "$project/recipe.toml" >"$build/output.txt" || { cat "$build/output.txt"; exit 1; }
cat "$build/output.txt"
case $mode in
  core) ;;
  own_method)
    grep -qx "hardness with an encoder of width 16" "$build/output.txt"
    grep -qx "chart 'resolution'" "$build/output.txt"
    grep -qx "  mean squared error: .* to .*" "$build/output.txt"
    grep -qx "  found: .* to .*" "$build/output.txt"
    ;;
  *)
    version=$(sed -n 's/^project(rino VERSION \([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")
    grep -qx "rino $version" "$build/output.txt"
    ;;
esac
