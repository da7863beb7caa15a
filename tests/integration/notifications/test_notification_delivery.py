"""The end of a run is told at least once, to servers that fail first, die, drip and lie."""

from __future__ import annotations

import email
import json
import signal
import ssl
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
from biomeroworker.engine.maintenance import Chores
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.store import recorder as recorder_module
from biomeroworker.eventlog.tables import OUTBOX
from biomeroworker.notifications import channels
from biomeroworker.notifications.channels import signature
from biomeroworker.notifications.dispatcher import Courier
from tests.log_steps import accept, bring_to
from tests.notice_servers import Hook, Post, serving

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
    """Let the time until the next try have passed."""
    with log._recorder.writing() as connection:
        connection.execute(update(OUTBOX).where(OUTBOX.c.closed.is_(None)).values(due=0.0))


@pytest.mark.parametrize("state", [RunState.DONE, RunState.FAILED, RunState.CANCELLED])
def test_an_end_is_told_once_by_each_way(
    log: RunLog, settings: Callable[..., Settings], hook: Hook, post: Post, state: RunState
) -> None:
    run = _end(log, state)
    courier = Courier(log, settings(), {"BIOMERO_WEBHOOK_SECRET": "s3cret"})
    courier.deliver()
    courier.deliver()
    ((headers, body),) = hook.taken
    told = json.loads(body)
    assert (told["run"], told["state"], told["workflow"]) == (str(run), state.value, "nuclei")
    assert headers["X-Biomeroworker-Signature"] == signature("s3cret", body)
    ((sender, recipients, content),) = post.letters
    assert "worker@example.org" in sender
    assert len(recipients) == 1
    assert "ada@example.org" in recipients[0]
    assert email.message_from_bytes(content)["Message-ID"] == f"<{run}.{state.value}@example.org>"
    assert [row.outcome for row in _rows(log)] == ["delivered", "delivered"]
    assert log.outbox.waiting() == 0


def test_only_ends_are_told_and_only_those_that_are_recorded_from_now_on(log: RunLog, log_url: str) -> None:
    run = accept(log)
    bring_to(log, run, RunState.IMPORTING)
    assert _rows(log) == []
    log.finish(run)
    assert len(_rows(log)) == 2
    log.rebuild()
    assert len(_rows(log)) == 2
    with log._recorder.writing() as connection:
        OUTBOX.drop(connection)  # a log that was kept before there was an outbox
    with RunLog.open(log_url) as again:
        assert _rows(again) == []
        _end(again)
        assert len(_rows(again)) == 2


