"""A complete run on the real cluster: notification of its end, number of executions, removal of its folders."""

from __future__ import annotations

import email
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biomeroworker.deployment.deployment import Deployment
from biomeroworker.deployment.sources import Sources
from biomeroworker.engine.maintenance import MaintenanceScheduler
from biomeroworker.engine.retention import RetentionCleaner
from biomeroworker.engine.steps.executor import RunExecutor
from biomeroworker.engine.supervisor import Supervisor
from biomeroworker.eventlog.runlog import RunState
from tests.notice_servers import Hook, Post, serving


def test_an_ended_run_is_notified_and_its_folders_are_removed(
    make_site: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(database=f"sqlite:///{tmp_path}/runs.sqlite")
    site.deployment.close()
    with serving(Hook()) as hook, serving(Post()) as post:
        config = tmp_path / "slurm-config.ini"
        config.write_text(
            site.config.read_text().replace("[WORKER]", "[WORKER]\nretention_days = 0.00001")
            + f"[NOTIFICATIONS]\nwebhook_url = {hook.url}\nsmtp_host = 127.0.0.1\nsmtp_port = {post.port}\n"
            "smtp_tls = none\nsmtp_from = worker@example.org\n"
        )
        with Deployment.load(config) as deployment:
            request = site.request(site.images("a.tif")).model_copy(update={"email": "ada@example.org"})
            run = deployment.submit(request)
            log, cluster, settings = deployment.log, deployment.cluster, deployment.settings
            polls, query = [], cluster.status
            monkeypatch.setattr(cluster, "status", lambda names, since: polls.append(names) or query(names, since))
            maintenance = MaintenanceScheduler(log, {"": cluster}, settings, {})
            executor = RunExecutor(log, {"": cluster}, Sources(), settings)
            Supervisor(log, executor, poll_seconds=5, maintenance=maintenance).run_until_end(run)
            assert log.run(run).state is RunState.DONE
            assert cluster.transport.executions <= 7 + len(polls), "one of them may remove the folder"
            ((_, body),) = hook.taken
            assert json.loads(body)["run"] == str(run)
            assert json.loads(body)["report"]["made"]
            ((_, _, letter),) = post.letters
            assert email.message_from_bytes(letter)["Subject"] == "obedient is done"

            folder = cluster.run_folder(run)
            time.sleep(1)
            if cluster.transport.exists(folder):  # the maintenance of the supervisor may have been there already
                assert RetentionCleaner(log, {"": cluster}, settings).clean_remote() == 1
            assert not cluster.transport.exists(folder)
            assert cluster.transport.exists(folder.rpartition("/")[0])
            before = cluster.transport.executions
            assert RetentionCleaner(log, {"": cluster}, settings).clean_remote() == 0
            assert cluster.transport.executions == before
