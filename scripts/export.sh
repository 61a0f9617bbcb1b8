#!/usr/bin/env bash
# Writes a run as SavedModel, TFLite and ONNX, and scores each file. Flags of
# export.py can follow. Knobs:
#   MODEL       efficientdet-d0 ... d7x, lite0 ... lite4  efficientdet-d0
#   RECORDS     folder of train.record and val.record     ./finTfrecords
#   MODEL_DIR   folder of the run                         savedmodel/exp_kitti_d0
#   OUT_DIR     where the files go                        <MODEL_DIR>/exported
#   FORMAT      of saved_model, tflite and onnx           all three
#   QUANTIZE    of fp32, fp16, int8; a TFLite file each   fp32
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
require_python
require_model
MODEL="${MODEL:-efficientdet-d0}" RECORDS="${RECORDS:-./finTfrecords}"
MODEL_DIR="${MODEL_DIR:-./savedmodel/exp_kitti_${MODEL#efficientdet-}}"
CALIBRATION=""
case "${QUANTIZE-}" in *int8*) CALIBRATION="$RECORDS/train.record" ;; esac

exec "$PYTHON" "$HERE/efficientdet/export.py" --model_dir="$MODEL_DIR" \
  --output_dir="${OUT_DIR:-$MODEL_DIR/exported}" --val_file_pattern="$RECORDS/val.record" \
  ${FORMAT:+--format="$FORMAT"} ${QUANTIZE:+--quantize="$QUANTIZE"} \
  ${CALIBRATION:+--calibration="$CALIBRATION"} "$@"
