"""The values that an event may have."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomeroworker.domain.job_status import JobState
from biomeroworker.domain.redaction import mask_credentials
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.values import refuse_secrets, to_json_values, whole_percent


def test_values_are_read_back_as_they_are_recorded() -> None:
    when, key = datetime.now(UTC), UUID(int=7)
    given = {"a": (1, 2.5, None, True), RunState.DONE: Path("/x"), "e": JobState.RUNNING, "w": when, 3: {key}}
    assert to_json_values(given) == {"a": [1, 2.5, None, True], "done": "/x", "e": 2, "w": when, "3": [key]}
    assert type(to_json_values(RunState.DONE)) is str
    assert type(to_json_values(JobState.RUNNING)) is int


def test_a_value_that_cannot_be_recorded_raises_at_once() -> None:
    with pytest.raises(TypeError, match="an event cannot contain this value"):
        to_json_values({"a": object()})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ada:hunter2@db:5432/x", "postgresql://ada:***@db:5432/x"),
        ("a mysql+x://ada:hunt@er2@db/x b", "a mysql+x://ada:***@db/x b"),
        ("https://h/x?user=a&password=hunter2&b=1", "https://h/x?user=a&password=***&b=1"),
        ("https://ghp_hunter2@github.com/lab/x", "https://***@github.com/lab/x"),
        ("ssh://ada@host:22/x and user@host", "ssh://ada@host:22/x and user@host"),
        ("12:30 mail to ada@host", "12:30 mail to ada@host"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, shown: str) -> None:
    assert mask_credentials(text) == shown


@pytest.mark.parametrize("key", ["password", "DB_PASSWORD", "omeroToken", "api_key", "client-secret", "privateKey"])
def test_a_secret_by_its_name_is_refused(key: str) -> None:
    with pytest.raises(RequestRejected, match="looks like a secret"):
        refuse_secrets({"inputs": [{key: "x"}]})


@pytest.mark.parametrize(
    "harmless", [{"token_size": 5}, {"tokenizer": "x"}, {"password": ""}, {"key": "x"}, {"t": "a:b@c"}]
)
def test_harmless_parameters_are_accepted(harmless: dict[str, object]) -> None:
    refuse_secrets(harmless)


@pytest.mark.parametrize(
    ("reported", "recorded"),
    [("43", "43%"), ("43.9%", "43%"), (43.2, "43%"), ("101", "100%"), ("-1", "0%"), (None, None), ("", None),
     ("epoch 3", "epoch 3"), ("nan", None), ("inf", "100%")],
)  # fmt: skip
def test_progress_is_recorded_in_whole_percents(reported: str | float | None, recorded: str | None) -> None:
    assert whole_percent(reported) == recorded


@given(st.text() | st.floats() | st.none())
def test_progress_never_breaks_and_is_stable(reported: str | float | None) -> None:
    once = whole_percent(reported)
    assert whole_percent(once) == once
