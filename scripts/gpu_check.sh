#!/usr/bin/env bash
# Does one tiny training step on the GPU, and says what to do if that fails
# (exit code 1).
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
require_python

if ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
  cat >&2 <<'TXT'
error: no NVIDIA driver: `nvidia-smi -L` is absent or lists no GPU. With a card, install its driver
(CUDA 12.5 or newer) and run bash scripts/install.sh again; without one, training runs on the CPU.
TXT
  exit 1
fi

LOG="$(mktemp)"
trap 'rm -f "$LOG"' EXIT
echo "trying one training step on: $(nvidia-smi -L | head -1)"
# TensorFlow tells why it passes over a GPU in warnings, which the other commands hide.
if TF_CPP_MIN_LOG_LEVEL=0 PYTHONPATH="$HERE" timeout 600 "$PYTHON" -m efficientdet.commands.gpu_check >"$LOG" 2>&1 \
  && ! tail -1 "$LOG" | grep -q "training step on cpu"; then
  tail -1 "$LOG"
else
  echo "No step was done on the GPU. The last lines were:"
  tail -5 "$LOG" | cut -c1-300 | sed 's/^/  /'
  cat <<'TXT'
What you can do:
  1. An old driver is the usual reason: nvidia-smi must show CUDA 12.5 or newer at its top right.
  2. A card newer than TensorFlow's kernels (compute capability above 9.0) compiles them at the first
     start, which takes long once; or use JAX, which has them:
       .venv/bin/pip install "jax[cuda12]" && export KERAS_BACKEND=jax
  3. Train on the CPU: export CUDA_VISIBLE_DEVICES=-1
TXT
  exit 1
fi
