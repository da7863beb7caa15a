"""Bring many images to a cluster: a few at a time, each for itself, on the login node or in jobs.

One image that cannot be had does not keep the others away. Nothing is lost by being interrupted: what is there stays,
and a pull that was handed to the scheduler goes on; asking again finds its job by name and waits for that one.
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

#: Seconds between two questions about a pull's job, and between two words about pulls that last.
POLL_INTERVAL_SECONDS = 3.0
REPORT_INTERVAL_SECONDS = 30.0
#: A job that neither queue nor folder knows for so long is gone.
_GONE_SECONDS = 60.0
#: A front end that is away for so long is not waited for any more; the next ``init`` adopts the job.
_AWAY_SECONDS = 600.0

#: bash, run by sbatch in the folder of the pull. The login's file is open, and gone, before anything is run.
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

#: $1 folder, $2 job name. What became of the pull; nothing while its job waits or runs.
_ASK = r"""
cd
if [ -s "$1/code" ]; then
  code=$(cat "$1/code"); printf 'ended %s\n' "$code"; cat "$1/answer"; cat "$1/complaint" >&2
else
  jobs=$(squeue --noheader --name "$2" --format %T) && printf 'jobs %s\n' "$(printf '%s' "$jobs" | tr '\n' ' ')"
fi
"""

#: $1 folder, $2 job name, then the sbatch command; on stdin the login. Adopts a job of that name.
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
    """An image to have: a workflow's (``folder`` is its path below the images) or a converter's (``folder`` empty)."""

    name: str
    reference: str
    folder: str = ""


@dataclass(frozen=True)
class PullResult:
    """What became of one of them: an image, or the fault that kept it away."""

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
    """Pull them, at most ``max_parallel`` at a time; each has a result. Progress is reported line by line."""
    outcomes: list[PullResult] = []
    with ThreadPoolExecutor(max_workers=max_parallel, thread_name_prefix="pull") as pool:
        started: dict[Future[PullResult], PullRequest] = {}
        for one in wanted:
            started[pool.submit(_pull, images, one, run, report)] = one
        left = set(started)
        try:
            while left:
                done, left = wait(left, timeout=REPORT_INTERVAL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    outcomes.append(future.result())
                    report(f"[{len(outcomes)}/{len(wanted)}] {_summary(outcomes[-1])}")
                if not done:
                    names = ", ".join(started[future].name for future in left if future.running())
                    report(f"[{len(outcomes)}/{len(wanted)}] still pulling {names}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return sorted(outcomes, key=lambda outcome: wanted.index(outcome.request))


def _pull(images: Images, wanted: PullRequest, run: Runner | None, report: Callable[[str], None]) -> PullResult:
    begun = time.monotonic()
    report(f"{wanted.name}: {wanted.reference}")
    try:
        if wanted.folder:
            image = images.pull(wanted.folder, wanted.reference, run)
        else:
            image = images.pull_converter(wanted.name, wanted.reference, run)
    except Exception as error:
        return PullResult(wanted, time.monotonic() - begun, fault=classify(error))
    return PullResult(wanted, time.monotonic() - begun, image)


def _summary(outcome: PullResult) -> str:
    if outcome.image:
        return f"{outcome.request.name}: {outcome.image.version} is there ({outcome.seconds:.0f} s)"
    fault = outcome.fault
    hint = f" ({fault.hint})" if fault and fault.hint else ""
    return f"{outcome.request.name}: {fault}{hint}"


class PullJobs:
    """Runs pulls as jobs of the cluster.

    Parameters
    ----------
    folder
        On the cluster, for what travels to the jobs and back; relative to the home folder.
    options
        Long options of ``sbatch``; an empty value is an option without one.
    """

    def __init__(self, transport: Transport, folder: str, options: Mapping[str, str]) -> None:
        self._transport, self._folder, self._options = transport, folder, dict(options)

    def __call__(self, command: Sequence[str], stdin: bytes) -> Completed:
        """One pull, to its end. Its job is named after its command, so that two of the same are one job."""
        name = f"biomero-pull-{hashlib.sha256(chr(0).join(command).encode()).hexdigest()[:16]}"
        folder = f"{self._folder}/{name}"
        self._transport.write_file(f"{folder}/argv", remote.encode_words(command))
        self._transport.write_file(f"{folder}/job.sh", _JOB.encode())
        submit = ["sh", "-c", _SUBMIT, "submit", folder, name, *self._sbatch(name)]
        answer = self._transport.run(submit, timeout=90, stdin=stdin)
        if not answer.ok:
            self._transport.remove(folder)
            raise Permanent(
                "sbatch does not take the job that would pull the image",
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
        unknown_since, heard = None, time.monotonic()
        while True:
            try:
                answer = self._transport.run(["sh", "-c", _ASK, "ask", folder, name], timeout=90)
                heard = time.monotonic()
            except Transient:  # the job does not need us
                if time.monotonic() - heard > _AWAY_SECONDS:
                    raise
                time.sleep(POLL_INTERVAL_SECONDS)
                continue
            word, _, rest = answer.stdout.partition("\n")
            if word.startswith("ended "):
                return Completed(tuple(command), int(word.split()[1]), rest, answer.stderr)
            if word.startswith("jobs ") and not word.removeprefix("jobs ").strip():
                unknown_since = unknown_since or time.monotonic()
                if time.monotonic() - unknown_since > _GONE_SECONDS:
                    said = self._transport.run(["sh", "-c", 'cd; tail -n 20 "$1/slurm.out"', "tail", folder]).stdout
                    raise remote_file_fault(f"the job {name}, which pulls an image, ended without a word", said)
            else:
                unknown_since = None
            time.sleep(POLL_INTERVAL_SECONDS)
