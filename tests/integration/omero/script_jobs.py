"""The jobs of scripts that a test runs on a Processor."""

import time

import pytest

#: How long a test waits for anything. Long enough for a busy machine: it only delays the failure of a test.
PATIENCE_SECONDS = 180


def final_status(session, process, seconds=PATIENCE_SECONDS):
    """The job's final status, read from its row: the process is not polled."""
    query = "select s.value from Job j join j.status s where j.id = :id"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = session.rows(query, id=process.getJob().id.val)[0][0]
        if status not in ("Waiting", "Running", "Submitted"):
            return status
        time.sleep(0.2)
    pytest.fail("the job did not end")
    return ""
