"""Record the answers of a real SLURM for jobs of every kind: ``python tests/data/slurm/record.py SANDBOX_ROOT``.

The answers are written beside this file, in a folder named after SLURM's version, as the product's queries print them.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from biomeroworker.cluster.slurm import accounting, commands
from biomeroworker.cluster.slurm.scheduler import JobSpec

HERE = Path(__file__).parent
#: What is submitted: a script and options, by the name of the case.
CASES: dict[str, tuple[str, dict[str, str], dict[str, object]]] = {
    "done": ("head -c 50M /dev/zero | tail >/dev/null; sleep 2", {"gres": "gpu:1", "mem": "200M"}, {}),
    "exit-42": ("exit 42", {}, {}),
    "segmentation-fault": ("kill -SEGV $$", {}, {}),
    "out-of-memory": ("tail /dev/zero", {}, {}),
    "held": ("true", {}, {"hold": True}),
    "begins-later": ("true", {"begin": "now+3600"}, {}),
    "two-nodes": ("sleep 20", {"cpus-per-task": "4", "exclusive": "", "nodes": "2"}, {}),
    "array": ("sleep 1; exit $((SLURM_ARRAY_TASK_ID == 3))", {}, {"array": "1-9%2", "hold": True}),
    "array-cancelled": ("true", {}, {"array": "0-7:2", "hold": True}),
    "cancelled": ("sleep 300", {}, {}),
    "running": ("sleep 300", {}, {}),
    "refused": ("true", {"mem": "500G"}, {}),
}


def main(root: str) -> None:
    """Submit all jobs, wait for their ends, and record the queries."""

    def login(*argv: str, text: str = "") -> str:
        words = ["ssh", "-F", f"{root}/client/ssh_config", "hpc", shlex.join(argv)]
        return subprocess.run(words, input=text, capture_output=True, text=True, timeout=120).stdout

    began = datetime.now(UTC)
    login(
        "sh", "-c", "mkdir -p record && cat > record/job.sh && chmod +x record/job.sh", text='#!/bin/bash\neval "$1"\n'
    )
    home = login("pwd").strip()
    for name, (program, options, more) in CASES.items():
        spec = JobSpec(
            f"case-{name}", f"{home}/record/job.sh", f"{home}/record/out-%j", f"{home}/record", (program,),
            {"mem": "50M", "time": "5", **options}, **more,  # type: ignore[arg-type]
        )  # fmt: skip
        login(*commands.submit_command(spec))
    login(*commands.release_command("case-array", [1, 2, 3, 5]))
    time.sleep(8)
    login(*commands.cancel_command(["case-array-cancelled", "case-cancelled"]))
    time.sleep(8)
    version = login("sbatch", "--version").split()[-1]
    folder = HERE / version
    (folder / "statistics").mkdir(parents=True, exist_ok=True)
    for name in CASES:
        ids = sorted(set(login("squeue", "-h", "-t", "all", f"--name=case-{name}", "-o", "%F").split()))
        asked = commands.status_command([f"case-{name}"], began - timedelta(minutes=1), [int(one) for one in ids])
        (folder / f"{name}.txt").write_text(login(*asked))
        if ids:
            used = login(*accounting.statistics_command([int(one) for one in ids]))
            (folder / "statistics" / f"{name}.txt").write_text(used)
    (folder / "config.txt").write_text(
        "".join(line + "\n" for line in login(*commands.limits_command()).splitlines() if root not in line)
    )
    login(*commands.cancel_command([f"case-{name}" for name in CASES]))


if __name__ == "__main__":
    main(sys.argv[1])
