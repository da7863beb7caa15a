#!/bin/sh
# Put the zeroc-ice wheel that omero-py needs into the folder $1: the one of container/image/wheels, the published one
# ($ICE_WHEEL_URL with $ICE_WHEEL_SHA256), or one built from PyPI's source (some minutes).
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=container/image/common.sh
. "$here/common.sh"
target=$1
require_python
mkdir -p "$target"

for wheel in "$here"/wheels/zeroc_ice-*.whl; do
    if [ -f "$wheel" ]; then
        echo "image: taking ${wheel##*/} from container/image/wheels" >&2
        cp "$wheel" "$target/"
        exit 0
    fi
done

if [ -n "${ICE_WHEEL_URL:-}" ]; then
    "$PYTHON" "$here/fetch.py" "$ICE_WHEEL_URL" "${ICE_WHEEL_SHA256:-}" "$target/${ICE_WHEEL_URL##*/}"
    exit 0
fi

apt='g++ libbz2-dev libssl-dev' dnf='gcc-c++ bzip2-devel openssl-devel'
header=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
if [ ! -f "$header" ]; then
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    apt="$apt python$version-dev" dnf="$dnf python$version-devel"
fi
install_packages --apt "$apt" --dnf "$dnf"
built=$("$PYTHON" "$here/../../tools/build_ice_wheel.py" --cache /tmp/ice)
cp "$built" "$target/"
rm -rf /tmp/ice
