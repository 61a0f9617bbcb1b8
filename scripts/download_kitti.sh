#!/usr/bin/env bash
# Fetches KITTI's left colour images (12.6 GB) and labels (6 MB) and unpacks
# them, so that a folder holds training/image_2 and training/label_2:
#   bash scripts/download_kitti.sh [FOLDER]   ./KIT
# What was interrupted, fetching or unpacking, goes on; what is there is left
# alone. About 19 GB are needed on the disk, 12.6 less once the zips are
# removed. Needs only some Python 3.11 or newer. Knobs:
#   ZIPS           folder that holds data_object_image_2.zip     none: they are
#                  and data_object_label_2.zip already           fetched
#   TESTING        1: testing/image_2, too (6 GB more)           0
#   IMAGES_SHA256  what the zips must have; else it is printed   none
#   LABELS_SHA256
#   KITTI_URL      base address of a mirror                      KITTI's own
# KITTI's data are under CC BY-NC-SA 3.0:
# https://www.cvlibs.net/datasets/kitti
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
command -v "$PYTHON" >/dev/null || PYTHON=python3
require_numbers TESTING

PYTHONPATH="$HERE" exec "$PYTHON" -m efficientdet.commands.download_kitti \
  ${ZIPS:+--zips="$ZIPS"} ${IMAGES_SHA256:+--images_sha256="$IMAGES_SHA256"} \
  ${LABELS_SHA256:+--labels_sha256="$LABELS_SHA256"} $([ "${TESTING:-0}" = 0 ] || echo --testing) "$@"
