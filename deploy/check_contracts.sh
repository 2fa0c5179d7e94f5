#!/bin/sh
# The protos are well-formed, do not break what main promised, and protos/gen is what they generate.
# usage: deploy/check_contracts.sh [BASE]   BASE: the commit to compare with; by default origin/main or, on it, its parent
set -eu
cd "$(dirname "$0")/.."
buf lint protos
buf format --diff --exit-code protos

head=$(git rev-parse HEAD)
base=${1:-$(git rev-parse --verify --quiet origin/main || echo "$head")}
[ "$(git rev-parse "$base")" != "$head" ] || base=$(git rev-parse --verify --quiet HEAD~1 || true)
if [ -n "$base" ] && git cat-file -e "$base:protos/buf.yaml" 2>/dev/null; then
    buf breaking protos --against ".git#ref=$base,subdir=protos"
else
    echo "buf breaking: main has no protos yet, nothing to compare with"
fi

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
protos/generate.sh "$fresh"
if ! diff -r --exclude=__pycache__ "$fresh" protos/gen >/dev/null; then
    diff -rq --exclude=__pycache__ "$fresh" protos/gen || true
    echo "protos/gen is not what protos/ generates: run make protos" >&2
    exit 1
fi
