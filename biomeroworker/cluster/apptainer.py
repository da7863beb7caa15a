"""Apptainer, and Singularity before it was called so: the same words on the command line.

How a workflow is isolated. Its files are the image's and the folders that it is given, each under its own path; its
home is the first of these (the run's folder), not the account's: what lies in a person's home (``~/.local`` packages,
start-up files) must not change a result, and what a workflow caches there must have room, which the small memory file
system of ``--containall`` has not. ``/tmp`` is the node's. Variables stay, because a job learns its GPUs, its cores and
its threads from them; only those that make an interpreter or the loader take code from elsewhere are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from biomeroworker.cluster.runtime import Reference
from biomeroworker.errors import ConfigError

_FOREIGN = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "LD_PRELOAD",
    "R_LIBS",
    "R_LIBS_USER",
    "PERL5LIB",
)

#: $1 target, $2 reference, $3 APPTAINER_TMPDIR, $4 APPTAINER_CACHEDIR (empty: unset), then the pull without its target.
#: Pulled beside the target and renamed, so that a job never sees half an image. The record is published first: an image
#: without one is only ever somebody else's, and gets its record here.
_PULL = r"""
set -eu
cd
target=$1 reference=$2
made() { mkdir -p -- "$1"; cd -- "$1"; pwd; }
[ -z "$3" ] || { APPTAINER_TMPDIR=$(made "$3"); export APPTAINER_TMPDIR SINGULARITY_TMPDIR="$APPTAINER_TMPDIR"; }
[ -z "$4" ] || { APPTAINER_CACHEDIR=$(made "$4"); export APPTAINER_CACHEDIR SINGULARITY_CACHEDIR="$APPTAINER_CACHEDIR"
}
shift 4
mkdir -p -- "${target%/*}"
record() {
  digest=$(sha256sum <"$1"); digest=${digest%% *}
  now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  printf '{"reference": "%s", "sha256": "%s", "recorded": "%s"}\n' "$reference" "$digest" "$now"
}
if [ ! -s "$target" ]; then
  folder=$(mktemp -d -- "${target%/*}/.pull-XXXXXXXX")
  trap 'rm -rf -- "$folder"' EXIT
  trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 141' PIPE; trap 'exit 143' TERM
  "$@" "$folder/image" "docker://$reference" >&2
  record "$folder/image" >"$folder/record"
  mv -f -- "$folder/record" "$target.json"
  mv -f -- "$folder/image" "$target"
elif [ ! -s "$target.json" ]; then
  record "$target" >"$target.json.$$"
  mv -f -- "$target.json.$$" "$target.json"
fi
printf '\nrecord '; cat -- "$target.json"
"""


class Apptainer:
    """Command lines for ``apptainer`` (or ``singularity``).

    Parameters
    ----------
    program
        Its name or path on the cluster.
    binds
        Further folders of the cluster that every container sees, e.g. where links in the data folder lead.
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
        return self._prefix("run", image, binds, gpu)

    def exec_prefix(self, image: str, *, binds: Sequence[str], gpu: bool = False) -> list[str]:
        """The argv that runs a program in the image."""
        return self._prefix("exec", image, binds, gpu)

    def _prefix(self, verb: str, image: str, binds: Sequence[str], gpu: bool) -> list[str]:
        argv = ["env", *(word for name in _FOREIGN for word in ("-u", name)), self.program, "--silent", verb]
        if verb == "run":
            # Without it the entry point of an OCI image is evaluated by a shell, together with its arguments: a
            # parameter with the value $(id) would run id. Programs older than 2022 lack it, and then refuse to run.
            argv.append("--no-eval")
        if binds:
            argv += ["--home", _plain(binds[0])]
        for folder in dict.fromkeys([*binds, *self._binds]):
            argv += ["--bind", _plain(folder)]
        if gpu:
            argv.append("--nv")
        return [*argv, image]

    def pull_command(self, reference: Reference, target: str) -> list[str]:
        """Put an image at ``target``, at once or not at all."""
        pull = [self.program, "pull", "--disable-cache"] if not self._cachedir else [self.program, "pull"]
        if reference.is_loopback or reference.registry in self._insecure:
            pull.append("--no-https")
        return ["sh", "-c", _PULL, "pull", target, str(reference), self._tmpdir, self._cachedir, *pull]

    def inspect_command(self, image: str) -> list[str]:
        """Print the image's labels as JSON."""
        return [self.program, "inspect", "--json", "--labels", image]


def _plain(folder: str) -> str:
    """A folder as ``--bind`` can take it: colon and comma have a meaning there and cannot be escaped."""
    if ":" in folder or "," in folder:
        raise ConfigError(f"{folder!r} cannot be given to a container: it holds a colon or a comma")
    return folder
