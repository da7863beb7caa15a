"""Probe each node of a partition with a small job; all jobs in one remote command, with a deadline.

A job reports by its exit code, which needs nothing but SLURM: a node without the shared mount could not write a report.
Pure: builds the command and parses its output.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from biomeroworker.cluster.slurm.parsing import node_is_out
from biomeroworker.config import ClusterSettings
from biomeroworker.domain.cluster_paths import strip_home
from biomeroworker.domain.findings import Finding, fail, ok, warn

#: The bits of a job's exit code: what the node lacks.
NO_DATA, STALE, READ_ONLY, NO_IMAGES, NO_RUNTIME, NO_TEMPORARY = 1, 2, 4, 8, 16, 32
#: Time limit of a probe's job.
JOB_MINUTES = 2

#: The job. $1: the probe's folder in the data folder, $2: its token, $3: the images folder, $4: the container program.
_JOB = r"""#!/bin/bash
code=0
if [ ! -d "$1" ]; then code=$((code + 1))
elif [ "$(cat -- "$1/token" 2>/dev/null)" != "$2" ]; then code=$((code + 2))
elif ! : >"$1/$SLURM_JOB_ID.written"; then code=$((code + 4)); fi
[ -z "$3" ] || { [ -d "$3" ] && [ -r "$3" ]; } || code=$((code + 8))
command -v -- "$4" >/dev/null 2>&1 || code=$((code + 16))
temporary=${TMPDIR:-/tmp}/.biomero-$SLURM_JOB_ID
: >"$temporary" && rm -f -- "$temporary" || code=$((code + 32))
exit $code
"""

_HEAD = r"""
export LC_ALL=C TZ=UTC
cd; me=$(id -un)
trap 'scancel --user="$me" --name="$name" 2>/dev/null; rm -rf -- "$folder"' EXIT
trap 'exit 130' HUP INT TERM
mkdir -- "$folder" && printf '%s' "$token" >"$folder/token" || exit 73
folder=$(cd -- "$folder" && pwd) || exit 73
printf '%s' "$job" >"$folder/job.sh"
[ -z "$images" ] || images=$(cd -- "$images" && pwd) || images=
probe() {
  node=$1; shift
  output=$(sbatch --parsable --job-name="$name" --nodelist="$node" --output=/dev/null --chdir=/ "$@" \
    "$folder/job.sh" "$folder" "$token" "$images" "$runtime" 2>&1 </dev/null) &&
    printf 'submitted %s %s\n' "$node" "${output%%;*}" || printf 'refused %s %s\n' "$node" "${output##*error: }"
}
"""

_WAIT = r"""
end=$(($(date +%s) + deadline))
while [ "$(date +%s)" -lt "$end" ] && squeue -h -u "$me" -n "$name" -o %A 2>&1 | grep -q .; do sleep 1; done
squeue -h -u "$me" -n "$name" -t all -o %A | sort -u | while read -r job; do
  printf 'job '; scontrol show job -o "$job" 2>&1 | head -n 1
