"""Take a notice to a mail server or a web service, within a bounded time, and say honestly whether it arrived.

Nothing here knows of the log or holds anything of it: a server that hangs, drips or lies costs one thread some seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import os
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol
from urllib.parse import urlsplit

from biomeroworker import __version__
from biomeroworker.config.schema import NotificationSettings
from biomeroworker.errors import ConfigError, Permanent, Transient
from biomeroworker.eventlog.store.outbox_rows import EMAIL, WEBHOOK
from biomeroworker.notifications.message import RunEnded, build_email, build_payload, one_line

#: Seconds that a server may be silent, and that a delivery may take in all however much it talks.
IDLE_TIMEOUT_SECONDS, TOTAL_TIMEOUT_SECONDS = 10.0, 30.0

SMTP_PASSWORD, WEBHOOK_SECRET = "BIOMERO_SMTP_PASSWORD", "BIOMERO_WEBHOOK_SECRET"
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class NotDelivered(Transient):
    """It did not arrive, or nobody knows; to be tried again.

    Parameters
    ----------
    channel
        Whether the next notice would fare no better, so that it need not be tried now.
    """

    def __init__(self, message: str, *, channel: bool = True) -> None:
        super().__init__(message)
        self.channel = channel


class Channel(Protocol):
    """A way of telling."""

    def accepts(self, ended: RunEnded) -> bool:
        """Whether this end is to be told this way."""
        ...

    def deliver(self, ended: RunEnded) -> None:
        """Tell it: on return the other side has taken it. Raises `NotDelivered`, or Permanent when it never will."""
        ...


def channels(settings: NotificationSettings, environ: Mapping[str, str] = os.environ) -> dict[str, Channel]:
    """The ways of telling that are configured, by their names in the outbox.

    Raises
    ------
    ConfigError
        A password that the settings call for is not in the environment.
    """
    found: dict[str, Channel] = {}
    if settings.smtp_host and settings.smtp_from:
        password = environ.get(SMTP_PASSWORD, "")
        if settings.smtp_user and not password:
            raise ConfigError(f"[NOTIFICATIONS] smtp_user: its password is not in the environment ({SMTP_PASSWORD})")
        found[EMAIL] = SmtpChannel(settings, password)
    if settings.webhook_url:
        found[WEBHOOK] = WebhookChannel(settings.webhook_url.get_secret_value(), environ.get(WEBHOOK_SECRET, ""))
    return found


class SmtpChannel:
    """E-mail by SMTP, to who asked for it."""

    def __init__(self, settings: NotificationSettings, password: str = "") -> None:
        assert settings.smtp_host
        assert settings.smtp_from
        self._host, self._sender = settings.smtp_host, settings.smtp_from
        self._tls, self._user, self._password = settings.smtp_tls, settings.smtp_user or "", password
        self._port = settings.smtp_port or _PORTS[settings.smtp_tls]

    def accepts(self, ended: RunEnded) -> bool:
        """Only who asked gets one."""
        return bool(ended.email)

    def deliver(self, ended: RunEnded) -> None:
        """Hand a letter to the mail server."""
        message = build_email(ended, self._sender)
        context = ssl.create_default_context()
        smtp = (
            smtplib.SMTP_SSL(timeout=IDLE_TIMEOUT_SECONDS, context=context)
            if self._tls == "tls"
            else smtplib.SMTP(timeout=IDLE_TIMEOUT_SECONDS)
        )
        # connected apart from being made, so that the watch can cut it off from its first byte on; TLS checks this name
        smtp._host = self._host  # type: ignore[attr-defined]
        where = f"the mail server {self._host}:{self._port}"
        try:
            with deadline(TOTAL_TIMEOUT_SECONDS, lambda: smtp.sock):
                smtp.connect(self._host, self._port)
                if self._tls == "starttls":
                    smtp.starttls(context=context)
                if self._user:
                    smtp.login(self._user, self._password)
                smtp.send_message(message, self._sender, [ended.email])
                with contextlib.suppress(smtplib.SMTPException, OSError):  # it has taken the letter
                    smtp.quit()
        except smtplib.SMTPRecipientsRefused as error:
            code, words = next(iter(error.recipients.values()))
            told = one_line(words.decode("utf-8", "replace"))
            if code >= 500:
                raise Permanent(f"{where} refuses the recipient: {code} {told}") from None
            raise NotDelivered(f"{where} does not take it yet: {code} {told}", channel=False) from None
        except smtplib.SMTPDataError as error:
            raise NotDelivered(f"{where} does not take the letter: {_reply(error)}", channel=False) from None
        except smtplib.SMTPResponseException as error:
            raise NotDelivered(f"{where} answered {_reply(error)}") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise NotDelivered(f"{where}: {type(error).__name__}: {one_line(str(error))}") from None
        finally:
            smtp.close()


class WebhookChannel:
    """A POST with JSON, signed when there is a secret.

    ``X-Biomeroworker-Signature: sha256=<hex>`` is the HMAC (RFC 2104) of the body. ``X-Biomeroworker-Delivery`` is the
    same for every delivery of the same end. Only 2xx counts as taken; redirects are not followed.
    """

    def __init__(self, url: str, secret: str = "") -> None:
        self._url, self._secret = urlsplit(url), secret

    def accepts(self, ended: RunEnded) -> bool:
        """Every end."""
        return True

    def deliver(self, ended: RunEnded) -> None:
        """Post it."""
        body = build_payload(ended)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"biomeroworker/{__version__}",
            "X-Biomeroworker-Delivery": ended.key,
            "Connection": "close",
        }
        if self._secret:
            headers["X-Biomeroworker-Signature"] = signature(self._secret, body)
        host, port = self._url.hostname or "", self._url.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=IDLE_TIMEOUT_SECONDS, context=ssl.create_default_context())
            if self._url.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=IDLE_TIMEOUT_SECONDS)
        )
        where = f"the web hook on {connection.host}:{connection.port}"
        target = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        try:
            connection.connect()
            wire = connection.sock
            with deadline(TOTAL_TIMEOUT_SECONDS, lambda: wire):
                connection.request("POST", target, body, headers)
                status = connection.getresponse().status
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotDelivered(f"{where}: {type(error).__name__}: {one_line(str(error))}") from None
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise NotDelivered(f"{where} answered {status}", channel=status >= 500 or status in (401, 403, 404, 429))


def signature(secret: str, body: bytes) -> str:
    """What the receiver of a web hook should compute, and compare in constant time."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@contextlib.contextmanager
def deadline(seconds: float, wire: Callable[[], socket.socket | None]) -> Iterator[None]:
    """Cut a connection off after so long: a time-out per read does not bound a server that drips."""

    def cut() -> None:
        with contextlib.suppress(OSError):
            if (open_one := wire()) is not None:
                open_one.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(seconds, cut)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def _reply(error: smtplib.SMTPResponseException) -> str:
    words = error.smtp_error
    return f"{error.smtp_code} {one_line(words.decode('utf-8', 'replace') if isinstance(words, bytes) else words)}"
