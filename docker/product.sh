#!/bin/sh
# Install this checkout for the environment $1 into the folder $2, which the Dockerfile copies over the environment.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=docker/common.sh
. "$here/common.sh"
environment=$1 target=$2

"$PYTHON" -m venv /tmp/build
/tmp/build/bin/python -m pip -q install --require-hashes --only-binary :all: -r "$here/build-environment.lock"
/tmp/build/bin/python -m pip -q wheel --no-deps --no-build-isolation -w /tmp/wheels "$here/.." "$here/../packages/biomero"
/tmp/build/bin/python -m pip --python "$environment/bin/python" -q install --no-index --no-deps --no-compile \
    --prefix "$target" /tmp/wheels/*.whl
rm -rf /tmp/build /tmp/wheels
sh "$here/finish.sh" "$environment" "$target"
