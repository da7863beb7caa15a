"""Run a program without shell and input, with a time limit; its output is returned also when it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: The environment variables that programs get by default.
_NEEDED = ("PATH", "HOME", "USER", "TZ", "LD_LIBRARY_PATH")


class NotAvailable(Exception):
    """Some data cannot be collected; the text is the reason. The section continues without it."""


@dataclass(frozen=True)
class Answer:
    """Output (stdout and stderr) and exit code of a program."""

    text: str
    code: int
    timed_out: bool = False


def run_program(argv: Sequence[str], *, seconds: float, environ: Mapping[str, str] | None = None) -> Answer:
    """Run a program and wait for its end; after ``seconds``, it and its children are killed.

    Raises
    ------
    NotAvailable
        The program does not exist or cannot be started.
    """
    if environ is None:
        environ = {name: os.environ[name] for name in _NEEDED if name in os.environ} | {"LC_ALL": "C.UTF-8"}
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            start_new_session=True,
        )
    except FileNotFoundError:
        raise NotAvailable(f"{argv[0]} is not installed here, or not in PATH") from None
    except OSError as error:
        raise NotAvailable(f"{argv[0]} cannot be started: {error.strerror}") from None
    with process:
        try:
            printed, _ = process.communicate(timeout=seconds)
            return Answer(printed.decode(errors="replace"), process.returncode)
        except subprocess.TimeoutExpired as late:
            _kill(process)
            return Answer((late.stdout or b"").decode(errors="replace"), -signal.SIGKILL, timed_out=True)
        except BaseException:
            _kill(process)
            raise


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the program with its children, because a child could keep the output pipe open."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
