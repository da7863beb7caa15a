import random
import re
from pathlib import Path

import pytest

import biomeroworker
from biomeroworker.domain.backoff import backoff_delay


def test_a_delay_doubles_up_to_the_longest_one():
    assert [backoff_delay(attempt, first=1, longest=5, jitter=0) for attempt in range(1, 6)] == [1, 2, 4, 5, 5]


def test_any_number_of_attempts_has_a_delay():
    assert backoff_delay(10**6, first=0.01, longest=30, jitter=0) == 30


@pytest.mark.parametrize("jitter", [0.1, 1.0])
def test_jitter_spreads_the_delay_by_its_fraction_to_both_sides(jitter):
    random.seed(1)
    delays = [backoff_delay(1, first=10, longest=10, jitter=jitter) for _ in range(500)]
    assert 10 * (1 - jitter) <= min(delays) < 10 * (1 - 0.9 * jitter)
    assert 10 * (1 + 0.9 * jitter) < max(delays) <= 10 * (1 + jitter)


def test_no_other_module_computes_its_own_exponential_delay():
    package = Path(biomeroworker.__file__).parent
    own = [
        f"{path.relative_to(package)}:{number}"
        for path in package.rglob("*.py")
        if path.name != "backoff.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"(?:sleep|wait|delay).*2(?:\.0)? ?\*\*|(?:delay|wait) \* 2\b", line)
    ]
    assert own == []
