"""The notification of a run's end; text that a user typed cannot add headers or fields to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from biomeroworker.config import Settings
from biomeroworker.errors import ConfigError, Permanent
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.notifications import channels
from biomeroworker.notifications.message import RunEnded, build_email, build_payload

RUN = UUID("12345678-1234-5678-1234-567812345678")


def _ended(**changes: Any) -> RunEnded:
    values: dict[str, Any] = {
        "run": RUN, "workflow": "nuclei", "version": "v1.0.0", "state": RunState.FAILED, "user": 4, "user_name": "ada",
        "group": 3, "accepted": datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "ended": datetime(2026, 1, 2, 4, tzinfo=UTC),
        "attempts": 1, "job_ids": (17,), "email": "ada@example.org",
        "report": {"stage": "running", "message": "the container ended with 3", "next_step": "retry"},
    }  # fmt: skip
    return RunEnded(**values | changes)


def _read(ended: RunEnded) -> Any:
    return message_from_bytes(build_email(ended, "biomero@example.org").as_bytes(), policy=default)


def test_a_letter_names_the_cause_and_what_to_do_next() -> None:
    read = _read(_ended())
    assert read["To"] == "ada@example.org"
    assert read["Subject"] == "nuclei has failed: the container ended with 3"
    body = read.get_content()
    for words in ("cause:     the container ended with 3", "next:      retry", "SLURM job: 17", str(RUN)):
        assert words in body


def test_a_letter_about_a_run_that_is_partly_done_lists_the_images_without_a_result() -> None:
    report = {
        "message": "1 of 3 images has no result",
        "skipped": {"image-7": "cells\r\nBcc: x@y.z"},
        "made": {"Image": 2},
    }
    read = _read(_ended(state=RunState.DONE, report=report))
    assert read["Subject"] == "nuclei is partly done: 1 of 3 images has no result"
    assert "images without a result:\n  cells Bcc: x@y.z (image-7)\n" in read.get_content().replace("\r\n", "\n")


def test_every_letter_about_the_same_end_has_the_same_id() -> None:
    assert _read(_ended())["Message-ID"] == _read(_ended())["Message-ID"] == f"<{RUN}.failed@example.org>"


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.org\nBcc: all@example.org", "ada@example.org\r\nBcc: x@y.z", "ada@example.org, b@example.org",
        "Ada <ada@example.org>", "ada", "@example.org", "ada@", "ada@exa mple.org", "ada@example.org\x00",
        "ädä@example.org", "a" * 65 + "@example.org", "ada@-example.org", "-", "ada@example.org\n",
    ],
)  # fmt: skip
def test_what_is_not_one_plain_address_gets_no_letter(address: str) -> None:
    with pytest.raises(Permanent, match="address"):
        build_email(_ended(email=address), "biomero@example.org")


@pytest.mark.parametrize(
    "words", ["x\r\nBcc: all@example.org", "x\n\nnew body", "x\x00\x1b[2J", "\ud800", "é\u2028Bcc: a@b.c", "日本" * 200]
)
def test_no_word_of_a_user_becomes_a_header_or_ends_one(words: str) -> None:
    sent = build_email(
        _ended(workflow=words, report={"message": words, "detail": words}), "biomero@example.org"
    ).as_bytes()
    head = sent.partition(b"\r\n\r\n")[0]
    read = message_from_bytes(sent, policy=default)
    assert read["Bcc"] is None
    assert set(read.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type",
        "Content-Transfer-Encoding", "MIME-Version",
    }  # fmt: skip
    assert head.isascii()
    assert all(len(line) < 999 for line in sent.split(b"\r\n"))


def test_the_document_has_what_a_service_needs_and_no_email_address() -> None:
    payload = json.loads(build_payload(_ended(state=RunState.DONE, report={"made": {"Image": 2}})))
    assert (payload["run"], payload["workflow"], payload["state"], payload["user"], payload["group"]) == (
        str(RUN), "nuclei", "done", 4, 3,
    )  # fmt: skip
    assert payload["report"] == {"made": {"Image": 2}}
    assert payload["accepted"] == "2026-01-02T03:04:00+00:00"
    assert "example.org" not in json.dumps(payload)


def _settings(folder: Path, text: str) -> Settings:
    file = folder / "slurm-config.ini"
    file.write_text("[NOTIFICATIONS]\n" + text)
    return Settings.load(file, environ={}, standard=[])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("smtp_host = mail", "smtp_host"),
        ("smtp_host = ma il\nsmtp_from = a@b.c", "smtp_host"),
        ("smtp_host = mail\nsmtp_from = worker", "smtp_from"),
        ("smtp_host = mail\nsmtp_from = a@b.c\nsmtp_port = 0", "smtp_port"),
        ("smtp_host = mail\nsmtp_from = a@b.c\nsmtp_tls = maybe", "smtp_tls"),
        ("smtp_host = mail\nsmtp_from = a@b.c\nsmtp_tls = none\nsmtp_user = u", "smtp_host"),
        ("webhook_url = ftp://s3cret/", "webhook_url"),
        ("webhook_url = http://a:s3cret@host/", "webhook_url"),
        ("webhook_url = http://host/s3cret x", "webhook_url"),
        ("webhook_url = http://host:99999/s3cret", "webhook_url"),
        ("give_up_days = 0", "give_up_days"),
    ],
)
def test_a_wrong_setting_is_reported_with_its_line_and_without_secrets(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        _settings(tmp_path, text)
    assert f"[NOTIFICATIONS] {key}" in str(raised.value)
    assert "slurm-config.ini:" in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_missing_password_in_the_environment_is_reported_at_the_start(tmp_path: Path) -> None:
    settings = _settings(tmp_path, "smtp_host = mail\nsmtp_from = a@b.c\nsmtp_user = u")
    with pytest.raises(ConfigError, match=r"\[NOTIFICATIONS\] smtp_user.*BIOMERO_SMTP_PASSWORD"):
        channels.channels(settings.notifications, {})
    assert list(channels.channels(settings.notifications, {"BIOMERO_SMTP_PASSWORD": "x"})) == ["email"]


def test_a_password_in_the_file_is_no_setting(tmp_path: Path) -> None:
    settings = _settings(tmp_path, "smtp_password = s3cret")
    assert "smtp_password is not a setting" in settings.warnings[0]
    assert "s3cret" not in settings.warnings[0]


def test_the_settings_that_are_shown_keep_the_path_of_the_web_hook(tmp_path: Path) -> None:
    settings = _settings(tmp_path, "webhook_url = https://hooks.example.org:8443/T0/s3cret?a=s3cret")
    assert settings.shown()["NOTIFICATIONS.webhook_url"] == "https://hooks.example.org:8443/***"
    assert "s3cret" not in repr(settings)


def test_the_signature_is_the_one_of_rfc_4231() -> None:
    # test case 2 of RFC 4231
    assert channels.signature("Jefe", b"what do ya want for nothing?") == (
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
