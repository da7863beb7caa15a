"""Notifications through proxies and TLS, within a bounded time, and without secrets in messages and logs."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from biomeroworker.config.schema import NotificationSettings
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.notifications import channels
from biomeroworker.notifications.channels import NotDelivered, SmtpChannel, WebhookChannel
from biomeroworker.notifications.message import RunEnded
from tests.notice_servers import Hook, Post, Proxy, certificate, over_tls, serving

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENDED = RunEnded(
    UUID(int=1), "nuclei", "v1", RunState.DONE, user=1, user_name="ada", group=1, accepted=NOW, ended=NOW,
    email="ada@example.org",
)  # fmt: skip
TOKEN = "T0kenInTheAddress"


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with serving(Proxy()) as server:
        yield server


@pytest.fixture
def hook() -> Iterator[Hook]:
    with serving(Hook()) as server:
        yield server


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    """A webhook over HTTPS whose certificate the environment trusts."""
    authority, context = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    with serving(over_tls(Hook(), context)) as server:
        yield server


def _url(hook: Hook, scheme: str = "https") -> str:
    return f"{scheme}://localhost:{hook.server_address[1]}/{TOKEN}?key={TOKEN}"


def test_a_webhook_over_https_is_reached_with_the_authorities_of_the_environment(secure: Hook) -> None:
    WebhookChannel(_url(secure)).deliver(ENDED)
    assert len(secure.taken) == 1


def test_a_certificate_that_no_known_authority_signed_is_refused(secure: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(NotDelivered, match="CERTIFICATE_VERIFY_FAILED"):
        WebhookChannel(_url(secure)).deliver(ENDED)
    assert secure.taken == []


def test_a_certificate_for_another_host_is_refused(secure: Hook) -> None:
    with pytest.raises(NotDelivered, match=r"127\.0\.0\.1"):
        WebhookChannel(_url(secure).replace("localhost", "127.0.0.1")).deliver(ENDED)
    assert secure.taken == []


def test_https_goes_through_the_proxy_which_sees_only_host_and_port(
    secure: Hook, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    WebhookChannel(_url(secure)).deliver(ENDED)
    assert proxy.requests == [f"CONNECT localhost:{secure.server_address[1]}"]
    assert len(secure.taken) == 1


def test_http_goes_through_the_proxy(hook: Hook, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    WebhookChannel(_url(hook, "http")).deliver(ENDED)
    assert proxy.requests == [f"POST {_url(hook, 'http')}"]
    assert len(hook.taken) == 1


def test_a_host_in_no_proxy_is_reached_directly(secure: Hook, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "localhost")
    WebhookChannel(_url(secure)).deliver(ENDED)
    assert proxy.requests == []
    assert len(secure.taken) == 1


def test_a_proxy_that_refuses_is_named_with_its_answer(
    secure: Hook, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    proxy.script = ["407"]
    with pytest.raises(NotDelivered, match="407"):
        WebhookChannel(_url(secure)).deliver(ENDED)


def test_a_proxy_that_sends_a_byte_at_a_time_does_not_hold_a_delivery_up(
    secure: Hook, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setattr(channels, "TOTAL_TIMEOUT_SECONDS", 1.0)
    proxy.script = ["drip"]
    began = time.monotonic()
    with pytest.raises(NotDelivered, match="no complete answer within 1 s"):
        WebhookChannel(_url(secure)).deliver(ENDED)
    assert time.monotonic() - began < 7


@pytest.mark.parametrize("behaviour", ["die", "garbage", "drip", "302", "500", "bad headers", "nothing listens", "200"])
def test_the_path_of_a_webhook_is_in_no_message_and_no_log_line(
    hook: Hook, behaviour: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "TOTAL_TIMEOUT_SECONDS", 1.0)
    caplog.set_level(logging.DEBUG)
    hook.script = [behaviour]
    url = _url(hook, "http") if behaviour != "nothing listens" else f"http://localhost:9/{TOKEN}?key={TOKEN}"
    message = ""
    try:
        WebhookChannel(url).deliver(ENDED)
    except NotDelivered as error:
        message = "".join(traceback.format_exception(error))
    assert bool(message) is (behaviour not in ("200", "bad headers"))
    assert "localhost" in caplog.text, "urllib3 logs each request"
    assert TOKEN not in message + caplog.text


def _smtp(post: Post, tls: str) -> SmtpChannel:
    return SmtpChannel(
        NotificationSettings(smtp_host="localhost", smtp_port=post.port, smtp_tls=tls, smtp_from="worker@example.org")
    )


def test_an_email_over_tls_from_the_first_byte_needs_a_certificate_for_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = certificate(tmp_path)
    with serving(over_tls(Post(), context)) as post:
        with pytest.raises(NotDelivered, match="CERTIFICATE_VERIFY_FAILED"):
            _smtp(post, "tls").deliver(ENDED)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        _smtp(post, "tls").deliver(ENDED)
        assert len(post.letters) == 1


def test_a_mail_server_that_greets_a_byte_at_a_time_does_not_hold_a_delivery_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channels, "TOTAL_TIMEOUT_SECONDS", 1.0)
    with serving(Post()) as post:
        post.drips = [b"2"] * 100
        began = time.monotonic()
        with pytest.raises(NotDelivered, match="no complete answer within 1 s"):
            _smtp(post, "none").deliver(ENDED)
        assert time.monotonic() - began < 7
