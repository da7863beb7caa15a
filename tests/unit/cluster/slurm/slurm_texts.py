"""Answers of SLURM as the remote program frames them."""

from datetime import UTC, datetime

SINCE = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)


def answered(squeue: str = "", sacct: str = "", queue_code: int = 0, accounting_code: int = 0) -> str:
    """An answer as the remote program frames it."""
    squeue, sacct = (text.strip("\n") + "\n" if text else "" for text in (squeue, sacct))
    return f"[squeue]\n{squeue}[end {queue_code}]\n[sacct]\n{sacct}[end {accounting_code}]\n"
