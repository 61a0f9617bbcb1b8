#!/usr/bin/env bash
# Installs what the tests need into .venv, then runs ruff and pytest. Arguments
# go to pytest.
#   bash scripts/test.sh
#   bash scripts/test.sh tests/dataset -k label
#   LOCKED=1 bash scripts/test.sh    with the very versions of requirements.lock
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
cd "$HERE"

bash scripts/install.sh dev
echo "ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "pytest (under 10 minutes on 2 cores)"
.venv/bin/python -m pytest -n "${TEST_WORKERS:-2}" --dist worksteal "$@"
