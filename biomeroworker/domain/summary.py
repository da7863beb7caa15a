"""What a run has made, in words: on the supervisor's line, in the notice, in the script's message."""

from __future__ import annotations

from collections.abc import Mapping

#: In the order in which they are told; a dataset is where the images are, not one thing more.
_WORDS = {
    "Image": ("image", "images"),
    "Roi": ("ROI", "ROIs"),
    "Table": ("table", "tables"),
    "File": ("attachment", "attachments"),
    "file": ("file", "files"),
}
#: What was left out, and why.
_LEFT_OUT = {
    "RoiLeftOut": (
        "no ROIs from {} label image of a whole plate (ROIs lie on single images)",
        "no ROIs from {} label images of whole plates (ROIs lie on single images)",
    ),
    "DatasetGone": ("the dataset named for them cannot take them any more, they are in a new one",) * 2,
    "RoiReadOnly": (
        "no ROIs from {} label image (you may only look at its original, and result images are not imported)",
        "no ROIs from {} label images (you may only look at their originals, and result images are not imported)",
    ),
}


def describe_outputs(counts: Mapping[str, int]) -> str:
    """What was made and what was left out: ``2 images, 315 ROIs, 1 table``.

    Parameters
    ----------
    counts
        By the kinds that sources use in `biomeroworker.domain.source.Output`.
    """
    said = [f"{counts[kind]} {words[counts[kind] != 1]}" for kind, words in _WORDS.items() if counts.get(kind)]
    said += [words[counts[kind] != 1].format(counts[kind]) for kind, words in _LEFT_OUT.items() if counts.get(kind)]
    return ", ".join(said) or "nothing was made"
