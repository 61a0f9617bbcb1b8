#!/usr/bin/env bash
# Fetches a published checkpoint and unpacks it:
#   bash scripts/download_checkpoint.sh efficientdet-d0
# --help names the others. Needs no installation, only some Python 3.11 or newer.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${PYTHON:-$HERE/.venv/bin/python}"
[ -x "$PYTHON" ] || PYTHON=python3
PYTHONPATH="$HERE" exec "$PYTHON" -m efficientdet.commands.download ${SHA256:+"--sha256=$SHA256"} "$@"
