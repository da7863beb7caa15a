"""The states of a run and their transitions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from biomeroworker.eventlog.aggregates import states
from biomeroworker.eventlog.aggregates.states import (
    TERMINAL,
    TRANSITIONS,
    AlreadyEnded,
    NotAllowed,
    RunState,
    check_transition,
)

GOING_ON = [state for state in RunState if not state.is_terminal]


def test_every_state_has_a_description_and_transitions() -> None:
    text = Path(states.__file__).read_text()
    for state in RunState:
        assert re.search(rf"^    {state.name} = .*#: \w+", text, re.MULTILINE), state
    assert set(TRANSITIONS) == set(RunState)


@pytest.mark.parametrize("state", GOING_ON)
def test_every_active_run_may_end_and_may_repeat_its_step(state: RunState) -> None:
    for then in (*TERMINAL, state):
        check_transition(state, then)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_terminal_state_has_no_transitions(state: RunState) -> None:
    for then in RunState:
        with pytest.raises(AlreadyEnded):
            check_transition(state, then)


def test_only_the_stages_that_a_fast_job_skips_can_be_skipped() -> None:
    skipped = {(now, then) for now in GOING_ON for then in TRANSITIONS[now] if then.order > now.order + 1}
    S = RunState  # noqa: N806
    assert skipped == {(S.SUBMITTING, S.RUNNING), (S.SUBMITTING, S.FETCHING), (S.QUEUED, S.FETCHING)}


def test_an_accepted_run_cannot_import() -> None:
    with pytest.raises(NotAllowed, match="accepted cannot become importing"):
        check_transition(RunState.ACCEPTED, RunState.IMPORTING)


@pytest.mark.parametrize("word", ["UNKNOWN", "COMPLETED", "FAILED", "NODE_FAIL", "PREEMPTED", "nonsense"])
def test_only_pending_and_running_move_a_run(word: str) -> None:
    for state in RunState:
        assert states.after_observation(state, word) is state


def test_a_requeued_job_makes_its_run_wait_again() -> None:
    assert states.after_observation(RunState.RUNNING, "PENDING") is RunState.QUEUED
    assert states.after_observation(RunState.QUEUED, "RUNNING") is RunState.RUNNING
    assert states.after_observation(RunState.FETCHING, "RUNNING") is RunState.FETCHING
