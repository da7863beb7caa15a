"""Describe the results of a run in words, for log lines, notifications and messages of scripts."""

from __future__ import annotations

from collections.abc import Mapping

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
