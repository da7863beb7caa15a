"""Rate-limit SSH logins to a front-end, so that fail2ban does not ban the worker.

Sites ban addresses that connect too often or are refused too often (fail2ban's default: five refusals in ten minutes).
There is one login at a time, at most `LOGINS_PER_MINUTE`, and none for some minutes after `_MAX_REFUSALS`. All
processes that share a connection share this count, in a file beside the connection's socket. A process that waited
while the login of another one failed gets the same fault: an unreachable front-end then costs one timeout, not one
timeout per process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biomeroworker.cluster.transport.errors import is_refusal
from biomeroworker.errors import Blocked, Fault, Transient

#: Logins in a minute, successful or not; further ones wait.
LOGINS_PER_MINUTE = 10
_MINUTE_SECONDS = 60.0
#: After so many refusals of our key within `_REFUSAL_SECONDS`, no login is tried until the oldest one is that old.
_MAX_REFUSALS = 3
_REFUSAL_SECONDS = 600.0
_POLL_SECONDS = 0.05


@dataclass
class LoginHistory:
    """Times of logins and refusals (seconds since the epoch), and the fault of the last login."""

    logins: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    failed_at: float = 0.0
    failure: dict[str, str] = field(default_factory=dict)


class LoginRateLimiter:
    """Limits the logins to one front-end.

    Parameters
    ----------
    file
        Holds the history; its folder must be private to this account.
    host
        Its name in messages.
    """

    def __init__(self, file: Path, host: str) -> None:
        self._file = file
        self._host = host

    @contextlib.contextmanager
    def exclusive(self, timeout: float) -> Iterator[float]:
        """Lock out other logins; yields the time since when this one waits. `Transient` after ``timeout`` seconds."""
        began = time.time()
        handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            deadline = time.monotonic() + timeout
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Transient(f"no connection to {self._host} within {timeout:g} s") from None
                    time.sleep(_POLL_SECONDS)
            yield began
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def attempt(self, waiting_since: float, patience: float) -> Iterator[None]:
        """Log in inside this context, within `exclusive`: the login is counted, and delayed or refused if needed."""
        past = self._read()
        if past.failure and past.failed_at > waiting_since:
            raise _from_dict(past.failure)
        self._wait(past, patience)
        past.logins.append(time.time())
        self._write(past)
        try:
            yield
        except Fault as fault:
            now = time.time()
            past.failed_at = now
            past.failure = _to_dict(fault)
            if isinstance(fault, Blocked) and is_refusal(fault.detail):
                past.refusals.append(now)
            self._write(past)
            raise
        past.refusals.clear()
        past.failure = {}
        self._write(past)

    def _wait(self, past: LoginHistory, patience: float) -> None:
        now = time.time()
        if len(past.refusals) >= _MAX_REFUSALS:
            again = past.refusals[-_MAX_REFUSALS] + _REFUSAL_SECONDS
            raise Blocked(
                f"{self._host} has refused our key {len(past.refusals)} times; to avoid a ban, the next login is"
                f" at {time.strftime('%H:%M', time.localtime(again + _MINUTE_SECONDS))}",
                hint=past.failure.get("hint", "") or "check the key and the account",
                detail=past.failure.get("detail", ""),
            )
        if len(past.logins) >= LOGINS_PER_MINUTE:
            pause = past.logins[-LOGINS_PER_MINUTE] + _MINUTE_SECONDS - now
            if pause > patience:
                raise Transient(
                    f"{len(past.logins)} logins to {self._host} within a minute: the next one is in {pause:.0f} s",
                    detail=past.failure.get("detail", ""),
                )
            time.sleep(max(0.0, pause))

    def _read(self) -> LoginHistory:
        try:
            past = LoginHistory(**json.loads(self._file.read_text()))
        except (ValueError, TypeError, OSError):
            past = LoginHistory()
        now = time.time()  # times in the future, of a clock that was set back, do not count
        past.logins = [at for at in past.logins if now - _MINUTE_SECONDS < at <= now]
        past.refusals = [at for at in past.refusals if now - _REFUSAL_SECONDS < at <= now]
        return past

    def _write(self, past: LoginHistory) -> None:
        # In place: the lock is on this file.
        self._file.write_text(json.dumps(past.__dict__))


def _to_dict(fault: Fault) -> dict[str, str]:
    kind = "blocked" if isinstance(fault, Blocked) else "transient"
    return {"kind": kind, "message": str(fault), "hint": fault.hint, "detail": fault.detail}


def _from_dict(stored: dict[str, Any]) -> Fault:
    kind = Blocked if stored["kind"] == "blocked" else Transient
    return kind(stored["message"], hint=stored["hint"], detail=stored["detail"])
