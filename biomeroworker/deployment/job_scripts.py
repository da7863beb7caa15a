"""Job scripts below ``slurm_script_path``, for programs that expect one for each workflow.

Runs do not use these scripts: the supervisor sends a job script with each run. Scripts for biomero test for
``jobs/<workflow>.sh`` before they submit a workflow, and stop if it does not exist.
"""

from __future__ import annotations

import posixpath

from biomeroworker import remote
from biomeroworker.cluster.cluster import Cluster
from biomeroworker.config import Settings

#: Runs the NUL-separated words of the file ``$1`` in the folder of a run's data; exit code 2 if there are no results.
JOB_SCRIPT = (
    f"#!/bin/bash\n{remote.shell_function('read_words')}"
    r"""
[ -f "${1:-}" ] || { echo "usage: $0 FILE, with the words of the container's command, each ended by NUL" >&2; exit 64; }
read_words "$1"
name=${SLURM_JOB_NAME:-workflow}
echo "Running ${name//[^A-Za-z0-9_-]/_} Job w/ ${words[0]##*/} | container | $PWD | $0 |" # scripts read $PWD from it
"${words[@]}"; code=$?
[ "$code" -ne 0 ] || [ -n "$(ls -A data/out)" ] || { echo "Workflow completed without producing files"; code=2; }
exit "$code"
"""
)
#: $1 the text of the script; further arguments: files, of which those that do not exist are written.
_WRITE_MISSING = r"""
text=$1; shift
for file do
    [ -e "$file" ] && continue
    mkdir -p -- "$(dirname -- "$file")" && printf '%s' "$text" >"$file.part" && mv -f -- "$file.part" "$file" || exit
done
"""


def job_script_name(settings: Settings, workflow: str) -> str:
    """The name of a workflow's job script, relative to ``slurm_script_path``."""
    return settings.workflows[workflow].job or f"jobs/{workflow}.sh"


def leave_job_scripts(settings: Settings, name: str, cluster: Cluster) -> None:
    """Write the job script of each workflow of a cluster, unless the file exists.

    Raises
    ------
    OSError
        A script cannot be written.
    """
    folder = cluster.remote_paths.absolute(settings.clusters[name].slurm.slurm_script_path)
    names = {
        script for one in settings.workflows_on(name) for script in (f"jobs/{one}.sh", job_script_name(settings, one))
    }
    files = [posixpath.normpath(posixpath.join(folder, script)) for script in sorted(names)]
    files = [file for file in files if file.startswith(f"{folder}/")]
    if files:
        answer = cluster.transport.run(["sh", "-c", _WRITE_MISSING, "biomeroworker", JOB_SCRIPT, *files], timeout=60)
        if not answer.ok:
            raise OSError(f"the job scripts cannot be written to {folder}: {answer.stderr.strip()}")
