"""Why sbatch did not take a job: its own words (recorded from 22.05.8, or from slurm_errno.c), and what they mean."""

import pytest

from biomeroworker.cluster.slurm.submit_errors import SubmissionUncertain, classify_submission
from biomeroworker.cluster.transport.transport import Completed
from biomeroworker.errors import Blocked, Fault, Permanent, Transient

FAILED = "sbatch: error: Batch job submission failed: "
POLICY = f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
UNSATISFIED = (
    f"sbatch: error: Memory specification can not be satisfied\n{FAILED}Requested node configuration is not available"
)
NO_PARTITION = f"sbatch: error: invalid partition specified: nope\n{FAILED}Invalid partition name specified"


def refused(stderr: str, code: int = 1) -> Fault:
    return classify_submission(Completed(("sbatch",), code, "", stderr))


@pytest.mark.parametrize(
    "stderr",
    [
        f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}",
        f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}",
        f"{FAILED}Unable to contact slurm controller (connect failure)",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
        f"{FAILED}Resource temporarily unavailable",
        f"{FAILED}Required partition not available (inactive or drain)",
        f"{FAILED}Required node not available (down, drained or reserved)",
        'sbatch: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory',
        "sbatch: error: RPC limit exceeded, retrying\n",
        f"{FAILED}Slurm backup controller in standby mode",
    ],
)
def test_temporary_errors_are_transient(stderr: str) -> None:
    fault = refused(stderr)
    assert isinstance(fault, Transient)
    assert not isinstance(fault, SubmissionUncertain)
    assert fault.detail


@pytest.mark.parametrize(
    "words", ["Socket timed out on send/recv operation", "Zero Bytes were transmitted or received"]
)
def test_a_lost_answer_is_uncertain(words: str) -> None:
    assert isinstance(refused(FAILED + words), SubmissionUncertain)


def test_success_without_an_id_and_a_killed_sbatch_are_uncertain() -> None:
    assert isinstance(refused("", code=0), SubmissionUncertain)
    assert isinstance(refused("Killed", code=137), SubmissionUncertain)


@pytest.mark.parametrize(
    ("stderr", "key"),
    [
        (NO_PARTITION, "_job_partition"),
        (f"{FAILED}Invalid account or account/partition combination specified", "_job_account"),
        (f"{FAILED}Invalid job array specification", "MaxArraySize"),
        (f"{FAILED}Invalid qos specification", "_job_qos"),
        ("sbatch: unrecognized option '--nosuch'\nTry \"sbatch --help\" for more information", "sbatch_"),
        (f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)", "_job_time"),
        ("sbatch: error: Invalid --time specification", "_job_time"),
        ("sbatch: error: Invalid --mem specification", "_job_mem"),
        (UNSATISFIED, "_job_mem"),
        (f"{FAILED}Requested node configuration is not available", "_job_"),
        (f"{FAILED}Invalid feature specification", "_job_constraint"),
        (f"{FAILED}More processors requested than permitted", "_job_cpus-per-task"),
        (f"{FAILED}Invalid generic resource (gres) specification", "_job_gres"),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", "_job_qos"),
        ("sbatch: error: Unable to open file nofile.sh", "job script"),
        (f"{FAILED}A new sentence of a new version", "sbatch_"),
    ],
)  # fmt: skip
def test_permanent_errors_name_the_key_to_change(stderr: str, key: str) -> None:
    fault = refused(stderr)
    assert isinstance(fault, Permanent)
    assert key in fault.hint
    assert "SLURM refused the job" in str(fault)


@pytest.mark.parametrize(
    ("stderr", "code"),
    [
        ("sh: 1: sbatch: not found", 127),
        (f"sbatch: error: AssocGrpCPUMinutesLimit\n{FAILED}Job violates accounting/QOS policy", 1),
        (f"{FAILED}User's group not permitted to use this partition", 1),
        ("sbatch: error: Unable to write: Disk quota exceeded", 1),
    ],
)
def test_errors_that_need_a_person_are_blocked(stderr: str, code: int) -> None:
    assert isinstance(refused(stderr, code), Blocked)


def test_the_message_has_the_output_of_sbatch_without_prefixes() -> None:
    fault = refused(NO_PARTITION)
    assert str(fault) == ("SLURM refused the job: invalid partition specified: nope: Invalid partition name specified")


def test_exit_code_255_of_a_wrong_option_is_not_a_signal() -> None:
    assert isinstance(refused("sbatch: unrecognized option '--nonsense=1'", code=255), Permanent)
