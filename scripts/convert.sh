#!/usr/bin/env bash
# KITTI folders -> records, then a check of both. Flags of
# create_kitti_tf_record.py can follow. Knobs (environment variables), defaults:
#   KITTI_ROOT  folder that holds training/image_2 and label_2   (must be given)
#   OUT_DIR     where train.record and val.record go             ./finTfrecords
#   SPLIT       drive | chen | random (makes AP look better)     drive
#   IMAGE_SIZE  input size of the anchor report                  1280x384
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
require_python
[ -n "${KITTI_ROOT-}" ] ||
  fail "set KITTI_ROOT to the folder that holds training/image_2 and training/label_2"
OUT_DIR="${OUT_DIR:-./finTfrecords}" SPLIT="${SPLIT:-drive}" IMAGE_SIZE="${IMAGE_SIZE:-1280x384}"
accepted=""
if [ "$SPLIT" = random ]; then
  accepted=--allow_shared_drives
  echo "warning: SPLIT=random puts frames of one drive into train and val: AP will look better" \
    "than it is; SPLIT=drive does not" >&2
fi

for pair in training:train validation:val; do
  "$PYTHON" "$HERE/create_kitti_tf_record.py" --kitti_root="$KITTI_ROOT" --subset="${pair%:*}" \
    --output_path="$OUT_DIR/${pair#*:}.record" --label_map_path="$HERE/label_map.txt" --split="$SPLIT" "$@"
done
"$PYTHON" "$HERE/inspect_tfrecord.py" --input="$OUT_DIR/train.record,$OUT_DIR/val.record" \
  --image_size="$IMAGE_SIZE" --report="$OUT_DIR/report.html" $accepted
