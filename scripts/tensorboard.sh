#!/usr/bin/env bash
# Shows the curves of all runs in a folder. Flags of TensorBoard can follow.
# Knobs:
#   LOGDIR   folder of runs, or of one   ./savedmodel
#   PORT     of http://localhost         6006
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
require_python
require_numbers PORT
LOGDIR="${LOGDIR:-./savedmodel}" PORT="${PORT:-6006}"
[ -d "$LOGDIR" ] || fail "$LOGDIR is no folder: train first, or say LOGDIR=folder"
find -L "$LOGDIR" -name "*tfevents*" | grep -q . ||
  echo "warning: $LOGDIR holds no curves yet; they appear once training writes them" >&2
echo "in order of subject: http://localhost:$PORT/#custom_scalars"
# It imports TensorFlow, whose C++ side speaks of CPU instructions and of a GPU that is not needed.
NOISE='^[IWE][0-9]{4} |^WARNING: All log messages before|^To enable the following instructions'
exec "$PYTHON" -m tensorboard.main --logdir="$LOGDIR" --port="$PORT" "$@" \
  2> >(grep --line-buffered -vE "$NOISE" >&2)
