#!/usr/bin/env bash
# Makes .venv in the repository and installs into it; does nothing where that is
# already done.
#   bash scripts/install.sh           what the commands need
#   bash scripts/install.sh dev       and what the tests need
#   LOCKED=1 bash scripts/install.sh  exactly the versions that were tested, each
#                                     held against its SHA-256; what the tests
#                                     need, too. scripts/lock.sh renews them.
# With an NVIDIA driver present it also tries one training step on the GPU.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
cd "$HERE"

EXTRA="${1:-}"
case "$EXTRA" in "" | dev) ;; *) fail "install.sh $EXTRA: expected nothing or dev" ;; esac
REQUIREMENTS=requirements.txt
[ "$EXTRA" = dev ] && REQUIREMENTS=requirements-dev.txt
LOCKED="${LOCKED:-0}"
[ "$LOCKED" = 0 ] || { LOCKED=1; EXTRA=dev; }

python_ok() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

if [ ! -x .venv/bin/python ]; then
  PYTHON=""
  for candidate in "${PYTHON_BIN:-}" python3.13 python3.12 python3.11 python3 python; do
    if [ -n "$candidate" ] && python_ok "$candidate"; then PYTHON="$candidate"; break; fi
  done
  if [ -z "$PYTHON" ]; then
    echo "error: no Python 3.11 to 3.13 found; install one, or name it: PYTHON_BIN=/path/to/python3.12" >&2
    exit 1
  fi
  echo "making .venv with $("$PYTHON" --version)"
  "$PYTHON" -m venv .venv || {
    echo "error: $PYTHON cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 1
  }
fi

GPU=""
command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU && GPU=gpu

# The stamp holds what was installed from: a changed requirement installs again.
STAMP=.venv/.installed
WANTED="$(cat requirements*.txt requirements*.lock pyproject.toml | cksum) $EXTRA $GPU locked=$LOCKED $PWD"

PIP=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
install_locked() {
  # What came from ranges came without a hash. Nothing is built: a build would fetch more.
  local AGAIN=--force-reinstall
  grep -qs "locked=1" "$STAMP" && AGAIN=""
  "${PIP[@]}" $AGAIN --require-hashes --only-binary=:all: -r "$1"
  "${PIP[@]}" --no-deps --no-build-isolation --editable .
}
install_ranges() {
  "${PIP[@]}" -r "$REQUIREMENTS" ${GPU:+-r requirements-gpu.txt}
  "${PIP[@]}" --no-deps --editable .
}

if [ "$(cat "$STAMP" 2>/dev/null)" != "$WANTED" ]; then
  echo "installing (about a minute; longer with a GPU, whose libraries are large)"
  if [ "$LOCKED" = 0 ]; then install_ranges; else install_locked "requirements${GPU:+-gpu}.lock"; fi
  [ -z "$GPU" ] || PYTHON="" bash scripts/gpu_check.sh || true # it has said what can be done
  echo "$WANTED" > "$STAMP"
fi
