"""Notifications are delivered at least once, to servers that fail, crash, answer slowly or answer wrongly."""

from __future__ import annotations

import email
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, update

from biomeroworker.config import Settings
from biomeroworker.engine.maintenance import MaintenanceScheduler
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.store import recorder as recorder_module
from biomeroworker.eventlog.tables import OUTBOX
from biomeroworker.notifications import channels
from biomeroworker.notifications.channels import signature
from biomeroworker.notifications.dispatcher import Dispatcher
from tests.log_steps import accept, bring_to
from tests.notice_servers import Hook, Post, certificate, serving

REPORT = {"stage": "running", "message": "the container ended with 3"}


@pytest.fixture
def hook() -> Iterator[Hook]:
    with serving(Hook()) as server:
        yield server


@pytest.fixture
def post() -> Iterator[Post]:
    with serving(Post()) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, hook: Hook, post: Post) -> Callable[..., Settings]:
    def make(**changes: str) -> Settings:
        values = {
            "smtp_host": "127.0.0.1", "smtp_port": post.port, "smtp_tls": "none", "smtp_from": "worker@example.org",
            "webhook_url": hook.url,
        } | changes  # fmt: skip
        file = tmp_path / "slurm-config.ini"
        file.write_text("[NOTIFICATIONS]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
        return Settings.load(file, environ={}, standard=[])

    return make


def _end(log: RunLog, state: RunState = RunState.FAILED, address: str = "ada@example.org") -> Any:
    run = accept(log, email=address)
    match state:
        case RunState.DONE:
            bring_to(log, run, RunState.DONE, job_id=run.int % 10**6)
        case RunState.FAILED:
            log.fail(run, REPORT)
        case RunState.CANCELLED:
            log.cancelled(run, {"message": "cancelled by ada"})
    return run


def _rows(log: RunLog) -> list[Any]:
    with log._engine.connect() as connection:
        return list(connection.execute(select(OUTBOX).order_by(OUTBOX.c.id)))


def _hurry(log: RunLog) -> None:
    """Pretend that the time until the next try has passed."""
    with log._recorder.writing() as connection:
        connection.execute(update(OUTBOX).where(OUTBOX.c.closed.is_(None)).values(due=0.0))


@pytest.mark.parametrize("state", [RunState.DONE, RunState.FAILED, RunState.CANCELLED])
def test_each_channel_delivers_the_end_of_a_run_once(
    log: RunLog, settings: Callable[..., Settings], hook: Hook, post: Post, state: RunState
) -> None:
    run = _end(log, state)
    courier = Dispatcher(log, settings(), {"BIOMERO_WEBHOOK_SECRET": "s3cret"})
    courier.deliver()
    courier.deliver()
    ((headers, body),) = hook.taken
    payload = json.loads(body)
    assert (payload["run"], payload["state"], payload["workflow"]) == (str(run), state.value, "nuclei")
    assert headers["X-Biomeroworker-Signature"] == signature("s3cret", body)
    ((sender, recipients, content),) = post.letters
    assert "worker@example.org" in sender
    assert len(recipients) == 1
    assert "ada@example.org" in recipients[0]
    assert email.message_from_bytes(content)["Message-ID"] == f"<{run}.{state.value}@example.org>"
    assert [row.outcome for row in _rows(log)] == ["delivered", "delivered"]
    assert log.outbox.waiting() == 0


def test_only_terminal_events_that_are_recorded_from_now_on_are_notified(log: RunLog, log_url: str) -> None:
    run = accept(log)
    bring_to(log, run, RunState.IMPORTING)
    assert _rows(log) == []
    log.finish(run)
    assert len(_rows(log)) == 2
    log.rebuild()
    assert len(_rows(log)) == 2
    with log._recorder.writing() as connection:
        OUTBOX.drop(connection)  # a database that was written before there was an outbox
    with RunLog.open(log_url) as again:
        assert _rows(again) == []
        _end(again)
        assert len(_rows(again)) == 2


def test_a_terminal_event_without_its_outbox_row_is_not_recorded(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    run = accept(log)

    def full(*args: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(recorder_module.outbox_rows, "post", full)
        with pytest.raises(OSError, match="disk full"):
            log.fail(run, REPORT)
    assert not log.run(run).state.is_terminal
    assert log.runs()[0].ended is None
    log.fail(run, REPORT)
    assert len(_rows(log)) == 2


@pytest.mark.parametrize("behaviour", ["500", "die", "404", "302", "garbage", "drip"])
def test_a_failed_webhook_is_retried_with_the_same_id(
    log: RunLog, settings: Callable[..., Settings], hook: Hook, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "TOTAL_TIMEOUT_SECONDS", 1.0)
    _end(log, address="")
    hook.script = [behaviour]
    began = time.monotonic()
    Dispatcher(log, settings(), {}).deliver()
    assert time.monotonic() - began < 5
    assert hook.taken == []
    (row,) = [row for row in _rows(log) if row.channel == "webhook"]
    assert row.closed is None
    assert row.tries == 1
    with log._engine.connect() as connection:
        assert 15 < row.due - log._recorder.now(connection) < 23, "20 s, give or take"
    Dispatcher(log, settings(), {}).deliver()
    assert hook.taken == [], "not before its time"
    _hurry(log)
    Dispatcher(log, settings(), {}).deliver()
    assert len(hook.taken) == 1
    assert hook.requests == 2


def test_an_unreachable_webhook_costs_one_delivery_and_not_one_per_run(
    log: RunLog, settings: Callable[..., Settings], hook: Hook, post: Post
) -> None:
    for _ in range(5):
        _end(log)
    hook.script = ["503"] * 10
    courier = Dispatcher(log, settings(), {})
    courier.deliver()
    courier.deliver()
    assert hook.requests == 1
    assert len(post.letters) == 5, "letters do not wait for the web hook"
    hook.script = []
    _hurry(log)
    Dispatcher(log, settings(), {}).deliver()
    assert len(hook.taken) == 5


def test_a_notification_expires_after_days_and_is_logged(
    log: RunLog, settings: Callable[..., Settings], hook: Hook
) -> None:
    _end(log, address="")
    with log._recorder.writing() as connection:
        connection.execute(update(OUTBOX).values(recorded=time.time() - 8 * 86400))
    hook.script = ["500"]
    Dispatcher(log, settings(), {}).deliver()
    assert log.outbox.waiting() == 0
    assert any(row.outcome.startswith("abandoned after 1 attempts: ") and "500" in row.outcome for row in _rows(log))


def test_an_email_is_retried_after_a_temporary_refusal_and_not_after_a_permanent_one(
    log: RunLog, settings: Callable[..., Settings], post: Post
) -> None:
    _end(log)
    post.refusals["RCPT"] = ["451 greylisted", "550 no such user"]
    Dispatcher(log, settings(), {}).deliver()
    _hurry(log)
    Dispatcher(log, settings(), {}).deliver()
    _hurry(log)
    Dispatcher(log, settings(), {}).deliver()
    assert post.letters == []
    (row,) = [row for row in _rows(log) if row.channel == "email"]
    assert "abandoned" in row.outcome
    assert "550 no such user" in row.outcome


def test_an_email_without_an_answer_is_sent_again_with_the_same_id(
    log: RunLog, settings: Callable[..., Settings], post: Post
) -> None:
    _end(log)
    post.refusals["TAKEN"] = ["die"]
    Dispatcher(log, settings(), {}).deliver()
    _hurry(log)
    Dispatcher(log, settings(), {}).deliver()
    assert len({email.message_from_bytes(content)["Message-ID"] for _, _, content in post.letters}) == 1
    assert len(post.letters) == 2


def test_an_invalid_address_does_not_stop_other_notifications(
    log: RunLog, settings: Callable[..., Settings], hook: Hook, post: Post
) -> None:
    _end(log, address="ada@example.org\r\nBcc: all@example.org")
    Dispatcher(log, settings(), {}).deliver()
    assert post.letters == []
    assert len(hook.taken) == 1
    assert log.outbox.waiting() == 0


def test_no_database_connection_is_open_during_a_delivery(
    log: RunLog, settings: Callable[..., Settings], hook: Hook
) -> None:
    held: list[int] = []
    hook.during = lambda: held.append(log._engine.pool.checkedout())  # type: ignore[attr-defined]
    _end(log)
    Dispatcher(log, settings(), {}).deliver()
    assert held == [0]


def test_two_supervisors_never_deliver_the_same_notice_at_once(
    log: RunLog,
    log_url: str,
    settings: Callable[..., Settings],
    hook: Hook,
    post: Post,
) -> None:
    runs = {str(_end(log)) for _ in range(12)}
    hook.during = lambda: time.sleep(0.05)
    with RunLog.open(log_url) as other:
        couriers = [Dispatcher(one, settings(), {}) for one in (log, other)]
        threads = [threading.Thread(target=courier.deliver) for courier in couriers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert hook.worst == 1
    assert Counter(json.loads(body)["run"] for _, body in hook.taken) == Counter(runs)
    assert len(post.letters) == 12


def test_a_notification_claimed_by_a_dead_process_is_delivered_after_the_claim_expires(
    log: RunLog, settings: Callable[..., Settings], hook: Hook
) -> None:
    _end(log, address="")
    lost = log.outbox.claim("dead", 0.5, without=["email"])
    assert lost is not None
    Dispatcher(log, settings(), {}).deliver()
    assert hook.taken == []
    time.sleep(0.6)
    Dispatcher(log, settings(), {}).deliver()
    assert len(hook.taken) == 1
    log.outbox.postpone(lost, "dead", 0.0, "it was only stopped for a while")
    assert log.outbox.waiting() == 0, "a claim that ran out changes nothing any more"


def test_a_process_killed_during_a_delivery_loses_no_notification(
    log: RunLog, log_url: str, settings: Callable[..., Settings], hook: Hook, tmp_path: Path
) -> None:
    _end(log, address="")
    settings()
    program = (
        "import sys; from biomeroworker.config import Settings; "
        "from biomeroworker.notifications.dispatcher import Dispatcher; "
        "from biomeroworker.eventlog.runlog import RunLog; "
        "Dispatcher(RunLog.open(sys.argv[1]), Settings.load(sys.argv[2], environ={}, standard=[]), {}).deliver()"
    )
    child = subprocess.Popen([sys.executable, "-c", program, log_url, str(tmp_path / "slurm-config.ini")])
    hook.during = child.kill  # when it has sent all, and has no answer
    assert child.wait(60) == -signal.SIGKILL
    hook.during = lambda: None
    assert log.outbox.waiting() == 1
    with log._recorder.writing() as connection:
        connection.execute(update(OUTBOX).where(OUTBOX.c.closed.is_(None)).values(until=0.0))  # its claim has run out
    Dispatcher(log, settings(), {}).deliver()
    assert log.outbox.waiting() == 0
    assert len({headers["X-Biomeroworker-Delivery"] for headers, _ in hook.taken}) == 1


def test_maintenance_never_raises_and_costs_one_query_when_idle(
    log: RunLog, settings: Callable[..., Settings], hook: Hook
) -> None:
    class Nowhere:
        """A cluster that must not be queried."""

    chores = MaintenanceScheduler(log, {"": Nowhere()}, settings(), {})  # type: ignore[arg-type]
    chores.run_due()
    statements: list[str] = []
    event.listen(log._engine, "before_cursor_execute", lambda c, cursor, statement, *rest: statements.append(statement))
    chores.run_due()
    assert len([statement for statement in statements if not statement.startswith("BEGIN")]) == 1
    chores.start_due(time.monotonic())
    assert not any(chore.busy for chore in chores._tasks), "nothing is due"
    failed: list[str] = []
    for chore in chores._tasks:
        chore.due = 0.0
        chore.act = lambda name=chore.name: failed.append(name) or 1 / 0
    chores.run_due()
    chores.start_due(time.monotonic())
    assert failed == [chore.name for chore in chores._tasks], "tried again later only"


def test_a_notification_does_not_wait_for_a_slow_removal(
    log: RunLog, settings: Callable[..., Settings], hook: Hook
) -> None:
    chores = MaintenanceScheduler(log, {}, settings(), {})
    removed = threading.Event()
    sweep = next(chore for chore in chores._tasks if "on the cluster" in chore.name)
    sweep.act = lambda: float(removed.wait(60))
    _end(log)
    chores.start_due(time.monotonic() + 10)
    deadline = time.monotonic() + 30
    while not hook.taken:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sweep.busy
    chores.start_due(time.monotonic() + 100)
    removed.set()


@pytest.mark.parametrize("log_url", ["sqlite"], indirect=True)
def test_the_smtp_login_uses_tls_to_the_named_host_only(
    log: RunLog, settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    authority, context = certificate(tmp_path)
    with serving(Post(context)) as post:
        chosen = settings(
            smtp_host="localhost", smtp_port=str(post.port), smtp_tls="starttls", smtp_user="worker", webhook_url=""
        )
        environ = {"BIOMERO_SMTP_PASSWORD": "s3cret"}
        _end(log)
        Dispatcher(log, chosen, environ).deliver()
        assert post.logins == [], "no authority signed this server's certificate"
        assert "CERTIFICATE_VERIFY_FAILED" in _rows(log)[0].outcome
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        _hurry(log)
        Dispatcher(log, chosen, environ).deliver()
        assert len(post.logins) == len(post.letters) == 1
    assert "s3cret" not in caplog.text
    assert not any("s3cret" in row.outcome for row in _rows(log))
