#!/bin/sh
# Make the layer $2: this checkout, installed into the environment $1, and the startup scripts.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=container/image/common.sh
. "$here/common.sh"
environment=$1 layer=$2

"$PYTHON" -m venv /tmp/build
/tmp/build/bin/python -m pip -q install --require-hashes --only-binary :all: -r "$here/build-environment.lock"
/tmp/build/bin/python -m pip -q wheel --no-deps --no-build-isolation -w /tmp/wheels \
    "$here/../.." "$here/../../packages/biomero"
/tmp/build/bin/python -m pip --python "$environment/bin/python" -q install --no-index --no-deps --no-compile \
    --prefix "$layer$environment" /tmp/wheels/*.whl
rm -rf /tmp/build /tmp/wheels
cp -R "$here/../../startup" "$layer/startup"
"$PYTHON" "$here/finish.py" --environment "$environment" "$layer"
