"""The programs that run on the cluster's front-end, and how their words are read.

The far side has a POSIX shell, tar and GNU coreutils and findutils: no Python, nothing of ours installed. Each program
is one fixed text; whatever varies (paths, names of files) comes as positional arguments or NUL-separated on standard
input, so that no name is ever parsed by a shell. Dialogues are lines that say how many bytes follow.
"""

from __future__ import annotations

#: Runs ``"$@"`` and says on stderr how it ended, so that a command's own 255 is told from ssh's, and on stdout where
#: its answer begins, so that what a shell's start-up files print is not taken for it. ``$0`` is a random word.
FRAME = """echo "$0"; "$@"; s=$?; printf '\\n%s %d\\n' "$0" "$s" >&2; exit "$s\""""

#: Digests only, one line per name on standard input: before an escaped name coreutils puts a backslash.
_DIGESTS = r"""hashed() { xargs -0 -r sha256sum -- | sed 's/^\\//' | cut -c1-64; }"""

#: $1 target, $2 staging folder beside it, $3 their parent. Says what is there; is told which of it to hash and which
#: stale parts to drop; takes a tar stream whose last members are the names sent and their digests; checks; publishes.
RECEIVE = rf"""
set -eu
case $1 in /*) target=$1 stage=$2;; *) target=$PWD/$1 stage=$PWD/$2;; esac
parent=$3
{_DIGESTS}
take() {{ IFS= read -r n; head -c "$n"; }}
have() {{ [ ! -d "$1" ] || (cd -- "$1" && find . -type f -printf '%s %P\0'); printf '\0'; }}
digests() {{ if [ -d "$1" ]; then (cd -- "$1" && take | hashed); else take >/dev/null; fi; echo .; }}
mkdir -p -- "$parent"
have "$target"; have "$stage/data"
digests "$target"; digests "$stage/data"
mkdir -p -- "$stage/data"
(cd -- "$stage/data" && take | xargs -0 -r rm -rf --)
echo ready
tar -x -m -f - -C "$stage" --no-same-owner --no-same-permissions -b 512
cd -- "$stage/data"
hashed <../names >../found
cmp -s ../found ../digests || {{ echo 'what arrived is not what was sent' >&2; exit 65; }}
if [ ! -e "$target" ]; then mv -T -- "$stage/data" "$target"
else
  [ -d "$target" ] || {{ echo 'a file stands where the folder should be' >&2; exit 73; }}
  find . -type d -print0 | xargs -0 sh -c 'for d do
      mkdir -p -- "$0/$d"
      find "$d" -maxdepth 1 -type f -exec mv -f -t "$0/$d" -- {{}} + || exit
    done' "$target"
fi
rm -rf -- "$stage"
echo done
"""

#: $1 folder. Says what is there; is told which files to hash and which to send; sends their bytes one after the other,
#: without frames (the sizes are known), then their digests.
OFFER = rf"""
set -eu
[ -d "$1" ] || exit 66
cd -- "$1"
{_DIGESTS}
take() {{ IFS= read -r n; head -c "$n"; }}
find . -mindepth 1 -printf '%y %s %P\0'; printf '\0'
take | hashed; echo .
names=$(mktemp) || exit 73
trap 'rm -f -- "$names" "$names.digests"' EXIT
take >"$names"
hashed <"$names" >"$names.digests" &
xargs -0 -r cat -- <"$names"
wait "$!"
cat -- "$names.digests"; echo .
"""

#: $1 file, $2 first byte (from 1), $3 how many at most.
READ = """[ -e "$1" ] || exit 66; [ -r "$1" ] && [ ! -d "$1" ] || { echo 'not a file that can be read' >&2; exit 77; }
tail -c "+$2" -- "$1" | head -c "$3\""""

#: $1 file, $2 octal mode, $3 random suffix, $4 size, $5 folder: content from standard input, published by rename. The
#: size is checked because a cut connection ends the input like an end of file does.
WRITE = """
set -eu
umask 077
mkdir -p -- "$5"
trap 'rm -f -- "$1.$3"' EXIT
cat >"$1.$3"
[ "$(wc -c <"$1.$3")" -eq "$4" ] || exit 65
chmod -- "$2" "$1.$3"
mv -T -- "$1.$3" "$1"
"""

#: $1 folder.
LIST = r"""[ -d "$1" ] || exit 66; cd -- "$1" && find . -mindepth 1 -maxdepth 1 -printf '%P\0'"""

#: $1 what to remove. Resolved on the far side, where links and the home folder are known.
REMOVE = """
set -eu
[ -e "$1" ] || [ -L "$1" ] || exit 0
here=$(cd -- "$2" 2>/dev/null && pwd -P || :) home=$(cd && pwd -P)
path=${here%/}/${1##*/}
[ -d "$1" ] && [ ! -L "$1" ] && path=$(cd -- "$1" && pwd -P)
case "$home/" in "${path%/}"/*) echo "refused: $path is the home folder or above it" >&2; exit 77;; esac
rm -rf -- "$1"
"""

NOT_THERE = 66
REFUSED = 77


def path(remote: str) -> str:
    """A remote path as a command may take it: never empty, never an option, relative to the home folder if relative."""
    if not remote or "\0" in remote:
        raise ValueError(f"{remote!r} is not a path")
    return remote if remote.startswith("/") else f"./{remote}"


def program(text: str, *arguments: str) -> list[str]:
    """The argv that runs one of the programs above."""
    return ["sh", "-c", text, "biomeroworker", *arguments]


def names(items: list[bytes]) -> bytes:
    """A list of names as the programs take it: the number of bytes on a line, then each name and a NUL."""
    body = b"".join(item + b"\0" for item in items)
    return b"%d\n" % len(body) + body
