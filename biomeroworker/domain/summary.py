"""Describe the results of a run in words, for log lines, notifications and messages of scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from biomeroworker.domain.source import Output

#: Inputs that a message names; the report of the run has all of them.
INPUTS_NAMED = 10
#: In the order of the description. A dataset only contains the images, so it is not counted.
_WORDS = {
    "Image": ("image", "images"),
    "Roi": ("ROI", "ROIs"),
    "Table": ("table", "tables"),
    "File": ("attachment", "attachments"),
    "file": ("file", "files"),
}
#: What was not imported, and why.
_LEFT_OUT = {
    "RoiLeftOut": (
        "no ROIs from {} label image of a whole plate (ROIs belong to single images)",
        "no ROIs from {} label images of whole plates (ROIs belong to single images)",
    ),
    "DatasetGone": ("the requested dataset is not available any more (they are in a new dataset)",) * 2,
    "RoiReadOnly": (
        "no ROIs from {} label image (you may only view its original, and result images are not imported)",
        "no ROIs from {} label images (you may only view their originals, and result images are not imported)",
    ),
}


def count_outputs(made: Iterable[Output]) -> dict[str, int]:
    """The number of objects by kind."""
    counts: dict[str, int] = {}
    for one in made:
        counts[one.kind] = counts.get(one.kind, 0) + one.count
    return counts


def describe_outputs(counts: Mapping[str, int]) -> str:
    """Describe what was made and what was not: ``2 images, 315 ROIs, 1 table``.

    Parameters
    ----------
    counts
        Number of objects by ``kind`` of `biomeroworker.domain.source.Output`.
    """
    parts = [f"{counts[kind]} {words[counts[kind] != 1]}" for kind, words in _WORDS.items() if counts.get(kind)]
    parts += [words[counts[kind] != 1].format(counts[kind]) for kind, words in _LEFT_OUT.items() if counts.get(kind)]
    return ", ".join(parts) or "nothing was made"


def without_result(report: Mapping[str, Any]) -> dict[str, str]:
    """All inputs without a result in the report of a run that is done, failed and skipped ones: key and user's name.

    The form is that of `RunRequest.only`: the key is that of an image or a plate (``image-7``), or of a field of a
    plate (``plate-5/A/1/0``). The report of a run that failed or was cancelled lists no inputs.
    """
    failed: Iterable[Mapping[str, Any]] = report.get("failed") or ()
    parts = [*(dict(one.get("inputs") or {}) for one in failed), dict(report.get("skipped") or {})]
    return {str(key): str(name) for part in parts for key, name in part.items()}


def name_inputs(inputs: Mapping[str, str]) -> str:
    """The inputs by the names that the user knows, with their keys: ``cells.tif (image-7), and 3 more``."""
    return first_of([f"{name} ({key})" if name else key for key, name in inputs.items()], INPUTS_NAMED)


def first_of(texts: Sequence[str], most: int, separator: str = ", ") -> str:
    """At most so many texts, and how many more there are."""
    more = len(texts) - most
    return separator.join([*texts[:most], *([f"and {more} more"] if more > 0 else [])])