def test_an_end_whose_notice_cannot_be_written_is_not_recorded(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_web_hook_that_fails_first_is_told_again_with_the_same_id(
    log: RunLog, settings: Callable[..., Settings], hook: Hook, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "LONGEST", 1.0)
    _end(log, address="")
    hook.script = [behaviour]
    began = time.monotonic()
    Courier(log, settings(), {}).deliver()
    assert time.monotonic() - began < 5
    assert hook.taken == []
    (row,) = [row for row in _rows(log) if row.channel == "webhook"]
    assert row.closed is None
    assert row.tries == 1
    with log._engine.connect() as connection:
        assert 15 < row.due - log._recorder.now(connection) < 23, "20 s, give or take"
    Courier(log, settings(), {}).deliver()
    assert hook.taken == [], "not before its time"
    _hurry(log)
    Courier(log, settings(), {}).deliver()
    assert len(hook.taken) == 1
    assert hook.requests == 2


def test_a_web_hook_that_is_down_costs_one_delivery_not_one_per_run(
    log: RunLog, settings: Callable[..., Settings], hook: Hook, post: Post
) -> None:
    for _ in range(5):
        _end(log)
    hook.script = ["503"] * 10
    courier = Courier(log, settings(), {})
    courier.deliver()
    courier.deliver()
    assert hook.requests == 1
    assert len(post.letters) == 5, "letters do not wait for the web hook"
    hook.script = []
    _hurry(log)
    Courier(log, settings(), {}).deliver()
    assert len(hook.taken) == 5


def test_a_notice_is_given_up_after_days_and_says_so(
    log: RunLog, settings: Callable[..., Settings], hook: Hook
) -> None:
    _end(log, address="")
    with log._recorder.writing() as connection:
        connection.execute(update(OUTBOX).values(recorded=time.time() - 8 * 86400))
    hook.script = ["500"]
    Courier(log, settings(), {}).deliver()
    assert log.outbox.waiting() == 0
    assert any(row.outcome.startswith("given up after 1 tries: ") and "500" in row.outcome for row in _rows(log))


def test_a_mail_server_that_refuses_for_now_gets_the_letter_later_and_one_that_refuses_for_ever_does_not(
    log: RunLog, settings: Callable[..., Settings], post: Post
) -> None:
    _end(log)
    post.refusals["RCPT"] = ["451 greylisted", "550 no such user"]
    Courier(log, settings(), {}).deliver()
    _hurry(log)
    Courier(log, settings(), {}).deliver()
    _hurry(log)
    Courier(log, settings(), {}).deliver()
    assert post.letters == []
    (row,) = [row for row in _rows(log) if row.channel == "email"]
    assert "given up" in row.outcome
    assert "550 no such user" in row.outcome


def test_a_letter_whose_answer_got_lost_is_sent_again_under_the_same_id(
    log: RunLog, settings: Callable[..., Settings], post: Post
) -> None:
    _end(log)
    post.refusals["TAKEN"] = ["die"]
    Courier(log, settings(), {}).deliver()
    _hurry(log)
    Courier(log, settings(), {}).deliver()
    assert len({email.message_from_bytes(content)["Message-ID"] for _, _, content in post.letters}) == 1
    assert len(post.letters) == 2


def test_a_bad_address_stops_nothing(log: RunLog, settings: Callable[..., Settings], hook: Hook, post: Post) -> None:
    _end(log, address="ada@example.org\r\nBcc: all@example.org")
    Courier(log, settings(), {}).deliver()
    assert post.letters == []
    assert len(hook.taken) == 1
    assert log.outbox.waiting() == 0


def test_no_connection_of_the_database_is_held_while_a_notice_travels(
    log: RunLog, settings: Callable[..., Settings], hook: Hook
) -> None:
    held: list[int] = []
    hook.during = lambda: held.append(log._engine.pool.checkedout())  # type: ignore[attr-defined]
    _end(log)
    Courier(log, settings(), {}).deliver()
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
        couriers = [Courier(one, settings(), {}) for one in (log, other)]
        threads = [threading.Thread(target=courier.deliver) for courier in couriers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert hook.worst == 1
    assert Counter(json.loads(body)["run"] for _, body in hook.taken) == Counter(runs)
    assert len(post.letters) == 12


def test_what_a_dead_process_had_claimed_is_delivered_when_its_claim_has_run_out(
    log: RunLog, settings: Callable[..., Settings], hook: Hook
) -> None:
    _end(log, address="")
    lost = log.outbox.claim("dead", 0.5, without=["email"])
    assert lost is not None
    Courier(log, settings(), {}).deliver()
    assert hook.taken == []
    time.sleep(0.6)
    Courier(log, settings(), {}).deliver()
    assert len(hook.taken) == 1
    log.outbox.postpone(lost, "dead", 0.0, "it was only stopped for a while")
    assert log.outbox.waiting() == 0, "a claim that ran out changes nothing any more"


def test_a_process_that_is_killed_while_it_delivers_loses_nothing(
    log: RunLog, log_url: str, settings: Callable[..., Settings], hook: Hook, tmp_path: Path
) -> None:
    _end(log, address="")
    settings()
    program = (
        "import sys; from biomeroworker.config import Settings; "
        "from biomeroworker.notifications.dispatcher import Courier; "
        "from biomeroworker.eventlog.runlog import RunLog; "
        "Courier(RunLog.open(sys.argv[1]), Settings.load(sys.argv[2], environ={}, standard=[]), {}).deliver()"
    )
    child = subprocess.Popen([sys.executable, "-c", program, log_url, str(tmp_path / "slurm-config.ini")])
    hook.during = child.kill  # when it has sent all, and has no answer
    assert child.wait(60) == -signal.SIGKILL
    hook.during = lambda: None
    assert log.outbox.waiting() == 1
    with log._recorder.writing() as connection:
        connection.execute(update(OUTBOX).where(OUTBOX.c.closed.is_(None)).values(until=0.0))  # its claim has run out
    Courier(log, settings(), {}).deliver()
    assert log.outbox.waiting() == 0
    assert len({headers["X-Biomeroworker-Delivery"] for headers, _ in hook.taken}) == 1


def test_chores_never_raise_and_cost_one_question_when_there_is_nothing_to_do(
    log: RunLog, settings: Callable[..., Settings], hook: Hook
) -> None:
    class Nowhere:
        """A cluster that must not be asked."""

    chores = Chores(log, {"": Nowhere()}, settings(), {})  # type: ignore[arg-type]
    chores.run()
    asked: list[str] = []
    event.listen(log._engine, "before_cursor_execute", lambda c, cursor, statement, *rest: asked.append(statement))
    chores.run()
    assert len([statement for statement in asked if not statement.startswith("BEGIN")]) == 1
    chores.begin(time.monotonic())
    assert not any(chore.busy for chore in chores._chores), "nothing is due"
    failed: list[str] = []
    for chore in chores._chores:
        chore.due = 0.0
        chore.act = lambda name=chore.name: failed.append(name) or 1 / 0
    chores.run()
    chores.begin(time.monotonic())
    assert failed == [chore.name for chore in chores._chores], "tried again later only"


def test_a_notice_does_not_wait_for_folders_that_take_long_to_remove(
    log: RunLog, settings: Callable[..., Settings], hook: Hook
) -> None:
    chores = Chores(log, {}, settings(), {})
    removed = threading.Event()
    sweep = next(chore for chore in chores._chores if "on the cluster" in chore.name)
    sweep.act = lambda: float(removed.wait(60))
    _end(log)
    chores.begin(time.monotonic() + 10)
    deadline = time.monotonic() + 30
    while not hook.taken:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sweep.busy
    chores.begin(time.monotonic() + 100)
    removed.set()


@pytest.mark.parametrize("log_url", ["sqlite"], indirect=True)
def test_a_login_goes_over_tls_to_the_named_host_only(
    log: RunLog, settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(Post(context)) as post:
        chosen = settings(
            smtp_host="localhost", smtp_port=str(post.port), smtp_tls="starttls", smtp_user="worker", webhook_url=""
        )
        environ = {"BIOMERO_SMTP_PASSWORD": "s3cret"}
        _end(log)
        Courier(log, chosen, environ).deliver()
        assert post.logins == [], "nobody vouches for this server"
        assert "CERTIFICATE_VERIFY_FAILED" in _rows(log)[0].outcome
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        _hurry(log)
        Courier(log, chosen, environ).deliver()
        assert len(post.logins) == len(post.letters) == 1
    assert "s3cret" not in caplog.text
    assert not any("s3cret" in row.outcome for row in _rows(log))
