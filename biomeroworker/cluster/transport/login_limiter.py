"""Who may knock at a front-end's door, and how often: a login at a time, so many a minute, fewer when it refuses us.

Sites ban addresses that connect too often or are refused too often (fail2ban bans five refusals in ten minutes by
default). All processes that share a connection share this count: it lies in a file beside the connection's socket. Who
waited at the door while another was turned away takes that answer for its own: a front-end that is silent costs
everybody one wait, not one after the other.
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

#: Most logins in a minute, good or bad; a burst is fine, then one waits.
LOGINS_PER_MINUTE = 10
_MINUTE_SECONDS = 60.0
#: Most refusals of our key within `_REFUSAL_SECONDS`, after which nobody knocks until the oldest is so long ago.
_MAX_REFUSALS = 3
_REFUSAL_SECONDS = 600.0
_POLL_SECONDS = 0.05


@dataclass
class LoginHistory:
    """What is kept: times of logins and of refusals (seconds since the epoch), and how the last one failed."""

    logins: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    failed_at: float = 0.0
    failure: dict[str, str] = field(default_factory=dict)


class LoginRateLimiter:
    """The door of one front-end.

    Parameters
    ----------
    file
        Where the count is kept; its folder is ours alone.
    host
        How it is called in messages.
    """

    def __init__(self, file: Path, host: str) -> None:
        self._file = file
        self._host = host

    @contextlib.contextmanager
    def exclusive(self, timeout: float) -> Iterator[float]:
        """Nobody else is at the door meanwhile; since when we wait. `Transient` when it takes longer than that."""
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
        """Log in inside this: counted, put off, or not let through at all. The door must be held."""
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
                f"{self._host} has refused our key {len(past.refusals)} times; so as not to be banned, we do not try"
                f" again before {time.strftime('%H:%M', time.localtime(again + _MINUTE_SECONDS))}",
                hint=past.failure.get("hint", "") or "look at the key and at the account",
                detail=past.failure.get("detail", ""),
            )
        if len(past.logins) >= LOGINS_PER_MINUTE:
            pause = past.logins[-LOGINS_PER_MINUTE] + _MINUTE_SECONDS - now
            if pause > patience:
                raise Transient(
                    f"{len(past.logins)} logins to {self._host} within a minute: the next one waits {pause:.0f} s",
                    detail=past.failure.get("detail", ""),
                )
            time.sleep(max(0.0, pause))

    def _read(self) -> LoginHistory:
        try:
            past = LoginHistory(**json.loads(self._file.read_text()))
        except (ValueError, TypeError, OSError):
            past = LoginHistory()
        now = time.time()  # a clock that was set back must not keep us out
        past.logins = [at for at in past.logins if now - _MINUTE_SECONDS < at <= now]
        past.refusals = [at for at in past.refusals if now - _REFUSAL_SECONDS < at <= now]
        return past

    def _write(self, past: LoginHistory) -> None:
        # In place: the lock is on this file.
        self._file.write_text(json.dumps(past.__dict__))


def _to_dict(fault: Fault) -> dict[str, str]:
    kind = "blocked" if isinstance(fault, Blocked) else "transient"
    return {"kind": kind, "message": str(fault), "hint": fault.hint, "detail": fault.detail}


def _from_dict(kept: dict[str, Any]) -> Fault:
    kind = Blocked if kept["kind"] == "blocked" else Transient
    return kind(kept["message"], hint=kept["hint"], detail=kept["detail"])
