"""How a run over many images is split: which task works on what. Pure.

A chunk is up to so many images in the order of the inputs. Fields of a plate count as images; a well is never split,
because what a workflow says of a well it says of all its fields, and a plate shares no chunk with anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from biomeroworker.domain.manifest import Chunk, InputImage, InputManifest
from biomeroworker.errors import Permanent


def split(manifest: InputManifest, size: int, most: int) -> InputManifest:
    """The same manifest with its chunks; none where all fits into one, ``size`` is 0, or the cluster has no arrays.

    Parameters
    ----------
    size
        Images in a chunk.
    most
        How many tasks an array may have on the cluster: chunks are made larger until there are no more.
    """
    if size < 1 or most < 2:  # (MaxArraySize 0 or 1: a site that switched arrays off)
        return manifest
    chunks = _chunks(manifest.images, size)
    while len(chunks) > most:
        larger = max(size + 1, size * len(chunks) // max(most, 1))
        if larger > 2 * sum(max(1, len(image.fields)) for image in manifest.images):
            raise Permanent(
                f"the inputs are {len(chunks)} plates, and an array job on the cluster may have {most} tasks only",
                hint="hand in fewer plates at once",
            )
        size, chunks = larger, _chunks(manifest.images, larger)
    return manifest.model_copy(update={"chunks": tuple(chunks) if len(chunks) > 1 else ()})


def wants_split(manifest: InputManifest, size: int) -> bool:
    """Whether there is more than one chunk of that size; asked before the cluster's limit is."""
    return size > 0 and len(_chunks(manifest.images, size)) > 1


def _chunks(images: Iterable[InputImage], size: int) -> list[Chunk]:
    chunks: list[Chunk] = []
    keys: list[str] = []
    for image in images:
        if image.fields or len(keys) == size:
            chunks += [Chunk(keys=tuple(keys))] if keys else []
            keys = []
        if image.fields:
            chunks += _of_plate(image, size)
        else:
            keys.append(image.key)
    return [*chunks, Chunk(keys=tuple(keys))] if keys else chunks


def _of_plate(plate: InputImage, size: int) -> list[Chunk]:
    parts = list(_packed(_wells(plate.fields), size))
    if len(parts) == 1:
        return [Chunk(keys=(plate.key,))]
    return [Chunk(keys=(plate.key,), fields=part) for part in parts]


def _wells(fields: Iterable[str]) -> list[list[str]]:
    wells: dict[str, list[str]] = {}
    for field in fields:
        wells.setdefault(field.rpartition("/")[0], []).append(field)
    return list(wells.values())


def _packed(wells: Iterable[list[str]], size: int) -> Iterator[tuple[str, ...]]:
    part: list[str] = []
    for well in wells:
        if part and len(part) + len(well) > size:
            yield tuple(part)
            part = []
        part += well
    yield tuple(part)


def named_inputs(manifest: InputManifest, chunks: Iterable[int]) -> dict[str, str]:
    """The inputs of some chunks as `RunRequest.only` has them: key, or key and field, and the user's name."""
    return {
        name: portion.image.name
        for chunk in chunks
        for portion in manifest.portions(chunk)
        for name in ([f"{portion.image.key}/{field}" for field in portion.fields] or [portion.image.key])
    }
