"""Pull several images to a cluster, a few in parallel, on the login node or in jobs.

A failed pull does not affect the others. After an interruption, images on the cluster remain and submitted jobs
continue: the next call finds such a job by its name and waits for it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from biomeroworker import remote
from biomeroworker.cluster.containers.images import Images, Runner
from biomeroworker.cluster.containers.runtime import Image
from biomeroworker.cluster.transport.errors import remote_file_fault, tail
from biomeroworker.cluster.transport.transport import Completed, Transport
from biomeroworker.errors import Fault, Permanent, Transient, classify

#: Polling interval for a pull's job, and interval of progress reports.
POLL_INTERVAL_SECONDS = 3.0
REPORT_INTERVAL_SECONDS = 30.0
#: A job that is not in the queue and has no exit code in its folder for this time has failed.
_LOST_SECONDS = 60.0
#: A login node that is unreachable for this time is not waited for; the next ``init`` finds the job again.
_UNREACHABLE_SECONDS = 600.0

#: bash, run by sbatch in the folder of the pull. The file with the credentials is opened and removed before the pull.
_JOB = (
    f"#!/bin/bash\n{remote.shell_function('read_words')}"
    r"""
read_words argv
exec 3<login || exit
rm -f login
"${words[@]}" <&3 >answer 2>complaint
echo "$?" >code.part
mv -f code.part code
"""
)

#: $1 folder, $2 job name. Prints the exit code and output of the pull, or the states of its jobs.
_STATUS = r"""
cd
if [ -s "$1/code" ]; then
  code=$(cat "$1/code"); printf 'ended %s\n' "$code"; cat "$1/answer"; cat "$1/complaint" >&2
else
  jobs=$(squeue --noheader --name "$2" --format %T) && printf 'jobs %s\n' "$(printf '%s' "$jobs" | tr '\n' ' ')"
fi
"""

#: $1 folder, $2 job name, then the sbatch command; on stdin the credentials. Does nothing if a job of that name exists.
_SUBMIT = r"""
umask 077
cd
cd -- "$1" || exit
if [ -z "$(squeue --noheader --name "$2" --format %i)" ]; then
  rm -f code answer complaint
  cat >login
  shift 2
  "$@" || exit
fi
"""


@dataclass(frozen=True)
class PullRequest:
    """An image to pull: of a workflow (``folder``: its path below the images) or of a converter (no ``folder``)."""

    name: str
    reference: str
    folder: str = ""


@dataclass(frozen=True)
class PullResult:
    """The result of one request: an image or a fault."""

    request: PullRequest
    seconds: float
    image: Image | None = None
    fault: Fault | None = None


def pull_all(
    images: Images,
    wanted: Sequence[PullRequest],
    report: Callable[[str], None],
    *,
    max_parallel: int,
    run: Runner | None = None,
) -> list[PullResult]:
    """Pull images, at most ``max_parallel`` at a time; one result per request. ``report`` gets lines of progress."""
    results: list[PullResult] = []
    with ThreadPoolExecutor(max_workers=max_parallel, thread_name_prefix="pull") as pool:
        started: dict[Future[PullResult], PullRequest] = {}
        for one in wanted:
            started[pool.submit(_pull, images, one, run, report)] = one
        left = set(started)
        try:
            while left:
                done, left = wait(left, timeout=REPORT_INTERVAL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    results.append(future.result())
                    report(f"[{len(results)}/{len(wanted)}] {_summary(results[-1])}")
                if not done:
                    names = ", ".join(started[future].name for future in left if future.running())
                    report(f"[{len(results)}/{len(wanted)}] still pulling {names}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return sorted(results, key=lambda result: wanted.index(result.request))


def _pull(images: Images, wanted: PullRequest, run: Runner | None, report: Callable[[str], None]) -> PullResult:
    started = time.monotonic()
    report(f"{wanted.name}: {wanted.reference}")
    try:
        if wanted.folder:
            image = images.pull(wanted.folder, wanted.reference, run)
        else:
            image = images.pull_converter(wanted.name, wanted.reference, run)
    except Exception as error:
        return PullResult(wanted, time.monotonic() - started, fault=classify(error))
    return PullResult(wanted, time.monotonic() - started, image)


def _summary(result: PullResult) -> str:
    if result.image:
        return f"{result.request.name}: {result.image.version} is on the cluster ({result.seconds:.0f} s)"
    fault = result.fault
    hint = f" ({fault.hint})" if fault and fault.hint else ""
    return f"{result.request.name}: {fault}{hint}"


class PullJobs:
    """Runs pulls as jobs of the cluster.

    Parameters
    ----------
    folder
        On the cluster, for the input and output of the jobs; relative to the home folder.
    options
        Long options of ``sbatch``; an empty value is an option without a value.
    """

    def __init__(self, transport: Transport, folder: str, options: Mapping[str, str]) -> None:
        self._transport, self._folder, self._options = transport, folder, dict(options)

    def __call__(self, command: Sequence[str], stdin: bytes) -> Completed:
        """Run one pull to its end. Its job is named after the command, so that equal pulls share a job."""
        name = f"biomero-pull-{hashlib.sha256(chr(0).join(command).encode()).hexdigest()[:16]}"
        folder = f"{self._folder}/{name}"
        self._transport.write_file(f"{folder}/argv", remote.encode_words(command))
        self._transport.write_file(f"{folder}/job.sh", _JOB.encode())
        submit = ["sh", "-c", _SUBMIT, "submit", folder, name, *self._sbatch(name)]
        answer = self._transport.run(submit, timeout=90, stdin=stdin)
        if not answer.ok:
            self._transport.remove(folder)
            raise Permanent(
                "sbatch refuses the job that pulls the image",
                hint="[SLURM] image_pull_cpus, image_pull_mem, slurm_default_partition, sbatch_<flag>",
                detail=tail(answer.stderr),
            )
        done = self._await(folder, name, command)
        self._transport.remove(folder)
        return done

    def _sbatch(self, name: str) -> Iterator[str]:
        yield from ("sbatch", "--parsable", f"--job-name={name}", "--output=slurm.out")
        yield from (f"--{flag}={value}" if value else f"--{flag}" for flag, value in self._options.items())
        yield "job.sh"

    def _await(self, folder: str, name: str, command: Sequence[str]) -> Completed:
        unknown_since, answered = None, time.monotonic()
        while True:
            try:
                answer = self._transport.run(["sh", "-c", _STATUS, "status", folder, name], timeout=90)
                answered = time.monotonic()
            except Transient:  # the job continues without a connection
                if time.monotonic() - answered > _UNREACHABLE_SECONDS:
                    raise
                time.sleep(POLL_INTERVAL_SECONDS)
                continue
            word, _, rest = answer.stdout.partition("\n")
            if word.startswith("ended "):
                return Completed(tuple(command), int(word.split()[1]), rest, answer.stderr)
            if word.startswith("jobs ") and not word.removeprefix("jobs ").strip():
                unknown_since = unknown_since or time.monotonic()
                if time.monotonic() - unknown_since > _LOST_SECONDS:
                    output = self._transport.run(["sh", "-c", 'cd; tail -n 20 "$1/slurm.out"', "tail", folder]).stdout
                    raise remote_file_fault(f"the job {name} (image pull, no exit code)", output)
            else:
                unknown_since = None
            time.sleep(POLL_INTERVAL_SECONDS)
