#!/bin/sh
# Installs pyrino beside a CUDA build of torch, as users do where there is no CUDA toolkit, and trains on the CPU; then a
# C++ program: cuda_build.sh <environment to make> <torch==version>. A toolkit that happens to be here is not looked for,
# which is checked.
set -eu
venv=$1
torch=$2
source=$(cd "$(dirname "$0")/../.." && pwd)
unset CUDA_HOME CUDA_PATH CUDACXX

test -x "$venv/bin/python" || "${PYTHON:-python3}" -m venv "$venv"
venv=$(cd "$venv" && pwd)
python=$venv/bin/python
export PATH="$venv/bin:$PATH"
"$python" -m pip install --quiet "$torch"
"$python" -c "import torch; assert torch.version.cuda, f'{torch.__version__} is no CUDA build'"

no_toolkit_in() {
  if grep -i '^[a-z0-9_]*cuda[a-z0-9_]*:' "$1/CMakeCache.txt" | grep -v '^RINO_LINK_TORCH_CUDA:'; then
    echo "CMake looked for a CUDA toolkit" >&2
    exit 1
  fi
}

# Built in folders of the environment, so that an editable build of the same source tree stays as it is.
install() {
  name=$1
  shift
  "$python" -m pip install --quiet --config-settings=build-dir="$venv/build-$name" "$@" "$source"
  no_toolkit_in "$venv/build-$name"
  (cd "$venv" && "$python" - "$name") <<'END'
import sys

import torch

import pyrino as rino

jets = rino.toy_jets(64, seed=1)
losses = [step["loss"] for step in rino.Trainer(rino.Recipe.preset("nano", epochs=1, batch_size=32), jets)]
print(f"{sys.argv[1]}: torch {torch.__version__}, rino of {rino.__file__}, losses", *losses)
END
}
install isolated
"$python" -m pip install --quiet scikit-build-core pybind11 cmeel-eigen cmake
install not-isolated --no-build-isolation --no-deps --force-reinstall

"$source/tests/consumer/run.sh" find_package "$venv/build-consumer" "$python" -DRINO_LINK_TORCH_CUDA=ON
no_toolkit_in "$venv/build-consumer/consumer"
readelf -d "$venv/build-consumer/consumer/consumer" | grep 'NEEDED.*libtorch_cuda'
