#!/bin/sh
# Makes .venv hold exactly what requirements.lock names, hashes checked, and this checkout as an editable package.
# usage: deploy/install.sh   (PYTHON names the interpreter, 3.11 or newer; python3 by default)
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
if [ ! -x .venv/bin/uv ]; then
    # uv's own lines of the lock, so that even the installer is pinned by hash
    awk '/^uv==/ {inside = 1; print; next} inside && /^ / {print; next} inside {exit}' requirements.lock >.venv/uv.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
fi
VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip sync --quiet --require-hashes requirements.lock
VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
if ! command -v npm >/dev/null; then
    VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip install --quiet --require-hashes -r requirements-node.lock
fi
