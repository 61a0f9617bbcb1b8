#!/usr/bin/env bash
# Does one tiny training step on the GPU, and says what to do if that fails.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

LOG="$(mktemp)"
trap 'rm -f "$LOG"' EXIT
echo "trying one training step on: $(nvidia-smi -L | head -1)"
if timeout 600 .venv/bin/python -m efficientdet.training.smoke >"$LOG" 2>&1; then
  tail -1 "$LOG"
else
  echo "The GPU step failed. The last lines were:"
  tail -5 "$LOG" | sed 's/^/  /'
  cat <<'TXT'
What you can do:
  1. An old driver is the usual reason: nvidia-smi must show CUDA 12.5 or newer at its top right.
  2. A card newer than TensorFlow's kernels (compute capability above 9.0) compiles them at the first
     start, which takes long once; or use JAX, which has them:
       .venv/bin/pip install "jax[cuda12]" && export KERAS_BACKEND=jax
  3. Train on the CPU: export CUDA_VISIBLE_DEVICES=-1
TXT
fi
