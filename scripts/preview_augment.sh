#!/usr/bin/env bash
# Draws a sheet of training samples as the network gets them: look before you
# train. Knobs:
#   RECORDS   folder of train.record           ./finTfrecords
#   OUT       picture to write                 ./augmented.png
#   HPARAMS   yaml files and key=value pairs   configs/kitti_d0.yaml
# For example:
#   HPARAMS=configs/kitti_d0.yaml,mosaic_prob=1 bash scripts/preview_augment.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
require_python

exec "$PYTHON" -m efficientdet.commands.preview --input="${RECORDS:-./finTfrecords}/train.record" \
  --output="${OUT:-./augmented.png}" --hparams="${HPARAMS:-$HERE/configs/kitti_d0.yaml}" "$@"
