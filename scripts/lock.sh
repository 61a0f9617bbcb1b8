#!/usr/bin/env bash
# Writes requirements.lock and requirements-gpu.lock, which LOCKED=1 installs
# from: every package of the requirements with its version and its SHA-256s, for
# Python 3.11 to 3.13 and every system.
#   bash scripts/lock.sh            keeps the versions, as far as they still fit
#   bash scripts/lock.sh --upgrade  takes the newest; then run the tests with
#                                   LOCKED=1
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
cd "$HERE"

TOOLS="$(mktemp -d)"
trap 'rm -rf "$TOOLS"' EXIT
"${PYTHON_BIN:-python3}" -m venv "$TOOLS"
"$TOOLS/bin/python" -m pip install --quiet --disable-pip-version-check "uv>=0.9,<1"

lock() {
  "$TOOLS/bin/uv" pip compile --quiet --universal --python-version=3.11 --only-binary=:all: \
    --generate-hashes --no-emit-index-url --no-annotate \
    --custom-compile-command="bash scripts/lock.sh" "$@"
}
lock requirements-dev.txt --output-file=requirements.lock "$@"
# The same versions, and CUDA's libraries.
lock requirements-dev.txt requirements-gpu.txt --constraints=requirements.lock \
  --output-file=requirements-gpu.lock "$@"
