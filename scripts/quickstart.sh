#!/usr/bin/env bash
# The whole road in one command: install, convert, inspect, train, evaluate, resume, draw.
#
#   bash scripts/quickstart.sh                       on a small made-up KITTI set, about 5 minutes
#   KITTI_ROOT=/path bash scripts/quickstart.sh      on your KITTI folder (holds training/image_2)
#
# Knobs (environment variables) and their defaults:
#   OUT_DIR     where everything goes         ./quickstart_out  (made-up set), ./kitti_out (KITTI)
#   EPOCHS      epochs before the resume      7 (made-up set), 40 (KITTI)
#   BATCH       images an update              8 (made-up set), 4 (KITTI)
#   CKPT        COCO checkpoint to start from (KITTI only)      none: random weights
# Run again, it skips what is done.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
START=$SECONDS

say() { printf '\n== %s  (%d:%02d)\n' "$1" $(((SECONDS - START) / 60)) $(((SECONDS - START) % 60)); }

say "1/7 install into .venv"
bash "$HERE/scripts/install.sh"
PYTHON="$HERE/.venv/bin/python"
START=$SECONDS

if [ -n "${KITTI_ROOT:-}" ]; then
  OUT_DIR="${OUT_DIR:-./kitti_out}" EPOCHS="${EPOCHS:-40}" BATCH="${BATCH:-4}"
  HPARAMS="$HERE/configs/kitti_d0.yaml,mixed_precision=True" SPLIT="--split=drive" SIZE=1280x384
  [ -n "${CKPT:-}" ] || HPARAMS="$HERE/configs/kitti_from_scratch.yaml,mixed_precision=True"
else
  OUT_DIR="${OUT_DIR:-./quickstart_out}" EPOCHS="${EPOCHS:-7}" BATCH="${BATCH:-8}" CKPT=""
  HPARAMS="$HERE/configs/quickstart.yaml" SIZE=448x144
  KITTI_ROOT="$OUT_DIR/kitti"
fi
RECORDS="$OUT_DIR/records" MODEL_DIR="$OUT_DIR/efficientdet-d0"
mkdir -p "$OUT_DIR"

if [ -z "${SPLIT:-}" ]; then
  say "2/7 render street scenes in KITTI's format into $KITTI_ROOT"
  [ -f "$KITTI_ROOT/ImageSets/val.txt" ] ||
    "$PYTHON" -m efficientdet.dataset.synthetic --output_dir="$KITTI_ROOT" --num_frames=250
else
  say "2/7 KITTI in $KITTI_ROOT"
fi

say "3/7 convert to TFRecord"
for pair in training:train validation:val; do
  split="${SPLIT:---split=file --split_file=$KITTI_ROOT/ImageSets/${pair#*:}.txt}"
  # shellcheck disable=SC2086
  "$PYTHON" "$HERE/create_kitti_tf_record.py" --kitti_root="$KITTI_ROOT" --subset="${pair%:*}" \
    --output_path="$RECORDS/${pair#*:}.record" --label_map_path="$HERE/label_map.txt" $split
done

say "4/7 inspect the records"
"$PYTHON" "$HERE/inspect_tfrecord.py" --input="$RECORDS/train.record,$RECORDS/val.record" \
  --image_size="$SIZE" --report="$OUT_DIR/data_report.html"

run() {
  "$PYTHON" "$HERE/efficientdet/main.py" --model_name=efficientdet-d0 --model_dir="$MODEL_DIR" \
    --val_file_pattern="$RECORDS/val.record" --eval_batch_size=4 "$@"
}
train() {
  run --mode=train_and_eval --train_file_pattern="$RECORDS/train.record" --train_batch_size="$BATCH" \
    --num_epochs="$1" --hparams="$HPARAMS" ${CKPT:+--ckpt="$CKPT"}
}

say "5/7 train D0 for $EPOCHS epochs, evaluating after each"
train "$EPOCHS"

say "6/7 resume for one more epoch, and evaluate"
train $((EPOCHS + 1))
run --mode=eval

say "7/7 draw the boxes"
"$PYTHON" "$HERE/efficientdet/predict.py" --model_dir="$MODEL_DIR" --output_dir="$OUT_DIR/pictures" \
  --images="$KITTI_ROOT" --image_list="$KITTI_ROOT/ImageSets/val.txt" --max_images=24

cat <<TXT

Done in $(((SECONDS - START) / 60)) min $(((SECONDS - START) % 60)) s after the install. Open next:
  $OUT_DIR/data_report.html            what is in the records, and which anchors fit them
  $MODEL_DIR/eval/report.html   AP by class, size and difficulty; curves; the worst images
  $OUT_DIR/pictures/                   validation images with the boxes found
Curves: $PYTHON -m tensorboard.main --logdir=$OUT_DIR
TXT
