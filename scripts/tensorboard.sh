#!/usr/bin/env bash
# Shows the curves of all runs in a folder. Knobs: LOGDIR=./savedmodel PORT=6006
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
exec "${PYTHON:-$HERE/.venv/bin/python}" -m tensorboard.main --logdir="${LOGDIR:-./savedmodel}" --port="${PORT:-6006}" "$@"
