"""What readers of a run find in its request and its plan, whichever program or version recorded them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from biomeroworker.eventlog.runlog import RunLog, RunState
from tests.log_steps import REQUEST, accept


def test_a_run_has_no_plan_and_the_default_cluster_before_admission(tmp_path: Path) -> None:
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        run = log.run(accept(log))
        assert (run.plan, run.cluster) == (None, "")
        assert (run.workflow, run.workflow_version) == (REQUEST["workflow"], REQUEST["version"])
        assert run.request_model.inputs == REQUEST["inputs"]


def test_the_plan_of_an_admitted_run_decides_its_version_and_cluster(tmp_path: Path) -> None:
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        run_id = accept(log, version="")
        log.intend(run_id, RunState.EXPORTING, version="v2.0.0", cluster="far", workflow={"name": "nuclei"})
        run = log.run(run_id)
        assert run.plan is not None
        assert (run.plan.image, run.workflow_version, run.cluster) == ("", "v2.0.0", "far")


def test_a_request_with_an_unknown_field_can_be_shown_but_not_served(tmp_path: Path) -> None:
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        run = log.run(accept(log, user_name="ada", from_a_later_version=1))
        assert run.recorded_request.user_name == "ada"
        with pytest.raises(ValidationError):
            _ = run.request_model


def test_a_run_that_another_program_recorded_is_named_by_its_own_name(tmp_path: Path) -> None:
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        run = log.run(log.tracker.initiate_workflow("nuclei", "by a script", 4, 3))
        assert (run.workflow, run.workflow_version, run.recorded_request.email) == ("nuclei", "", "")
        with pytest.raises(ValidationError):
            _ = run.request_model
