"""The long options of ``sbatch``: which exist, which are reserved, and which exclude each other. Pure.

sbatch accepts any unambiguous prefix of an option, so ``--out`` writes files like ``--output``. Here prefixes are
refused, because only then is the list of reserved options complete. Options of newer SLURM versions are passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping

#: Options with a value (sbatch(1), SLURM 20.11 to 24.11).
VALUED = frozenset(re.findall(r"\S+", """
    account acctg-freq array batch bb bbf begin bell chdir cluster-constraint clusters comment constraint container
    container-id core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency
    distribution error exclude export export-file extra extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node
    gpus-per-socket gpus-per-task gres gres-flags hint input job-name kill-on-invalid-dep licenses mail-type mail-user
    mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nodefile nodelist nodes ntasks ntasks-per-core
    ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode oom-kill-step output partition power prefer priority
    profile qos reservation resources resv-ports segment signal sockets-per-node switches thread-spec threads-per-core
    time time-min tmp tres-bind tres-per-task uid wait-all-nodes wckey wrap
"""))  # fmt: skip
#: Options without a value, or with an optional one. In the ini: ``true``, ``false``, or for some a value.
FLAGS = frozenset(re.findall(r"\S+", """
    contiguous disable-stdout-job-summary exclusive get-user-env help hold ignore-pbs nice no-bell no-kill no-requeue
    overcommit oversubscribe parsable propagate quiet reboot requeue spread-job stepmgr test-only usage use-min-nodes
    verbose version wait
"""))  # fmt: skip
KNOWN = VALUED | FLAGS

#: Reserved also for sites: they define the identity of a run, or make its job depend on the submitting process. squeue
#: and sacct do not find a job on another cluster; such a cluster gets its own sections in the ini.
RESERVED = frozenset(re.findall(r"\S+", """
    array bb bbf chdir clusters container container-id error export export-file get-user-env gid help hold ignore-pbs
    input job-name nodefile open-mode output parsable test-only uid usage version wait wait-all-nodes wrap
"""))  # fmt: skip
#: What a run may set: nothing that affects files, its identity, or jobs of other users.
ALLOWED_FOR_RUNS = frozenset(re.findall(r"\S+", """
    time time-min mem mem-per-cpu mem-per-gpu cpus-per-task cpus-per-gpu partition account qos gres gpus gpus-per-node
    constraint exclude reservation nice begin deadline dependency comment licenses requeue no-requeue mail-type
"""))  # fmt: skip

#: Alternatives: an option of a stronger layer replaces the others of its set in weaker layers.
_ALTERNATIVES: tuple[frozenset[str], ...] = (
    frozenset({"mem", "mem-per-cpu", "mem-per-gpu"}),
    frozenset({"cpus-per-task", "cpus-per-gpu"}),
    frozenset({"requeue", "no-requeue"}),
    frozenset({"exclusive", "oversubscribe"}),
)
_GPUS = frozenset({"gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task"})
_YES, _NO = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})
_NAME = re.compile(r"[a-z][a-z-]*")
#: Dependencies on jobs; ``expand`` is not allowed, because it changes another job.
_DEPENDENCY = re.compile(r"(?:singleton|after\w*:\d+(?:_\d+|\+\d+)?(?::\d+(?:_\d+|\+\d+)?)*)")


def normalize(name: str) -> str:
    """The name of an option in sbatch: ``cpus_per_task`` in an ini means ``--cpus-per-task``."""
    return name.strip().lower().replace("_", "-")


def problem(name: str, value: str) -> str:
    """Why an option cannot be passed on, as the rest of a sentence; empty if it can. ``name`` is normalized."""
    if not _NAME.fullmatch(name):
        return "is not the name of an option of sbatch"
    if name in RESERVED:
        return "is reserved for biomeroworker" + ("; other clusters are [SSH:<name>]" if name == "clusters" else "")
    if name not in KNOWN and (meant := sorted(option for option in KNOWN if option.startswith(name))):
        return f"must be written in full: {', '.join(meant)}"
    if any(character in value for character in "\n\r\0"):
        return "may not hold a line break"
    if name == "dependency" and not all(_DEPENDENCY.fullmatch(part) for part in re.split("[,?]", value)):
        return "should be such as afterok:1234, or singleton"
    if name in VALUED and not value:
        return "needs a value"
    return ""


def merge_layers(*layers: Mapping[str, str | None]) -> dict[str, str]:
    """Options from several layers, weakest first, under their names in sbatch.

    None is no option; an empty value is an option without a value.
    """
    found: dict[str, str] = {}
    for layer in layers:
        _merge(found, {normalize(name): value for name, value in layer.items() if value is not None})
    return found


def _merge(found: MutableMapping[str, str], layer: Mapping[str, str]) -> None:
    for name, value in layer.items():
        _put_aside(found, name, value)
        word = value.strip().lower()
        if name in FLAGS and word in _NO:
            found.pop(name, None)
        else:
            found[name] = "" if name in FLAGS and word in _YES else value
        if name == "dependency":  # with a dependency that can never be met, the job would wait forever
            found.setdefault("kill-on-invalid-dep", "yes")


def _put_aside(found: MutableMapping[str, str], name: str, value: str) -> None:
    for alternatives in _ALTERNATIVES:
        if name in alternatives:
            for other in alternatives - {name}:
                found.pop(other, None)
    if name in _GPUS:
        if _asks_for_gpus(found.get("gres", "")):
            del found["gres"]
    elif name == "gres" and _asks_for_gpus(value):
        for other in _GPUS:
            found.pop(other, None)


def _asks_for_gpus(gres: str) -> bool:
    return any(part.strip().removeprefix("gres/").startswith("gpu") for part in gres.split(","))
