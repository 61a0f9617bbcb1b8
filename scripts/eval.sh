#!/usr/bin/env bash
# Evaluates the newest checkpoint of a run (or the one that CKPT names). Flags
# of main.py can follow. Knobs:
#   MODEL       efficientdet-d0 ... d7x, lite0 ... lite4  efficientdet-d0
#   RECORDS     folder of train.record and val.record     ./finTfrecords
#   MODEL_DIR   folder of the run                         savedmodel/exp_kitti_d0
#   CKPT        another checkpoint                        none
#   EVAL_BATCH  images at once                            2
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
require_python
require_model
require_numbers EVAL_BATCH
MODEL="${MODEL-}" RECORDS="${RECORDS:-./finTfrecords}"
name="${MODEL:-efficientdet-d0}"
MODEL_DIR="${MODEL_DIR:-./savedmodel/exp_kitti_${name#efficientdet-}}"
[ -f "$MODEL_DIR/config.yaml" ] || MODEL="$name" # else the run knows

exec "$PYTHON" "$HERE/efficientdet/main.py" --mode=eval --model_dir="$MODEL_DIR" \
  --val_file_pattern="$RECORDS/val.record" --eval_batch_size="${EVAL_BATCH:-2}" \
  ${MODEL:+--model_name="$MODEL"} ${CKPT:+--ckpt="$CKPT"} "$@"
