"""Send a notification to a mail server or a webhook, within a bounded time, and report whether it arrived.

Nothing here reads the event log or holds a connection of the database, so a server that is slow or silent costs one
thread some seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from biomeroworker import __version__
from biomeroworker.config.schema import NotificationSettings
from biomeroworker.domain.redaction import mask_credentials
from biomeroworker.errors import ConfigError, Permanent, Transient
from biomeroworker.eventlog.store.outbox_rows import EMAIL, WEBHOOK
from biomeroworker.notifications.message import RunEnded, build_email, build_payload, one_line

#: Seconds without a byte from the server, and for a whole delivery, after which it has failed.
IDLE_TIMEOUT_SECONDS, TOTAL_TIMEOUT_SECONDS = 10.0, 30.0

SMTP_PASSWORD, WEBHOOK_SECRET = "BIOMERO_SMTP_PASSWORD", "BIOMERO_WEBHOOK_SECRET"
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class NotDelivered(Transient):
    """The notification did not arrive, or the server's answer was lost; it will be sent again.

    Parameters
    ----------
    channel
        Whether the fault is of the whole channel, so that other notifications need not be tried now.
    """

    def __init__(self, message: str, *, channel: bool = True) -> None:
        super().__init__(message)
        self.channel = channel


class Channel(Protocol):
    """A way to send notifications."""

    def accepts(self, ended: RunEnded) -> bool:
        """Whether this channel sends a notification for this run."""
        ...

    def deliver(self, ended: RunEnded) -> None:
        """Send it. On return the server has accepted it.

        Raises
        ------
        NotDelivered
            To be tried again.
        Permanent
            No later attempt can succeed.
        """
        ...


def channels(settings: NotificationSettings, environ: Mapping[str, str] = os.environ) -> dict[str, Channel]:
    """The configured channels, by their names in the outbox.

    Raises
    ------
    ConfigError
        The settings need a password that is not in the environment.
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
    """E-mail by SMTP, to the address in the request of the run."""

    def __init__(self, settings: NotificationSettings, password: str = "") -> None:
        assert settings.smtp_host
        assert settings.smtp_from
        self._host, self._sender = settings.smtp_host, settings.smtp_from
        self._tls, self._user, self._password = settings.smtp_tls, settings.smtp_user or "", password
        self._port = settings.smtp_port or _PORTS[settings.smtp_tls]

    def accepts(self, ended: RunEnded) -> bool:
        """Whether the request of the run has an e-mail address."""
        return bool(ended.email)

    def deliver(self, ended: RunEnded) -> None:
        """Send the e-mail."""
        message = build_email(ended, self._sender)
        where = f"the mail server {self._host}:{self._port}"
        opened: list[smtplib.SMTP] = []
        try:
            with deadline(TOTAL_TIMEOUT_SECONDS, lambda: (smtp.sock for smtp in opened)):
                smtp = self._connect(opened)
                if self._user:
                    smtp.login(self._user, self._password)
                smtp.send_message(message, self._sender, [ended.email])
                with contextlib.suppress(smtplib.SMTPException, OSError):  # the server has accepted the e-mail
                    smtp.quit()
        except smtplib.SMTPRecipientsRefused as error:
            code, reason = next(iter(error.recipients.values()))
            answer = f"{code} {one_line(reason.decode('utf-8', 'replace'))}"
            if code >= 500:
                raise Permanent(f"{where} refuses the recipient: {answer}") from None
            raise NotDelivered(f"{where} does not accept the recipient yet: {answer}", channel=False) from None
        except smtplib.SMTPDataError as error:
            raise NotDelivered(f"{where} does not accept the e-mail: {_reply(error)}", channel=False) from None
        except smtplib.SMTPResponseException as error:
            raise NotDelivered(f"{where} answered {_reply(error)}") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise NotDelivered(f"{where}: {type(error).__name__}: {one_line(str(error))}") from None
        finally:
            for smtp in opened:
                smtp.close()

    def _connect(self, opened: list[smtplib.SMTP]) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self._tls == "tls":
            return _SmtpOverTls(opened, self._host, self._port, timeout=IDLE_TIMEOUT_SECONDS, context=context)
        smtp = _Smtp(opened, self._host, self._port, timeout=IDLE_TIMEOUT_SECONDS)
        if self._tls == "starttls":
            smtp.starttls(context=context)
        return smtp


class _Smtp(smtplib.SMTP):
    """Appends itself to ``opened`` before it connects, so that `deadline` can also end the connecting."""

    def __init__(self, opened: list[smtplib.SMTP], *arguments: Any, **options: Any) -> None:
        opened.append(self)
        super().__init__(*arguments, **options)


class _SmtpOverTls(_Smtp, smtplib.SMTP_SSL):
    pass


