import errno

import pytest
import sqlalchemy.exc

from biomeroworker.errors import Blocked, ConfigError, Permanent, Refused, Transient, classify, report


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Transient("as it is"), Transient),
        (TimeoutError("slow"), Transient),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Transient),
        (OSError(errno.ENOSPC, "No space left on device"), Blocked),
        (PermissionError(errno.EACCES, "denied"), Blocked),
        (FileNotFoundError(errno.ENOENT, "gone"), Permanent),
        (sqlalchemy.exc.OperationalError("select", {}, Exception("server closed")), Transient),
        (Refused("no such dataset"), Permanent),
        (ConfigError("a.ini, line 3"), Permanent),
        (ZeroDivisionError("a defect"), Permanent),
    ],
)
def test_every_error_has_one_class(error, kind):
    assert type(classify(error)) is kind


def test_a_report_has_stage_class_message_evidence_and_what_happens_next():
    fault = Permanent("the container ended with 3", hint="read its log", detail="ValueError: empty image")
    told = str(report(fault, "running", "abc"))
    for part in ("running", "permanent", "ended with 3", "ValueError: empty image", "read its log", "retry abc"):
        assert part in told


def test_a_paused_run_says_how_to_resume_it():
    assert "biomeroworker resume abc" in report(Blocked("disk full"), "transferring", "abc").next_step
