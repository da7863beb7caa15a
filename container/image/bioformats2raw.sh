#!/bin/sh
# Make the layer $1: bioformats2raw $BIOFORMATS2RAW_VERSION in /opt/bioformats2raw, or nothing if no version is given.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=container/image/common.sh
. "$here/common.sh"
layer=$1 target=$1/opt/bioformats2raw
mkdir -p "$layer"
version=${BIOFORMATS2RAW_VERSION:-}
[ -n "$version" ] || exit 0

require_python
command -v java > /dev/null || fail "bioformats2raw needs Java, which the base image does not have"
url=${BIOFORMATS2RAW_URL:-https://github.com/glencoesoftware/bioformats2raw/releases/download/v$version/bioformats2raw-$version.zip}
"$PYTHON" "$here/fetch.py" "$url" "${BIOFORMATS2RAW_SHA256:-}" /tmp/bioformats2raw.zip
"$PYTHON" -m zipfile -e /tmp/bioformats2raw.zip /tmp/bioformats2raw
mkdir -p "$target"
# the archive has one folder, with the version in its name
mv /tmp/bioformats2raw/*/* "$target/"
chmod 755 "$target/bin/bioformats2raw"
rm -rf /tmp/bioformats2raw /tmp/bioformats2raw.zip
"$PYTHON" "$here/finish.py" "$layer"