class WebhookChannel:
    """A POST with JSON, signed if there is a secret.

    ``X-Biomeroworker-Signature: sha256=<hex>`` is the HMAC (RFC 2104) of the body. ``X-Biomeroworker-Delivery`` is the
    same for every delivery of the same end. Only 2xx is success; redirects are not followed. Proxies and certificates
    are those of requests: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``, ``REQUESTS_CA_BUNDLE``. The path and the query
    of the URL may be secret, so they are in no message and no log line.
    """

    def __init__(self, url: str, secret: str = "") -> None:
        self._url, self._secret = url, secret

    def accepts(self, ended: RunEnded) -> bool:
        """Every run that has ended."""
        return True

    def deliver(self, ended: RunEnded) -> None:
        """Send the request."""
        body = build_payload(ended)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"biomeroworker/{__version__}",
            "X-Biomeroworker-Delivery": ended.key,
            "Connection": "close",
        }
        if self._secret:
            headers["X-Biomeroworker-Signature"] = signature(self._secret, body)
        host = urlsplit(self._url)
        where = f"the webhook on {host.hostname}:{host.port or (443 if host.scheme == 'https' else 80)}"
        adapter = _TrackingAdapter()
        with requests.Session() as session, self._without_secrets_in_logs():
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            try:
                with (
                    deadline(TOTAL_TIMEOUT_SECONDS, lambda: (one.sock for one in adapter.connections)),
                    session.post(
                        self._url,
                        data=body,
                        headers=headers,
                        timeout=(IDLE_TIMEOUT_SECONDS, IDLE_TIMEOUT_SECONDS),
                        allow_redirects=False,
                        stream=True,  # the body of the answer is not read
                    ) as answer,
                ):
                    status = answer.status_code
            except Exception as error:  # any message of requests and urllib3 may quote the URL
                raise NotDelivered(f"{where}: {self._reason(error)}") from None
        if not 200 <= status < 300:
            raise NotDelivered(f"{where} answered {status}", channel=status >= 500 or status in (401, 403, 404, 429))

    def _reason(self, error: BaseException) -> str:
        """What went wrong, without the URL that the messages of requests quote."""
        while (inner := _inner(error)) is not None:
            error = inner
        if isinstance(error, requests.RequestException):
            return type(error).__name__
        return f"{type(error).__name__}: {one_line(self._without_secrets(str(error)))}"

    def _without_secrets(self, text: str) -> str:
        sent = requests.Request("POST", self._url).prepare()
        for form in (self._url, sent.url or "", sent.path_url, sent.path_url.partition("?")[2]):
            text = text.replace(form, "…") if len(form) > 1 else text
        return mask_credentials(text)

    @contextlib.contextmanager
    def _without_secrets_in_logs(self) -> Iterator[None]:
        """urllib3 logs the path of each request (DEBUG), and the URL of an answer with invalid headers (WARNING)."""

        def hide(record: logging.LogRecord) -> bool:
            record.msg, record.args = self._without_secrets(record.getMessage()), None
            return True

        loggers = [logging.getLogger(f"urllib3.{name}") for name in ("connection", "connectionpool")]
        for logger in loggers:
            logger.addFilter(hide)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(hide)


class _TrackingAdapter(HTTPAdapter):
    """Lists the connections that it opens, also those to a proxy, so that `deadline` can end them."""

    def __init__(self) -> None:
        super().__init__(max_retries=0)
        self.connections: list[Any] = []

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """A pool of urllib3 whose connections are listed."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        make = pool.ConnectionCls

        def connect(**parameters: Any) -> Any:
            self.connections.append(make(**parameters))
            return self.connections[-1]

        pool.ConnectionCls = connect
        return pool


def signature(secret: str, body: bytes) -> str:
    """What the receiver of a webhook should compute, and compare in constant time."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@contextlib.contextmanager
def deadline(seconds: float, sockets: Callable[[], Iterable[socket.socket | None]]) -> Iterator[None]:
    """Shut the sockets down after so many seconds. A timeout for each read does not limit how long a slow server takes.

    Raises
    ------
    TimeoutError
        In place of the error that the shutdown caused.
    """
    left, expired = threading.Event(), threading.Event()

    def watch() -> None:
        left.wait(seconds)
        while not left.is_set():  # more than once: a connection may be opened after the deadline
            expired.set()
            for one in sockets():
                with contextlib.suppress(OSError):
                    if one is not None:
                        one.shutdown(socket.SHUT_RDWR)
            left.wait(1.0)

    threading.Thread(target=watch, name="deadline", daemon=True).start()
    try:
        yield
    except Exception:
        if expired.is_set():
            raise TimeoutError(f"no complete answer within {seconds:g} s") from None
        raise
    finally:
        left.set()


def _inner(error: BaseException) -> BaseException | None:
    """The exception that this one of requests or urllib3 reports."""
    for inner in (getattr(error, "reason", None), *error.args):
        if isinstance(inner, BaseException):
            return inner
    return None


def _reply(error: smtplib.SMTPResponseException) -> str:
    words = error.smtp_error
    return f"{error.smtp_code} {one_line(words.decode('utf-8', 'replace') if isinstance(words, bytes) else words)}"
