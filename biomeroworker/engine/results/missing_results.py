"""Which inputs have no result, although the job that processed them ended well. Pure.

The rule: if the path of at least one result contains the key of an input (``image-12_mask.tif``,
``image-12/cells.csv``), the workflow writes results per input, and an input whose key is in no path has no result. If
no path contains a key, the results belong to the whole run (one table for all images), and no input is missing. The
fields of a plate follow the same rule within their plate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath

from biomeroworker.domain.manifest import InputImage, Portion, field_word, keys_in


def inputs_without_result(portions: Sequence[Portion], paths: Iterable[str]) -> dict[str, str]:
    """The inputs without a result, in the form of `RunRequest.only`: key (and field), and the name the user knows.

    Parameters
    ----------
    portions
        The inputs of the job, or of the tasks, that ended well.
    paths
        Of the result files, below ``out/``.
    """
    with_result: dict[str, set[str]] = {}  # by key; of a plate the fields that have results of their own
    fields = {portion.image.key: _field_names(portion.image) for portion in portions}
    for path in paths:
        parts = PurePosixPath(path).parts
        for position, part in enumerate(parts):
            for key in _keys(part):
                if key in fields:
                    found = with_result.setdefault(key, set())
                    found.update(_named_fields(fields[key], part, parts[position + 1 :]))
    if not with_result:
        return {}
    return {
        key: portion.image.name
        for portion in portions
        for key in _missing_of(portion, with_result.get(portion.image.key))
    }


def _missing_of(portion: Portion, with_result: set[str] | None) -> Iterator[str]:
    """The keys of a portion that have no result; None: its input has none at all."""
    if not portion.fields and with_result is None:
        yield portion.image.key  # a whole plate: its key stands for all of its fields
    elif with_result is None or with_result:
        fields = portion.fields or portion.image.fields
        yield from (f"{portion.image.key}/{field}" for field in fields if field not in (with_result or ()))


@lru_cache(maxsize=4096)  # a result in OME-Zarr has thousands of files below the same folder
def _keys(part: str) -> tuple[str, ...]:
    return keys_in(part)


def _field_names(plate: InputImage) -> dict[str, str]:
    """The fields of a plate by the names that results have.

    A field is named by folders of an OME-Zarr plate (``A/1/0``), or by a part of a file name as
    `biomeroworker.remote.convert` writes it (``plate-3_A1_0.tif``).
    """
    return {name: field for field in plate.fields for name in (field, field_word(field))}


def _named_fields(names: Mapping[str, str], part: str, below: Sequence[str]) -> Iterator[str]:
    if names:
        words = re.findall(r"(?<![A-Za-z0-9])[A-Z]+\d+_\d+(?!\d)", part)
        yield from (names[word] for word in (*words, "/".join(below[:3])) if word in names)
