#!/usr/bin/env bash
# Trains on records and evaluates after each epoch; the same command again resumes. Knobs:
#   MODEL       efficientdet-d0 ... d7x, lite0 ... lite4       efficientdet-d0
#   RECORDS     folder of train.record and val.record          ./finTfrecords
#   MODEL_DIR   folder of the run                              ./savedmodel/exp_kitti_d0
#   CKPT        COCO checkpoint to start from                  ./<MODEL>/model where it exists, else none
#   BATCH       images an update                               4
#   EPOCHS      epochs                                         40
#   HPARAMS     yaml files and key=value pairs                 configs/kitti_d0.yaml of the model
# Further flags of main.py can follow: bash scripts/train_and_eval.sh --grad_accum_steps=2
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${PYTHON:-$HERE/.venv/bin/python}"
MODEL="${MODEL:-efficientdet-d0}" RECORDS="${RECORDS:-./finTfrecords}"
MODEL_DIR="${MODEL_DIR:-./savedmodel/exp_kitti_${MODEL#efficientdet-}}"
CONFIG="$HERE/configs/kitti_${MODEL#efficientdet-}.yaml"
[ -f "$CONFIG" ] || CONFIG="$HERE/configs/kitti_d0.yaml"
CKPT="${CKPT-}"
[ -z "$CKPT" ] && [ -f "./$MODEL/model.index" ] && CKPT="./$MODEL/model"
if [ -z "$CKPT" ] && [ ! -f "$MODEL_DIR/config.yaml" ]; then
  echo "no COCO checkpoint in ./$MODEL: training starts from random weights" >&2
  echo "(scripts/download_checkpoint.sh $MODEL fetches one)" >&2
fi

exec "$PYTHON" "$HERE/efficientdet/main.py" --mode=train_and_eval --model_name="$MODEL" \
  --train_file_pattern="$RECORDS/train.record" --val_file_pattern="$RECORDS/val.record" \
  --model_dir="$MODEL_DIR" ${CKPT:+--ckpt="$CKPT"} --train_batch_size="${BATCH:-4}" \
  --eval_batch_size="${EVAL_BATCH:-2}" --num_epochs="${EPOCHS:-40}" \
  --hparams="${HPARAMS:-$CONFIG,mixed_precision=True}" "$@"
