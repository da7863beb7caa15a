"""States of jobs in the words of sacct, from what squeue and sacct print. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from biomeroworker.cluster.slurm.parsing import state_of
from biomeroworker.domain.job_status import JobState

#: The state of an array is the first of these that any of its tasks has.
_FIRST = (JobState.PENDING, JobState.RUNNING)
#: The state words that sacct prints (sacct(1), JOB STATE CODES) and that old scripts know.
_SACCT_WORDS = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PENDING", "PREEMPTED",
    "RUNNING", "TIMEOUT",
})  # fmt: skip


def read_states(text: str, ids: Sequence[int]) -> dict[int, str]:
    """The state of each job, in sacct's words, from lines of ``id|state``: first the queue, then accounting. Pure."""
    words: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        name, _, state = line.partition("|")
        number = re.match(r"\d+", name)
        if number and state.strip() and int(number[0]) in ids:
            task = name.removesuffix("_N/A")
            words.setdefault(int(number[0]), {}).setdefault(task, sacct_word(state))
    return {one: _whole(list(tasks.values())) for one, tasks in words.items()}


def sacct_word(word: str) -> str:
    """The word that sacct would print for a state that squeue or sacct reports."""
    word = word.split()[0].rstrip("+").upper()
    return word if word in _SACCT_WORDS else state_of(word).name


def _whole(words: Sequence[str]) -> str:
    states = {word: state_of(word) for word in words}
    for state in _FIRST:
        if found := [word for word, one in states.items() if one is state]:
            return found[0]
    return next((word for word, one in states.items() if one is not JobState.COMPLETED), words[0])
