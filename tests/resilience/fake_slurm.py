"""A SLURM of one file with configurable faults: called as sbatch, squeue, sacct, scontrol or scancel, it stores its
jobs in ``$HOME/.slurm`` and really runs them. Each task of an array is stored as a job of its own.

The faults of a program are in ``.slurm/faults/<program>``, one word per line: each call removes the first line and
applies it; a line that begins with ``*`` applies until the file is removed. Words may have an argument: ``slow 2``. The
tasks in ``.slurm/lose``, one per line, are lost with their node as soon as they start, each once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HOME = Path(os.environ.get("HOME", "/"))
STATE = HOME / ".slurm"
TIMED_OUT = "Socket timed out on send/recv operation"
REFUSALS = {
    "timeout": TIMED_OUT,
    "down": "Unable to contact slurm controller (connect failure)",
    "limit": "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits): "
    "QOSMaxSubmitJobPerUserLimit",
    "rate": "RPC rate limit exceeded, retry later",
    "partition": "invalid partition specified: nope",
}
LIVE = ("PENDING", "RUNNING")


@contextlib.contextmanager
def locked() -> Iterator[None]:
    STATE.mkdir(exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fault(program: str) -> tuple[str, str]:
    """The fault of this call, if any."""
    file = STATE / "faults" / program
    with locked():
        try:
            lines = file.read_text().splitlines()
        except FileNotFoundError:
            return "", ""
        if not lines:
            return "", ""
        if not lines[0].startswith("*"):
            file.write_text("".join(f"{line}\n" for line in lines[1:]))
    word, _, argument = lines[0].lstrip("*").partition(" ")
    return word, argument


def jobs() -> list[dict]:
    return sorted((json.loads(file.read_text()) for file in STATE.glob("job-*.json")), key=lambda job: job["number"])


def save(job: dict) -> None:
    file = STATE / f"job-{job['number']}.json"
    file.with_suffix(".part").write_text(json.dumps(job))
    file.with_suffix(".part").replace(file)


def change(number: int, **values: object) -> dict:
    with locked():
        job = json.loads((STATE / f"job-{number}.json").read_text())
        job.update(values)
        save(job)
    return job


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())


def detached(*words: str) -> None:
    subprocess.Popen(
        [sys.executable, "-IS", __file__, *words], start_new_session=True, cwd="/",
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def tasks_of(expression: str) -> list[int]:
    """``0,3-5%2`` as numbers."""
    numbers: list[int] = []
    for span in expression.strip("[]").partition("%")[0].split(","):
        first, _, last = span.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def accept(arguments: list[str]) -> int:
    """Accept a job: record it, and start a process that runs it, unless it is held."""
    options = dict(word[2:].partition("=")[::2] for word in arguments if word.startswith("--"))
    script, *rest = [word for word in arguments if not word.startswith("--")]
    tasks: list[int | None] = [*tasks_of(options["array"])] if "array" in options else [None]
    with locked():
        known = jobs()
        number = known[-1]["number"] + 1 if known else 1
        reused = STATE / "first_id"
        first = int(reused.read_text()) if reused.exists() else 100
        spool = STATE / f"script-{number}"
        shutil.copy(script, spool)
        for place, task in enumerate(tasks):
            # the recorded stores of tests/data have jobs with these keys
            save({
                "number": number + place, "id": first + number, "task": task, "own_id": first + number + place,
                "held": "hold" in options, "name": options["job-name"], "script": str(spool), "words": rest,
                "stdout": options["output"].replace("%a", str(task)), "chdir": options["chdir"], "submitted": now(),
                "state": "PENDING", "code": 0, "begun": 0.0, "ended": 0.0, "pid": 0,
            })  # fmt: skip
    if "hold" not in options:
        for place in range(len(tasks)):
            detached("_run", str(number + place))
    return first + number


def sbatch(arguments: list[str]) -> int:
    word, argument = fault("sbatch")
    with locked(), (STATE / "calls").open("a") as calls:
        calls.write(f"{word or 'ok'}\n")
    if word in REFUSALS:
        print(f"sbatch: error: Batch job submission failed: {REFUSALS[word]}", file=sys.stderr)
        return 1
    if word == "late":
        detached("_late", argument, *arguments)
    if word == "slow":
        time.sleep(float(argument))
    number = accept(arguments) if word != "late" else 0
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "silent":
        time.sleep(60)
    if word in ("late", "accepted-timeout"):
        print(f"sbatch: error: Batch job submission failed: {TIMED_OUT}", file=sys.stderr)
        return 1
    print(number)
    return 0


def run(number: int) -> None:
    """What slurmd does."""
    delay = STATE / "delay"
    time.sleep(float(delay.read_text()) if delay.exists() else 0.05)
    with locked():
        job = json.loads((STATE / f"job-{number}.json").read_text())
        if job["state"] not in ("PENDING", "REQUEUED") or job["held"]:
            return
        environment = {**os.environ, "SLURM_JOB_ID": str(job["own_id"]), "SLURMD_NODENAME": "n1"}
        if job["task"] is not None:
            environment.update(SLURM_ARRAY_JOB_ID=str(job["id"]), SLURM_ARRAY_TASK_ID=str(job["task"]))
            lose = STATE / "lose"
            losses = lose.read_text().splitlines() if lose.exists() else []
            if str(job["task"]) in losses:
                losses.remove(str(job["task"]))
                lose.write_text("".join(f"{line}\n" for line in losses))
                job.update(state="NODE_FAIL", ended=time.time())
                save(job)
                return
        with Path(job["stdout"]).open("wb") as out:
            process = subprocess.Popen(
                ["bash", job["script"], *job["words"]], cwd=job["chdir"], env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        job.update(state="RUNNING", begun=time.time(), pid=process.pid)
        save(job)
    code = process.wait()
    with locked():
        job = json.loads((STATE / f"job-{number}.json").read_text())
        state = job["state"] if job["state"] not in LIVE else "COMPLETED" if code == 0 else "FAILED"
        job.update(state=state, code=max(code, 0), ended=time.time())
        save(job)


def selection(arguments: list[str]) -> tuple[set[str], set[str]]:
    """The names and ids in a query; an empty set selects all."""
    names = {name for word in arguments if word.startswith("--name=") for name in word[7:].split(",")}
    ids = set(arguments[arguments.index("-j") + 1].split(",")) if "-j" in arguments else set()
    return names, ids


def squeue(arguments: list[str]) -> int:
    word, argument = fault("squeue")
    if word == "silent":
        time.sleep(60)
    if word == "slow":
        time.sleep(float(argument))
    if word == "down":
        print("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", file=sys.stderr)
        return 1
    names, _ = selection(arguments)
    forgets = (STATE / "forgets").exists()
    for job in jobs():
        if (names and job["name"] not in names) or (forgets and job["state"] not in LIVE):
            continue
        shown = argument if word == "word" else job["state"]
        task = "N/A" if job["task"] is None else job["task"]
        reason = "JobHeldUser" if job["held"] and job["state"] == "PENDING" else "None"
        row = f"{job['id']}|{task}|{shown}|{job['submitted']}|0:01|n1|{reason}|{job['name']}"
        print(job["id"] if arguments[-1] == "%F" else row)
    return 0


def scontrol(arguments: list[str]) -> int:
    word, argument = fault("scontrol")
    if word == "slow":
        time.sleep(float(argument))
    if word == "down":
        print("slurm_suspend error: Unable to contact slurm controller (connect failure)", file=sys.stderr)
        return 1
    if arguments[:2] == ["show", "config"]:
        limit = STATE / "max_array_size"
        print(f"MaxArraySize            = {limit.read_text() if limit.exists() else 1001}")
        print("MaxJobCount             = 10000\nMinJobAge               = 300 sec\nSLURM_VERSION           = 22.05.8")
        return 0
    assert arguments[0] == "release", arguments
    job_id, _, listed = arguments[1].partition("_")
    wanted = [job for job in jobs() if str(job["id"]) == job_id and job["task"] in tasks_of(listed)]
    released = []
    for job in wanted:
        if job["held"]:
            change(job["number"], held=False)
            released.append(job["number"])
    for number in released:
        detached("_run", str(number))
    if word == "silent":  # the release is done, but never answered
        time.sleep(60)
    if len(wanted) < len(tasks_of(listed)):
        print("Invalid job id specified", file=sys.stderr)
        return 1
    if any(job["state"] not in LIVE for job in wanted):
        print(f"{arguments[1]}: Job has already finished", file=sys.stderr)
        return 1
    return 0


def sacct(arguments: list[str]) -> int:
    word, _ = fault("sacct")
    if word == "silent":
        time.sleep(60)
    if word == "down":
        print("sacct: error: Problem talking to the database: Connection refused", file=sys.stderr)
        return 1
    if word == "disabled":
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    if word == "lag":
        return 0
    names, ids = selection(arguments)
    for job in jobs():
        if (names and job["name"] not in names) or (ids and str(job["id"]) not in ids):
            continue
        state = "RUNNING" if word == "stale" and job["state"] != "PENDING" else job["state"]
        shown = job["id"] if job["task"] is None else f"{job['id']}_{job['task']}"
        print(f"{shown}|{job['submitted']}|1|{job['code']}:0||00:00:00|1||n1|{state}|None|{job['name']}")
    for one in ids:  # before the controller was reset, another job had this number
        print(f"{one}|2020-01-01T00:00:00|1|1:0||00:00:00|1||n1|FAILED|None|job-of-another-user")
    return 0


def scancel(arguments: list[str]) -> int:
    word, _ = fault("scancel")
    if word == "down":
        print("scancel: error: Unable to contact slurm controller (connect failure)", file=sys.stderr)
        return 1
    names, _ = selection(arguments)
    for job in jobs():
        if job["name"] in names and job["state"] in LIVE and word != "ignored":
            gone = change(job["number"], state="CANCELLED", ended=time.time())
            if gone["pid"]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(gone["pid"], signal.SIGKILL)
    return 0


def main(program: str, *arguments: str) -> int:
    """Run one of the programs."""
    words = list(arguments)
    match program:
        case "_run":
            run(int(words[0]))
        case "_late":
            time.sleep(float(words[0]))
            accept(words[1:])
        case _:
            return {"sbatch": sbatch, "squeue": squeue, "sacct": sacct, "scancel": scancel, "scontrol": scontrol}[
                program
            ](words)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
