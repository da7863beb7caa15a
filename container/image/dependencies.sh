#!/bin/sh
# Make the environment $1 with what biomeroworker and the scripts of others need: the zeroc-ice wheel of the folder $2 and
# the versions of container/image/requirements.lock, each checked by its hash. It is a layer, the folder $3.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=container/image/common.sh
. "$here/common.sh"
environment=$1 wheels=$2 layer=$3

require_python
# pip has an environment of its own, which is not part of the image.
"$PYTHON" -m venv /tmp/pip
"$PYTHON" -m venv --without-pip "$environment"
pip() { /tmp/pip/bin/python -m pip --python "$environment/bin/python" -q "$@"; }
pip install --no-index --no-deps --no-compile "$wheels"/zeroc_ice-*.whl
# --no-deps: the lock is complete, but for zeroc-ice, which may be a wheel of your own
pip install --require-hashes --no-deps --only-binary :all: --no-compile -r "$here/requirements.lock"
pip check
rm -rf /tmp/pip
mkdir -p "$layer${environment%/*}"
mv "$environment" "$layer$environment"
ln -s "$layer$environment" "$environment" # for the next step
"$PYTHON" "$here/finish.py" --environment "$environment" "$layer"
