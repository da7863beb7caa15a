"""The programs that run on the cluster's front-end.

The front-end has a POSIX shell, GNU coreutils and findutils, and python3 (3.6 or later) for `remote.tree_agent`.
Nothing is installed there. Each program is a fixed text. Paths and file names come as positional arguments, or
separated by NUL on standard input, so no shell parses them.
"""

from __future__ import annotations

import functools

from biomeroworker import remote

#: Runs ``"$@"``. Prints a line on stdout where its output begins, which separates it from the output of start-up files,
#: and its exit code on stderr, which separates its own 255 from that of ssh. ``$0`` is a random word.
FRAME = """printf '\\n%s\\n' "$0"; "$@"; s=$?; printf '\\n%s %d\\n' "$0" "$s" >&2; exit "$s\""""

#: $1 names of python3, tried in order; $2 the Python program; the rest its arguments. Lists what it found if none fits.
_PYTHON = r"""
set -eu
LC_ALL=C
export LC_ALL
found=
for one in $1; do
  if "$one" -I -S -c 'import hashlib, sys
hashlib.sha256()
sys.exit(sys.version_info < (3, 6))' </dev/null >/dev/null 2>&1; then
    shift
    exec "$one" -I -S -c "$@"
  fi
  path=$(command -v -- "$one") || continue
  found="${found:+$found, }$path ($("$path" -V 2>&1 </dev/null | head -n 1))"
done
echo "${found:-none}" >&2
exit 69
"""
_VERSION = "import sys; print(sys.executable, '%d.%d.%d' % sys.version_info[:3])"

#: $1 file, $2 first byte (from 1), $3 how many at most.
READ = """[ -e "$1" ] || exit 66; [ -r "$1" ] && [ ! -d "$1" ] || { echo 'not a file that can be read' >&2; exit 77; }
tail -c "+$2" -- "$1" | head -c "$3\""""

#: $1 file, $2 octal mode, $3 random suffix, $4 size, $5 folder: writes standard input, and publishes it by a rename.
#: The size is checked because standard input ends in the same way when the connection is lost.
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

#: $1 what to remove, $2 its folder. Links and the home folder are resolved on the cluster.
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

#: First the system's own python3, which does not depend on the account's environment; then the first on the PATH.
PYTHONS = "/usr/bin/python3 /usr/libexec/platform-python python3"

NOT_THERE = 66
NO_PYTHON = 69
REFUSED = 77


def path(remote: str) -> str:
    """A remote path as an argument of a command, which cannot be taken for an option."""
    if not remote or "\0" in remote:
        raise ValueError(f"{remote!r} is not a path")
    return remote if remote.startswith("/") else f"./{remote}"


def program(text: str, *arguments: str) -> list[str]:
    """The argv that runs one of the programs above."""
    return ["sh", "-c", text, "biomeroworker", *arguments]


def python_command() -> list[str]:
    """The argv that prints path and version of the front-end's python3; exits with `NO_PYTHON` if there is none."""
    return program(_PYTHON, PYTHONS, _VERSION)


def receive_command(target: str, stage: str) -> list[str]:
    """The argv that receives a tree."""
    return _tree_command("receive", target, stage)


def send_command(folder: str) -> list[str]:
    """The argv that sends a tree."""
    return _tree_command("send", folder)


def receive_share_command(folder: str) -> list[str]:
    """The argv that receives a share of a tree's files into its staging folder."""
    return _tree_command("receive share", folder)


def send_share_command(folder: str) -> list[str]:
    """The argv that sends a share of a tree's files."""
    return _tree_command("send share", folder)


def _tree_command(part: str, *folders: str) -> list[str]:
    return program(_PYTHON, PYTHONS, _tree_agent(), part, *folders)


@functools.cache
def _tree_agent() -> str:
    """The text of `tree_agent` as a program."""
    return remote.read("tree_agent.py") + "\n\nsys.exit(main([os.fsencode(word) for word in sys.argv[1:]]))\n"


def names(items: list[bytes]) -> bytes:
    """A list of names as `remote.tree_agent` reads it: a line with the number of bytes, then each name and a NUL."""
    body = b"".join(item + b"\0" for item in items)
    return b"%d\n" % len(body) + body
