"""Apptainer, and Singularity before it was called so: the same words on the command line.

How a workflow is isolated. Its files are the image's and the folders that it is given, each under its own path; its
home is the first of these (the run's folder), not the account's: what lies in a person's home (``~/.local`` packages,
start-up files) must not change a result, and what a workflow caches there must have room, which the small memory file
system of ``--containall`` has not. ``/tmp`` is the node's. Variables stay, because a job learns its GPUs, its cores and
its threads from them; only those that make an interpreter or the loader take code from elsewhere are dropped.

What a shell would evaluate. The entry point of an OCI image, together with its arguments, is by default evaluated by a
shell in the image: a parameter with the value ``$(id)`` would run id. ``--no-eval`` ends that, but programs before
Apptainer 1.1 and SingularityCE 3.10 lack it, and images that were made by these ignore it. Which of the two a node has
is known on the node alone, so it is asked there, at the start of the container: where a shell would evaluate, an
argument that holds a character that means something to it is refused, and any other runs.
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
  { printf 'FATAL: %s is not to be found on %s\n' "$program" "$(uname -n)" >&2; exit 255; }
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
    echo 'biomeroworker: it may not hold a dollar sign, a backquote, a backslash or a double quote;'
    echo 'biomeroworker: Apptainer 1.1 and SingularityCE 3.10 or newer, and an image pulled by them, take any'
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
        Further folders of the cluster that every container sees, e.g. where links in the data folder lead; also
        ``/source:/target``.
    insecure_registries
        ``host`` or ``host:port`` of registries that speak HTTP; those on the loopback device always may.
    tmpdir, cachedir
        Where images are unpacked and layers kept while they are pulled; empty: the program's own choice.
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
        """The argv that runs a program in the image; no shell evaluates that one's arguments."""
        return [*_env(), self.program, "--silent", "exec", *self._words(image, binds, gpu)]

    def _words(self, image: str, binds: Sequence[str], gpu: bool) -> list[str]:
        words = ["--home", plain(binds[0])] if binds else []
        for folder in dict.fromkeys([*map(plain, binds), *self._binds]):
            words += ["--bind", folder]
        return [*words, *(["--nv"] if gpu else []), image]

    def pull_command(self, reference: Reference, target: str, *, replace: bool = False) -> list[str]:
        """Put an image at ``target``, at once or not at all."""
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
        """An image is never: it does not depend on the configuration."""
        return ""


def _env() -> list[str]:
    return ["env", *(word for name in FOREIGN for word in ("-u", name))]
