"""Apptainer, and its predecessor Singularity, which has the same command line.

Isolation of a workflow: it sees the files of its image and the bound folders, each under its own path. Its home is the
first of these folders (the run's folder), not that of the account. So packages in ``~/.local`` and start-up files do
not change a result, and caches of the workflow have more room than in the small memory file system of ``--containall``.
``/tmp`` is that of the node. Environment variables are passed on, because a job gets its GPUs, cores and threads from
them, except those that make an interpreter or the loader use code from outside the image.

Evaluation by a shell: by default, a shell in the image evaluates the entry point of an OCI image together with its
arguments, so a parameter with the value ``$(id)`` would run id. ``--no-eval`` prevents this, but Apptainer before 1.1
and SingularityCE before 3.10 do not have it, and images that they made ignore it. Only the node knows its version, so
it is checked there when the container starts: if a shell would evaluate the arguments, an argument with a special
character is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biomeroworker.cluster.containers import pull_script
from biomeroworker.cluster.containers.runtime import Reference, plain

#: Variables that make an interpreter or the loader take code from outside the image.
FOREIGN = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "LD_PRELOAD",
    "R_LIBS",
    "R_LIBS_USER",
    "PERL5LIB",
)

#: $1 program, $2 image, $3 how many words up to the image; then these, then the arguments. 64 is EX_USAGE.
_RUN = r"""
program=$1 image=$2 own=$3
shift 3
command -v -- "$program" >/dev/null 2>&1 ||
  { printf 'FATAL: %s was not found on %s\n' "$program" "$(uname -n)" >&2; exit 255; }
eval=--no-eval
"$program" run --help 2>&1 | grep -q -e '--no-eval' || eval=
seen=0 risky=
for word do
  seen=$((seen + 1))
  [ "$seen" -gt "$own" ] || continue
  case $word in *[\$\`\\\"]*) risky=$word ;; esac
done
if [ -n "$risky" ]; then
  case $("$program" inspect --runscript "$image" 2>/dev/null) in
    *_NO_EVAL*) safe=$eval ;;
    *eval* | *OCI_RUN* | '') safe= ;;
    *) safe=yes ;;
  esac
  [ -n "$safe" ] || {
    printf 'biomeroworker: a shell in this image, or this %s, would evaluate the argument %s\n' "$program" "$risky"
    echo 'biomeroworker: it must not contain a dollar sign, a backquote, a backslash or a double quote;'
    echo 'biomeroworker: with Apptainer 1.1, SingularityCE 3.10 or newer, and an image pulled by them, all are allowed'
    exit 64
  } >&2
fi
exec "$program" --silent run ${eval:+"$eval"} "$@"
"""

_FETCH = r"""
fetch() {
  [ -z "$tmpdir" ] || export APPTAINER_TMPDIR="$tmpdir" SINGULARITY_TMPDIR="$tmpdir"
  [ -z "$cachedir" ] || export APPTAINER_CACHEDIR="$cachedir" SINGULARITY_CACHEDIR="$cachedir"
  if [ -n "$username" ]; then
    export APPTAINER_DOCKER_USERNAME="$username" APPTAINER_DOCKER_PASSWORD="$password"
    export SINGULARITY_DOCKER_USERNAME="$username" SINGULARITY_DOCKER_PASSWORD="$password"
  fi
  "$program" pull "$@" "$folder/image" "docker://$reference"
}
"""


class Apptainer:
    """Command lines for ``apptainer`` (or ``singularity``).

    Parameters
    ----------
    program
        Its name or path on the cluster.
    binds
        Additional folders of the cluster that all containers see, e.g. the targets of links in the data folder; also
        ``/source:/target``.
    insecure_registries
        ``host`` or ``host:port`` of registries that use HTTP; those on the loopback device always may.
    tmpdir, cachedir
        Where pulls unpack images and store layers; empty: the program's default.
    """

    suffix = ".sif"

    def __init__(
        self,
        program: str = "apptainer",
        *,
        binds: Sequence[str] = (),
        insecure_registries: Sequence[str] = (),
        tmpdir: str = "",
        cachedir: str = "",
    ) -> None:
        self.program = program
        self._binds = tuple(binds)
        self._insecure = frozenset(insecure_registries)
        self._tmpdir = tmpdir
        self._cachedir = cachedir

    def run_prefix(self, image: str, *, binds: Sequence[str], gpu: bool = False) -> list[str]:
        """The argv that runs the image's own entry point."""
        words = self._words(image, binds, gpu)
        return [*_env(), "sh", "-c", _RUN, "run", self.program, image, str(len(words)), *words]

    def exec_prefix(self, image: str, *, binds: Sequence[str], gpu: bool = False) -> list[str]:
        """The argv that runs a program in the image; no shell evaluates its arguments."""
        return [*_env(), self.program, "--silent", "exec", *self._words(image, binds, gpu)]

    def _words(self, image: str, binds: Sequence[str], gpu: bool) -> list[str]:
        words = ["--home", plain(binds[0])] if binds else []
        for folder in dict.fromkeys([*map(plain, binds), *self._binds]):
            words += ["--bind", folder]
        return [*words, *(["--nv"] if gpu else []), image]

    def pull_command(self, reference: Reference, target: str, *, replace: bool = False) -> list[str]:
        """Put an image at ``target``, atomically."""
        words = [] if self._cachedir else ["--disable-cache"]
        if reference.is_loopback or reference.registry in self._insecure:
            words.append("--no-https")
        return pull_script.pull_command(
            _FETCH,
            reference,
            target,
            program=self.program,
            words=words,
            tmpdir=self._tmpdir,
            cachedir=self._cachedir,
            replace=replace,
        )

    def outdated(self, record: Mapping[str, Any]) -> str:
        """Always empty: an image does not depend on the configuration."""
        return ""


def _env() -> list[str]:
    return ["env", *(word for name in FOREIGN for word in ("-u", name))]
