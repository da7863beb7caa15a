"""Split a run over many images into chunks, one for each task of an array job. Pure.

A chunk has at most ``batch_size`` images, in the order of the inputs. Fields of a plate count as images. A well is
never split, because workflows compute results per well, and a plate shares no chunk with other inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from biomeroworker.domain.manifest import Chunk, InputImage, InputManifest
from biomeroworker.errors import Permanent


def split(manifest: InputManifest, size: int, most: int) -> InputManifest:
    """The same manifest with chunks; without, if one chunk is enough, ``size`` is 0, or the cluster has no arrays.

    Parameters
    ----------
    size
        Images per chunk.
    most
        The most tasks that an array may have on the cluster. Chunks are made larger until their number fits.
    """
    if size < 1 or most < 2:  # (MaxArraySize 0 or 1: a site that switched arrays off)
        return manifest
    chunks = _chunks(manifest.images, size)
    while len(chunks) > most:
        larger = max(size + 1, size * len(chunks) // max(most, 1))
        if larger > 2 * sum(max(1, len(image.fields)) for image in manifest.images):
            raise Permanent(
                f"the inputs are {len(chunks)} plates, but an array job on the cluster can have at most {most} tasks",
                hint="run on fewer plates at once",
            )
        size, chunks = larger, _chunks(manifest.images, larger)
    return manifest.model_copy(update={"chunks": tuple(chunks) if len(chunks) > 1 else ()})


def wants_split(manifest: InputManifest, size: int) -> bool:
    """Whether there is more than one chunk of this size; needs no query of the cluster's limit."""
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
    """The inputs of some chunks in the form of `RunRequest.only`: key (and field), and the name that the user knows."""
    return {
        name: portion.image.name
        for chunk in chunks
        for portion in manifest.portions(chunk)
        for name in ([f"{portion.image.key}/{field}" for field in portion.fields] or [portion.image.key])
    }
