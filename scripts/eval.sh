#!/usr/bin/env bash
# Evaluates the newest checkpoint of a run (or the one that CKPT names). Knobs:
#   MODEL       efficientdet-d0 ... d7x, lite0 ... lite4       efficientdet-d0
#   RECORDS     folder of train.record and val.record          ./finTfrecords
#   MODEL_DIR   folder of the run                              ./savedmodel/exp_kitti_d0
#   CKPT        another checkpoint                             none
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${PYTHON:-$HERE/.venv/bin/python}"
MODEL="${MODEL:-efficientdet-d0}" RECORDS="${RECORDS:-./finTfrecords}"
MODEL_DIR="${MODEL_DIR:-./savedmodel/exp_kitti_${MODEL#efficientdet-}}"

exec "$PYTHON" "$HERE/efficientdet/main.py" --mode=eval --model_name="$MODEL" \
  --val_file_pattern="$RECORDS/val.record" --model_dir="$MODEL_DIR" ${CKPT:+--ckpt="$CKPT"} \
  --eval_batch_size="${EVAL_BATCH:-2}" "$@"
