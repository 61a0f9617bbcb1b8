#!/usr/bin/env bash
# Goes on with a run from its newest checkpoint, with the hyper-parameters it was started with. Knobs:
#   MODEL       efficientdet-d0 ... d7x, lite0 ... lite4       efficientdet-d0
#   RECORDS     folder of train.record and val.record          ./finTfrecords
#   MODEL_DIR   folder of the run                              ./savedmodel/exp_kitti_d0
#   BATCH       images an update                               4
#   EPOCHS      epochs in all, those already done included     40
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${PYTHON:-$HERE/.venv/bin/python}"
MODEL="${MODEL:-efficientdet-d0}" RECORDS="${RECORDS:-./finTfrecords}"
MODEL_DIR="${MODEL_DIR:-./savedmodel/exp_kitti_${MODEL#efficientdet-}}"
[ -f "$MODEL_DIR/config.yaml" ] || { echo "error: $MODEL_DIR holds no run to resume" >&2; exit 1; }

exec "$PYTHON" "$HERE/efficientdet/main.py" --mode=train_and_eval --model_name="$MODEL" \
  --train_file_pattern="$RECORDS/train.record" --val_file_pattern="$RECORDS/val.record" \
  --model_dir="$MODEL_DIR" --train_batch_size="${BATCH:-4}" --eval_batch_size="${EVAL_BATCH:-2}" \
  --num_epochs="${EPOCHS:-40}" "$@"
