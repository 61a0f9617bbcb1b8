#!/usr/bin/env bash
# Draws docs/report.png, the picture in the README, from an evaluation report of the made-up street:
#   bash scripts/quickstart.sh && bash docs/picture.sh
#   bash docs/picture.sh REPORT.html      from another one
# Needs Chromium (CHROMIUM names another browser of its kind); never run it on KITTI's pixels.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
PYTHON="${PYTHON:-$HERE/../.venv/bin/python}"
REPORT="${1:-./quickstart_out/efficientdet-lite0/eval/report.html}"
[ -f "$REPORT" ] || { echo "error: $REPORT is not there; run scripts/quickstart.sh first" >&2; exit 1; }

"${CHROMIUM:-chromium}" --headless --no-sandbox --disable-gpu --hide-scrollbars \
  --window-size=1100,1130 --screenshot="$HERE/report.png" "$REPORT" 2>/dev/null
# 64 colours are enough for text and lines, and take a third of the bytes.
"$PYTHON" - "$HERE/report.png" <<'PY'
import sys

from PIL import Image

Image.open(sys.argv[1]).convert("RGB").quantize(64).save(sys.argv[1], optimize=True)
PY
ls -l "$HERE/report.png"
