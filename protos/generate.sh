#!/bin/sh
# Generates protos/gen (committed) from protos/media; `make protos` runs it, `make check` fails when its output differs from what is committed.
# usage: protos/generate.sh [OUT]   with the virtual environment's bin on PATH
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-"$root/protos/gen"}
mkdir -p "$out"
cd "$root/protos"
python -m grpc_tools.protoc -I . \
    --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
    media/v1/*.proto
for package in media media/v1; do
    printf '"""Generated from protos/media; see protos/generate.sh."""\n' >"$out/$package/__init__.py"
    touch "$out/$package/py.typed"
done
