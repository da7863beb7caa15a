"""The program that pulls one image to the cluster; runtimes differ only in the function that fetches it. Pure.

A job must never see an incomplete image, and a pull may be killed at any point. So it works in a folder of its own
beside the image and renames at the end: the record first, the image last. An image without a record was not pulled by
this program, and gets a record here. The folder is locked while the pull runs: a folder that can be locked was left by
a killed pull, and the next pull removes it. Two pulls of one image result in one complete image.
"""

from __future__ import annotations

from collections.abc import Sequence

from biomeroworker.cluster.containers.runtime import Reference

#: $1 target, $2 reference, $3 temporary folder, $4 folder for layers (both empty: the program's default), $5 program,
#: $6 whether to replace an existing image; the rest goes to `fetch`. On stdin: name and password.
_FRAME = r"""
set -eu
cd
target=$1 reference=$2 tmpdir=$3 cachedir=$4 program=$5 replace=$6
shift 6
IFS= read -r username || username=
IFS= read -r password || password=
made() { mkdir -p -- "$1"; cd -- "$1"; pwd; }
needed() { command -v -- "$1" >/dev/null 2>&1 || { printf '%s: not found on %s\n' "$1" "$(uname -n)" >&2; exit 127; }; }
[ -z "$tmpdir" ] || tmpdir=$(made "$tmpdir")
[ -z "$cachedir" ] || cachedir=$(made "$cachedir")
beside=$(made "${target%/*}")
record() {
  digest=$(sha256sum <"$1")
  version=$("$program" --version 2>&1 | head -n 1 | tr -cd 'A-Za-z0-9 ._+-')
  printf '{"reference": "%s", "sha256": "%s", "recorded": "%s", "runtime": "%s"%s}\n' \
    "$reference" "${digest%% *}" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "${program##*/}: $version" "$2"
}
clear() {
  [ ! -L "$1/elsewhere" ] || clear "$(readlink -- "$1/elsewhere")"
  chmod -R u+rwX -- "$1" 2>/dev/null || :
  rm -rf -- "$1"
}
for old in "$beside"/.pull-*; do
  [ -d "$old" ] || continue
  if [ -e "$old/lock" ]; then
    if ( exec 8>>"$old/lock" && flock -n 8 ) 2>/dev/null; then clear "$old"; fi
  elif [ -n "$(find "$old" -maxdepth 0 -mmin +60)" ]; then
    clear "$old"
  fi
done
if [ "$replace" = yes ] || [ ! -s "$target" ]; then
  needed "$program"
  folder=$(mktemp -d -- "$beside/.pull-XXXXXXXX")
  trap 'clear "$folder"' EXIT
  trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 141' PIPE; trap 'exit 143' TERM
  exec 9>"$folder/new-lock"
  flock -n 9 || :
  mv -- "$folder/new-lock" "$folder/lock"  # no other pull may find it before it is locked
  facts=
  fetch "$@" >&2 </dev/null
  [ -s "$folder/image" ] || { echo "$program made no image" >&2; exit 1; }
  [ ! -e "$folder/facts" ] || facts=$(cat "$folder/facts")
  record "$folder/image" "$facts" >"$folder/record"
  [ ! -e "$folder/entry" ] || mv -f -- "$folder/entry" "$target.entry"
  mv -f -- "$folder/record" "$target.json"
  mv -f -- "$folder/image" "$target"
elif [ ! -s "$target.json" ]; then
  record "$target" "" >"$target.json.$$"
  mv -f -- "$target.json.$$" "$target.json"
fi
printf '\nrecord '; cat -- "$target.json"
"""


def pull_command(
    fetch: str,
    reference: Reference,
    target: str,
    *,
    program: str,
    words: Sequence[str] = (),
    tmpdir: str = "",
    cachedir: str = "",
    replace: bool = False,
) -> list[str]:
    """The argv that pulls one image.

    Parameters
    ----------
    fetch
        A shell function ``fetch`` that writes the image to ``$folder/image``. It may also write ``$folder/entry``,
        which is published beside the image, and ``$folder/facts``, which becomes part of the record. It uses
        ``$reference``, ``$program``, ``$tmpdir``, ``$cachedir``, ``$username`` and ``$password``.
    words
        The arguments of ``fetch``.
    """
    options = [target, str(reference), tmpdir, cachedir, program, "yes" if replace else "no"]
    return ["sh", "-c", fetch + _FRAME, "pull", *options, *words]
