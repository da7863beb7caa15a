"""The programs that run on the cluster's front-end, and how their words are read.

The far side has a POSIX shell, tar and GNU coreutils and findutils, and nothing of ours installed. Each program is one
fixed text; whatever varies (paths, names of files) comes as positional arguments or NUL-separated on standard input, so
that no name is ever parsed by a shell. Dialogues are lines that say how many bytes follow. Where the front-end has a
python3, it does the far side's part of a tree transfer (`tree_agent`): it hashes what comes while it comes.
"""

from __future__ import annotations

import functools
from importlib import resources

#: Runs ``"$@"`` and says on stderr how it ended, so that a command's own 255 is told from ssh's, and on stdout where
#: its answer begins, so that what a shell's start-up files print is not taken for it. ``$0`` is a random word.
FRAME = """printf '\\n%s\\n' "$0"; "$@"; s=$?; printf '\\n%s %d\\n' "$0" "$s" >&2; exit "$s\""""

#: $1 names of python3, to be tried in order; $2 what it is to run; the rest its words. Goes on if there is none.
_PYTHON = r"""
set -eu
LC_ALL=C
export LC_ALL
for one in $1; do
  "$one" -I -S -c 'import hashlib, sys
hashlib.sha256()
sys.exit(sys.version_info < (3, 6))' </dev/null >/dev/null 2>&1 || continue
  echo python
  shift
  exec "$one" -I -S -c "$@"
done
shift 3
echo shell
take() { IFS= read -r n; head -c "$n"; }
# Digests only, one line per name on standard input: before an escaped name coreutils puts a backslash.
hashed() { xargs -0 -r sha256sum -- | sed 's/^\\//' | cut -c1-64; }
"""

#: Target, staging folder beside it. Says what is there; is told which of it to hash and which stale parts to drop, what
#: folders to make and which files have come in part; takes the rest of those, then a tar stream whose last members are
#: the names sent and their digests; checks; publishes. `tree_agent` has the same in Python, without the tar.
_RECEIVE = rf"""{_PYTHON}
case $1 in /*) target=$1 stage=$2;; *) target=$PWD/$1 stage=$PWD/$2;; esac
have() {{ [ ! -d "$1" ] || (cd -- "$1" && find . -type f -printf '%s %P\0'); printf '\0'; }}
digests() {{ if [ -d "$1" ]; then (cd -- "$1" && take | hashed); else take >/dev/null; fi; echo .; }}
mkdir -p -- "${{target%/*}}"
have "$target"; have "$stage/data"
digests "$target"; digests "$stage/data"
mkdir -p -- "$stage/data"
cd -- "$stage/data"
take | xargs -0 -r rm -rf --
take | xargs -0 -r mkdir -p --
take >../begun
xargs -0 -r -n 2 sh -c 'head -c "$0" <&3 >>"$1"' 3<&0 <../begun
tar -x -m -f - -C "$stage" --no-same-owner --no-same-permissions -b 512
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

#: Folder. Says what is there; is told which files to hash, wholly and from the start, and which to send, from an offset
#: and wholly; sends their bytes one after the other, without frames (the sizes are known), then their digests.
_SEND = rf"""{_PYTHON}
[ -d "$1" ] || exit 66
cd -- "$1"
find . -mindepth 1 -printf '%y %s %P\0'; printf '\0'
take | hashed; echo .
take | xargs -0 -r -n 2 sh -c 'head -c "$0" -- "$1" | sha256sum' | cut -c1-64; echo .
names=$(mktemp) || exit 73
trap 'rm -f -- "$names" "$names.begun" "$names.digests"' EXIT
take >"$names.begun"
take >"$names"
{{ xargs -0 -r -n 2 sh -c 'printf "%s\0" "$1"' <"$names.begun"; cat -- "$names"; }} | hashed >"$names.digests" &
xargs -0 -r -n 2 sh -c 'tail -c "+$(($0 + 1))" -- "$1"' <"$names.begun"
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
LC_ALL=C
export LC_ALL
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
LC_ALL=C
export LC_ALL
[ -e "$1" ] || [ -L "$1" ] || exit 0
here=$(cd -- "$2" 2>/dev/null && pwd -P || :) home=$(cd && pwd -P)
path=${here%/}/${1##*/}
[ -d "$1" ] && [ ! -L "$1" ] && path=$(cd -- "$1" && pwd -P)
case "$home/" in "${path%/}"/*) echo "refused: $path is the home folder or above it" >&2; exit 77;; esac
rm -rf -- "$1"
"""

#: $@ folders.
FOLDERS = 'LC_ALL=C; export LC_ALL; exec mkdir -p -- "$@"'

#: Where a front-end may have a python3 that does not depend on what the account has loaded; then what it has loaded.
PYTHONS = "/usr/bin/python3 /usr/libexec/platform-python python3"

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


def receive_command(target: str, stage: str, pythons: str) -> list[str]:
    """The argv that receives a tree."""
    return program(_RECEIVE, pythons, _tree_agent(), "take", target, stage)


def send_command(folder: str, pythons: str) -> list[str]:
    """The argv that sends a tree."""
    return program(_SEND, pythons, _tree_agent(), "give", folder)


def share_command(part: str, folder: str, pythons: str) -> list[str]:
    """The argv that takes or gives (``part``) a share of a tree's files; only for front-ends with Python."""
    return program(f"{_PYTHON}\nexit 69", pythons, _tree_agent(), f"{part} share", folder)


@functools.cache
def _tree_agent() -> str:
    """The text of `tree_agent` as a program."""
    text = resources.files("biomeroworker.remote").joinpath("tree_agent.py").read_text("utf-8")
    return text + "\n\nsys.exit(main([os.fsencode(word) for word in sys.argv[1:]]))\n"


def names(items: list[bytes]) -> bytes:
    """A list of names as the programs take it: the number of bytes on a line, then each name and a NUL."""
    body = b"".join(item + b"\0" for item in items)
    return b"%d\n" % len(body) + body
