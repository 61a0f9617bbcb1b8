#!/usr/bin/env bash
# Makes one page of HTML of a run, or of several side by side: settings, data,
# curves, scores with intervals, the frames on which they differ. Flags of
# efficientdet.commands.report can follow. Knobs:
#   MODEL_DIR  runs: a,b,c; the first is what the   ./savedmodel/exp_kitti_d0
#              others are compared with
#   RECORDS    folder of val.record                 where evaluations found it
#   OUTPUT     the page                             ./compare.html
#   BOOTSTRAP  resamples for intervals, 0: none     1000
#   FRAMES     frames to show                       6
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
require_python
require_numbers BOOTSTRAP FRAMES

exec "$PYTHON" -m efficientdet.commands.report \
  --model_dir="${MODEL_DIR:-./savedmodel/exp_kitti_d0}" --output="${OUTPUT:-./compare.html}" \
  --bootstrap="${BOOTSTRAP:-1000}" --frames="${FRAMES:-6}" \
  ${RECORDS:+--val_file_pattern="$RECORDS/val.record"} "$@"
