"""Deliver what the outbox holds, until nothing is due: at least once each, and patiently.

A server that is down costs one failed delivery per backoff, however much waits for it. No transaction is open while
anything travels.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Mapping

from biomeroworker.config import Settings
from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.errors import Permanent
from biomeroworker.eventlog.runlog import NoSuchRun, RunLog
from biomeroworker.eventlog.store.outbox import Notice
from biomeroworker.eventlog.store.outbox_rows import EMAIL
from biomeroworker.notifications import channels
from biomeroworker.notifications.message import RunEnded

logger = logging.getLogger(__name__)

#: For how long a notice is ours: far longer than any delivery takes.
CLAIM_SECONDS = 300.0
#: After so many seconds a round ends though more is due.
ROUND_SECONDS = 30.0
#: Delivered rows are kept so many days, for whoever asks what became of a letter.
KEEP_DAYS = 90.0


class Dispatcher:
    """Delivers notices of the ends of runs.

    Raises ConfigError when what the settings call for is not there.
    """

    def __init__(self, log: RunLog, settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
        self._log = log
        self._channels = channels.channels(settings.notifications, environ)
        self._patience = settings.notifications.give_up_days * 86400
        self._holder = uuid.uuid4().hex
        self._failures: dict[str, int] = {}  # in a row, by channel
        self._paused_until: dict[str, float] = {}  # channels that failed are left alone until then

    def deliver(self) -> int:
        """Deliver what is due, for at most a round; how many notices were dealt with for good."""
        end = time.monotonic() + ROUND_SECONDS
        dealt = 0
        while time.monotonic() < end:
            now = time.monotonic()
            resting = [channel for channel, until in self._paused_until.items() if until > now]
            notice = self._log.outbox.claim(self._holder, CLAIM_SECONDS, without=resting)
            if notice is None:
                break
            dealt += self._handle(notice)
        return dealt

    def purge(self) -> None:
        """Forget what was delivered long ago."""
        self._log.outbox.purge(KEEP_DAYS)

    def _handle(self, notice: Notice) -> bool:
        """Deliver one notice; whether that is the last that is to be done about it."""
        try:
            outcome = self._send(notice)
        except Permanent as error:
            logger.warning("%s of run %s is given up: %s", notice.channel, notice.run_id, error)
            outcome = f"given up: {error}"
        except Exception as error:  # whatever it is, the notice must be neither lost nor in the way of others
            if time.time() - notice.recorded < self._patience:
                self._postpone(notice, error)
                return False
            logger.warning("%s of run %s is given up: %s", notice.channel, notice.run_id, error)
            outcome = f"given up after {notice.tries + 1} tries: {error}"
        else:
            self._failures.pop(notice.channel, None)
        self._log.outbox.close(notice, self._holder, outcome)
        return True

    def _send(self, notice: Notice) -> str:
        channel = self._channels.get(notice.channel)
        try:
            ended = RunEnded.from_run(self._log.run(notice.run_id))
        except NoSuchRun:
            return "there is no such run"
        if channel is None:
            if notice.channel == EMAIL and ended.email:
                raise Permanent("an e-mail was asked for, but [NOTIFICATIONS] smtp_host is not set")
            return "not configured"
        if not channel.accepts(ended):
            return "not asked for"
        channel.deliver(ended)
        return "delivered"

    def _postpone(self, notice: Notice, error: Exception) -> None:
        delay = backoff_delay(notice.tries + 1)
        self._log.outbox.postpone(notice, self._holder, delay, str(error))
        if notice.tries == 0:
            logger.warning("%s of run %s is tried again: %s", notice.channel, notice.run_id, error)
        if getattr(error, "channel", False):
            failures = self._failures[notice.channel] = self._failures.get(notice.channel, 0) + 1
            self._paused_until[notice.channel] = time.monotonic() + backoff_delay(failures)
