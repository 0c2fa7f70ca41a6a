#!/bin/sh
# Make the environment of `python -m bench.gpu` on a machine with a GPU, run from the repository's root:
#
#   sh bench/gpu/setup.sh [FOLDER]              a new environment (default: .venv-gpu) with the pinned versions
#   WHEELS=DIR sh bench/gpu/setup.sh here       into the Python on the PATH, without a network: only what it lacks, from
#                                               wheels in DIR; its own torch and transformers stay, rows name their versions
set -eu
folder=$(dirname "$0")
target=${1:-.venv-gpu}
if [ "$target" = here ]; then
  for wheel in "${WHEELS:?the folder of wheels}"/*.whl; do
    name=$(basename "$wheel" | cut -d- -f1)
    python3 -m pip show -q "$name" 2>/dev/null || python3 -m pip install -q --no-index --no-deps "$wheel"
  done
  python=python3
else
  python3 -m venv "$target"
  "$target/bin/python" -m pip install -q -r "$folder/requirements.txt"
  python=$target/bin/python
fi
"$python" -c 'import torch; print(torch.__version__, torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU")'
