#!/usr/bin/env bash
# Draws what a run finds in images and videos and writes KITTI result files.
# Flags of predict.py can follow, such as --submission=out.zip or
# --compare_labels=KITTI/training/label_2. Knobs:
#   MODEL       efficientdet-d0 ... d7x, lite0 ... lite4  efficientdet-d0
#   RECORDS     folder of train.record and val.record     ./finTfrecords
#   MODEL_DIR   folder of the run                         savedmodel/exp_kitti_d0
#   IMAGES      images, folders, globs, records, videos   <RECORDS>/val.record
#   OUT_DIR     where pictures and results go             <MODEL_DIR>/predictions
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
require_python
require_model
MODEL="${MODEL:-efficientdet-d0}" RECORDS="${RECORDS:-./finTfrecords}"
MODEL_DIR="${MODEL_DIR:-./savedmodel/exp_kitti_${MODEL#efficientdet-}}"

exec "$PYTHON" "$HERE/efficientdet/predict.py" --model_dir="$MODEL_DIR" \
  --images="${IMAGES:-$RECORDS/val.record}" \
  --output_dir="${OUT_DIR:-$MODEL_DIR/predictions}" "$@"
