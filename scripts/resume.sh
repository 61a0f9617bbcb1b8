#!/usr/bin/env bash
# Goes on with a run from its newest checkpoint, as it was started. Knobs: those
# of train_and_eval.sh; MODEL_DIR (or MODEL) says which run, RECORDS where its
# records lie, the others change the run:
#   EPOCHS=60 bash scripts/resume.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
name="${MODEL:-efficientdet-d0}"
export MODEL_DIR="${MODEL_DIR:-./savedmodel/exp_kitti_${name#efficientdet-}}"
if ! ls "$MODEL_DIR"/model.ckpt-*.index >/dev/null 2>&1; then
  echo "error: $MODEL_DIR holds no checkpoint to go on from; MODEL_DIR names another folder" >&2
  exit 1
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/train_and_eval.sh" "$@"
