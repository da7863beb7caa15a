"""Deliver the notifications of the outbox, each at least once.

While a server is down, there is one failed delivery for each backoff delay, for any number of notifications. No
transaction is open during a delivery.
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

#: Seconds for which a notification is claimed: much longer than any delivery.
CLAIM_SECONDS = 300.0
#: Seconds after which a round ends, even if more notifications are due.
ROUND_SECONDS = 30.0
#: Days until the rows of delivered notifications are deleted. Until then their result can be looked up.
KEEP_DAYS = 90.0


class Dispatcher:
    """Delivers the notifications about ended runs.

    Raises
    ------
    ConfigError
        The settings need a password that is not in the environment.
    """

    def __init__(self, log: RunLog, settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
        self._log = log
        self._channels = channels.channels(settings.notifications, environ)
        self._patience = settings.notifications.give_up_days * 86400
        self._holder = uuid.uuid4().hex
        self._failures: dict[str, int] = {}  # consecutive, by channel
        self._paused_until: dict[str, float] = {}  # by channel that has failed

    def deliver(self) -> int:
        """Deliver what is due, for one round at most; returns the number of closed notifications."""
        end = time.monotonic() + ROUND_SECONDS
        closed = 0
        while time.monotonic() < end:
            now = time.monotonic()
            paused = [channel for channel, until in self._paused_until.items() if until > now]
            notice = self._log.outbox.claim(self._holder, CLAIM_SECONDS, without=paused)
            if notice is None:
                break
            closed += self._handle(notice)
        return closed

    def purge(self) -> None:
        """Delete the rows of notifications that were closed long ago."""
        self._log.outbox.purge(KEEP_DAYS)

    def _handle(self, notice: Notice) -> bool:
        """Deliver one notification; returns whether it is closed."""
        try:
            outcome = self._send(notice)
        except Permanent as error:
            logger.warning("%s for run %s is abandoned: %s", notice.channel, notice.run_id, error)
            outcome = f"abandoned: {error}"
        except Exception as error:  # no error may lose this notification or block the others
            if time.time() - notice.recorded < self._patience:
                self._postpone(notice, error)
                return False
            logger.warning("%s for run %s is abandoned: %s", notice.channel, notice.run_id, error)
            outcome = f"abandoned after {notice.tries + 1} attempts: {error}"
        else:
            self._failures.pop(notice.channel, None)
        self._log.outbox.close(notice, self._holder, outcome)
        return True

    def _send(self, notice: Notice) -> str:
        channel = self._channels.get(notice.channel)
        try:
            ended = RunEnded.from_run(self._log.run(notice.run_id))
        except NoSuchRun:
            return "the run does not exist"
        if channel is None:
            if notice.channel == EMAIL and ended.email:
                raise Permanent("an e-mail was requested, but [NOTIFICATIONS] smtp_host is not set")
            return "not configured"
        if not channel.accepts(ended):
            return "not requested"
        channel.deliver(ended)
        return "delivered"

    def _postpone(self, notice: Notice, error: Exception) -> None:
        delay = backoff_delay(notice.tries + 1)
        self._log.outbox.postpone(notice, self._holder, delay, str(error))
        if notice.tries == 0:
            logger.warning("%s for run %s failed and will be retried: %s", notice.channel, notice.run_id, error)
        if getattr(error, "channel", False):
            failures = self._failures[notice.channel] = self._failures.get(notice.channel, 0) + 1
            self._paused_until[notice.channel] = time.monotonic() + backoff_delay(failures)
