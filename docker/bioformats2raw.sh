#!/bin/sh
# Unpack bioformats2raw $BIOFORMATS2RAW_VERSION into the folder $1, if a version is given.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=docker/common.sh
. "$here/common.sh"
target=$1
mkdir -p "$target"
version=${BIOFORMATS2RAW_VERSION:-}
[ -n "$version" ] || exit 0

command -v java > /dev/null || fail "bioformats2raw needs Java, which the base image does not have"
url=${BIOFORMATS2RAW_URL:-https://github.com/glencoesoftware/bioformats2raw/releases/download/v$version/bioformats2raw-$version.zip}
"$PYTHON" "$here/fetch.py" "$url" "${BIOFORMATS2RAW_SHA256:-}" /tmp/bioformats2raw.zip
"$PYTHON" -m zipfile -e /tmp/bioformats2raw.zip /tmp/bioformats2raw
# the archive has one folder, with the version in its name
mv /tmp/bioformats2raw/*/* "$target/"
chmod 755 "$target/bin/bioformats2raw"
rm -rf /tmp/bioformats2raw /tmp/bioformats2raw.zip
find "$target" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