done
"""


@dataclass(frozen=True)
class Node:
    """A node of a partition, as sinfo lists it."""

    name: str
    partition: str
    state: str
    reason: str = ""

    @property
    def is_out(self) -> bool:
        """Whether no job can start there within the deadline. A node that is switched off or boots accepts jobs."""
        return node_is_out(self.state) or self.state.startswith(("boot", "pow"))


def nodes(rows: Sequence[Sequence[str]], partitions: Sequence[str]) -> list[Node]:
    """List the nodes of these partitions, each once; without partitions those of the default partition.

    ``rows`` are those of ``sinfo -N -o '%N|%P|%t|%G|%E'``.
    """
    found: dict[str, Node] = {}
    for name, partition, state, _, reason in (row[:5] for row in rows):
        if not partitions and not partition.endswith("*"):
            continue
        if not partitions or partition.rstrip("*") in partitions:
            found.setdefault(name, Node(name, partition.rstrip("*"), state, "" if reason == "none" else reason))
    return list(found.values())


def command(
    cluster: ClusterSettings,
    probed: Sequence[Node],
    options: Mapping[str, Mapping[str, str]],
    *,
    token: str,
    deadline: int,
    runtime: str = "",
) -> list[str]:
    """Build one remote command that submits the jobs, waits for them at most ``deadline`` seconds, and cleans up.

    Parameters
    ----------
    options
        Options of sbatch, by partition, that the site requires of every job there.
    """
    variables = {
        "folder": f"{strip_home(cluster.slurm.slurm_data_path)}/.probe-{token}",
        "images": strip_home(cluster.slurm.slurm_images_path),
        "runtime": runtime,
        "name": f"biomero-probe-{token}",
        "token": token,
        "deadline": str(deadline),
        "job": _JOB,
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(_HEAD)
    for node in probed:
        given = {
            **options.get(node.partition, {}),
            "partition": node.partition,
            "time": str(JOB_MINUTES),
            "cpus-per-task": "1",
            "mem": "100M",
        }
        flags = [f"--{name}={value}" if value else f"--{name}" for name, value in given.items()]
        lines.append(shlex.join(["probe", node.name, *flags]))
    lines.append(_WAIT)
    return ["sh", "-c", "\n".join(lines)]


_FAULTS: tuple[tuple[int, str, str], ...] = (
    (NO_DATA, "does not see the data folder", "slurm_data_path"),
    (STALE, "sees another, or an older, data folder", "slurm_data_path"),
    (READ_ONLY, "cannot write to the data folder", "slurm_data_path"),
    (NO_IMAGES, "does not see the images", "slurm_images_path"),
    (NO_RUNTIME, "has no {runtime} in its PATH", "container_runtime"),
    (NO_TEMPORARY, "cannot write to its temporary folder", ""),
)


def examine(
    cluster: ClusterSettings, found: Sequence[Node], text: str, *, deadline: int, runtime: str
) -> Iterator[Finding]:
    """Yield one finding for each node.

    Parameters
    ----------
    found
        All nodes, including those that were not probed.
    text
        The output of `command`.
    """
    jobs: dict[str, str] = dict(re.findall(r"^submitted (\S+) (\d+)", text, re.MULTILINE))
    refused: dict[str, str] = dict(re.findall(r"^refused (\S+) (.*)$", text, re.MULTILINE))
    ended = {
        record["JobId"]: record
        for line in re.findall(r"^job (JobId=.*)$", text, re.MULTILINE)
        if "JobId" in (record := dict(re.findall(r"(\S+?)=(\S*)", line)))
    }
    exclude = cluster.line("SLURM", "sbatch_exclude")
    for node in found:
        subject = f"node {node.name}"
        if node.is_out:
            yield warn(subject, f"is {node.state}{f' ({node.reason})' if node.reason else ''}: not probed")
        elif node.name in refused:
            yield warn(subject, f"not probed: {refused[node.name]}")
        elif node.name not in jobs or jobs[node.name] not in ended:
            yield warn(subject, "not probed: SLURM did not report the state of its job")
        else:
            yield _job_finding(cluster, subject, node, ended[jobs[node.name]], deadline, runtime, exclude)


def _job_finding(
    cluster: ClusterSettings,
    subject: str,
    node: Node,
    job: Mapping[str, str],
    deadline: int,
    runtime: str,
    exclude: str,
) -> Finding:
    state, code = job.get("JobState", ""), job.get("ExitCode", "").partition(":")[0]
    if state == "COMPLETED":
        return ok(subject, "sees the data and the images, and has the container program")
    if state in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "CANCELLED"):
        reason = job.get("Reason", "")
        because = f" ({reason})" if reason not in ("", "None") else ""
        return warn(subject, f"not probed: its job did not end within {deadline} s{because}; node state {node.state}")
    bits = int(code) if state == "FAILED" and code.isdigit() else 0
    faults = [(sentence.format(runtime=runtime), key) for bit, sentence, key in _FAULTS if bits & bit]
    if not faults or bits >= 2 * NO_TEMPORARY:
        return fail(
            subject, f"its job ended {state} {job.get('ExitCode', '')}", f"exclude it: {exclude} = {node.name}", exclude
        )
    keys = [cluster.line("SLURM", key) for _, key in faults if key]
    return fail(
        subject,
        ", ".join(sentence for sentence, _ in faults),
        f"ask the site to repair it, or exclude it: {exclude} = {node.name}",
        "; ".join(dict.fromkeys(keys)) or exclude,
    )
