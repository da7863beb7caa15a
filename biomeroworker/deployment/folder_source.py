"""Runs without OMERO: a folder of images in, a folder of results out.

TIFF files (anything that `tifffile` reads as such) become OME-Zarr 0.4 named by a number; the user's file names travel
in the manifest and come back as the names of the results.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from biomeroworker.domain.manifest import InputImage, InputManifest, Portion, ResultManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Guard, Output, ProgressCallback, Provenance
from biomeroworker.errors import Blocked, Permanent, RequestRejected
from biomeroworker.imaging import reader
from biomeroworker.imaging.image_file import TIFF, ImageFile
from biomeroworker.imaging.ome_zarr import write_image

SUFFIXES = TIFF
#: Beside the results: what made them, from what, and which files they are.
PROVENANCE = "provenance.json"
#: tifffile's axes letters that are one of TCZYX under another name: S and I are samples and images without meaning.
_ALIASES = {"S": "C", "I": "Z", "Q": "Z"}


class FolderSource:
    """Inputs ``{"folder": path}``, outputs ``{"folder": path}``; both folders are the user's own."""

    def check(self, request: RunRequest) -> None:
        """Refuse a missing folder, a folder without images, and results that would fall among the inputs."""
        folder = Path(str(request.inputs.get("folder", "")))
        if not folder.is_dir():
            raise RequestRejected(f"{folder} is not a folder; give the folder that holds the images")
        for file in _images(folder):
            try:
                file.name.encode()
            except UnicodeEncodeError:
                raise RequestRejected(
                    f"the name of {os.fsencode(file)!r} is not UTF-8; give the file another one"
                ) from None
        if not list(_images(folder)):
            raise RequestRejected(
                f"{folder} holds no image; looked for {', '.join('*' + suffix for suffix in SUFFIXES)}"
            )
        target = Path(str(request.outputs.get("folder", "")))
        if target.resolve() == folder.resolve():
            raise RequestRejected(f"results would fall among the inputs in {folder}; give another folder for them")
        if (
            request.only
            and target.is_dir()
            and any(_made_by(file) == request.retry_of for file in _provenances(target))
        ):
            return  # what failed of that run: its results come to lie beside the others
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise RequestRejected(f"{target} is not an empty folder; give an empty or a new one for the results")

    def list_inputs(self, run: str, request: RunRequest) -> InputManifest:
        """Read the headers of all files. An image's number is its place among all that lie in the folder."""
        folder = Path(str(request.inputs["folder"]))
        images = [_described(file, number) for number, file in enumerate(_images(folder), start=1)]
        for key, name in request.only.items():
            if not any((image.key, image.name) == (key, name) for image in images):
                raise Permanent(f"{folder} has changed: {name} is not its image {key.rpartition('-')[2]} any more")
        return InputManifest(
            run=run, images=tuple(image for image in images if not request.only or image.key in request.only)
        )

    def stage_in(
        self,
        run: str,
        request: RunRequest,
        portions: Sequence[Portion],
        folder: Path,
        report: ProgressCallback,
        guard: Guard,
    ) -> None:
        """Convert each TIFF; an image that a killed export left half done is done again."""
        source = Path(str(request.inputs["folder"]))
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob(".*.part"):
            shutil.rmtree(half, ignore_errors=True)
        for number, portion in enumerate(portions):
            guard.check()
            report(number / len(portions), str(portion.image.origin["file"]))
            _export(source / str(portion.image.origin["file"]), portion.image, folder)
        guard.check()
        report(1.0, f"{len(portions)} images")

    def stage_out(
        self,
        request: RunRequest,
        inputs: InputManifest,
        results: ResultManifest,
        folder: Path,
        provenance: Provenance,
        report: ProgressCallback,
        guard: Guard,
    ) -> list[Output]:
        """Copy each result under its input's own name, then write ``provenance.json``."""
        target = Path(str(request.outputs["folder"]))
        target.mkdir(parents=True, exist_ok=True)
        told = f"provenance-{provenance.run[:8]}.json" if request.only else PROVENANCE
        foreign = _foreign(target / told, provenance.run)
        names = _result_names(results, inputs, reserved=foreign if request.only else ())
        if foreign := foreign.intersection(names.values()):
            raise Blocked(
                f"{target} holds {', '.join(sorted(foreign))} already, which this run did not make",
                hint="move them out of the way",
            )
        # written first, so that whoever comes again knows these names for this run's own
        document: dict[str, Any] = {
            **vars(provenance),
            "inputs": {image.key: image.origin.get("file", image.name) for image in inputs.images},
            "files": {path: str(target / name) for path, name in names.items()},
        }
        partial = target / f".{told}.part"
        partial.write_text(json.dumps(document, indent=1) + "\n")
        partial.replace(target / told)
        made = []
        for number, (path, name) in enumerate(names.items(), start=1):
            guard.check()
            report((number - 1) / len(names), name)
            _publish(folder / path, target / name)
            made.append(Output("file", str(target / name), path))
        guard.check()
        report(1.0, f"{len(made)} files")
        return made


def _images(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES and file.is_file())


@contextmanager
def _opened(file: Path) -> Iterator[ImageFile]:
    """An image; one that is not there any more is named."""
    try:
        with reader.opened(file) as image:
            yield image
    except FileNotFoundError:
        raise Permanent(f"{file.name} is gone", hint="was it moved after the run was accepted?") from None


def _described(file: Path, number: int) -> InputImage:
    key = f"image-{number}"
    with _opened(file) as image:
        t, c, z, y, x = _arrangement(image.shape, image.axes, file.name)[1]
        return InputImage(
            key=key,
            path=f"{key}.ome.zarr",
            name=file.stem,
            shape=(t, c, z, y, x),
            pixel_type=image.dtype.name,
            pixel_size=image.pixel_size,
            channels=image.channels if len(image.channels) == c else (),
            origin={"file": file.name},
        )


def _export(file: Path, image: InputImage, folder: Path) -> None:
    final = folder / image.path
    if final.is_dir():
        return
    with _opened(file) as found:
        order, shape = _arrangement(found.shape, found.axes, file.name)
        if shape != image.shape:
            raise Permanent(f"{file.name} has changed after the run was accepted", hint="hand it in again")
        pixels = found.values
    squeezed = pixels.reshape([length for length, place in zip(pixels.shape, order, strict=True) if place is not None])
    places = [place for place in order if place is not None]
    full = squeezed.transpose(np.argsort(places)).reshape(shape)
    half = folder / f".{image.path}.{os.getpid()}.part"  # a supervisor that lost its lease may still write its own
    write_image(half, full, pixel_size=image.pixel_size, channels=image.channels, name=image.name)
    try:
        half.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(half, ignore_errors=True)  # another was faster, and what it wrote is the same


def _arrangement(shape: Sequence[int], axes: str, name: str) -> tuple[list[int | None], tuple[int, int, int, int, int]]:
    """Where each axis goes in OME's order TCZYX (None: nowhere, it has length 1 and means nothing to us), and how long
    the five are then.
    """
    places: list[int | None] = []
    full = [1, 1, 1, 1, 1]
    for letter, length in zip(axes, shape, strict=True):
        known = letter if letter in "TCZYX" else _ALIASES.get(letter, "")
        place = "TCZYX".index(known) if known else None
        if place is None or place in places:
            if length != 1:
                raise Permanent(f"{name} has an axis {letter!r} of length {length} (axes {axes})")
            place = None
        else:
            full[place] = length
        places.append(place)
    t, c, z, y, x = full
    return places, (t, c, z, y, x)


def _result_names(results: ResultManifest, inputs: InputManifest, reserved: Iterable[str] = ()) -> dict[str, str]:
    """What each result is called at home: ``image-2_mask.tif`` → ``<name of image 2>_mask.tif``.

    A result of no single input keeps its name. Where two would be called the same (inputs ``a.tif`` and ``a.tiff``),
    each keeps the name that it had on the cluster; it also gives way to names that are ``reserved``.
    """
    wished = {result.path: _result_name(result.path, inputs) for result in results.files}
    counts = Counter(name.casefold() for name in [*wished.values(), PROVENANCE])
    away = {name.casefold() for name in reserved}
    names: dict[str, str] = {}
    taken = {PROVENANCE, *away}
    for path, name in sorted(wished.items(), key=lambda item: counts[item[1].casefold()]):
        chosen = name if counts[name.casefold()] == 1 else path.replace("/", "__")
        while chosen.casefold() in taken:
            chosen = f"other_{chosen}"
        taken.add(chosen.casefold())
        names[path] = chosen
    return names


def _result_name(path: str, inputs: InputManifest) -> str:
    flat = path.replace("/", "_")
    for image in sorted(inputs.images, key=lambda one: -len(one.key)):
        if flat.startswith(image.key) and not flat[len(image.key) : len(image.key) + 1].isdigit():
            return image.name + flat[len(image.key) :]
    return flat


def _provenances(target: Path) -> list[Path]:
    return list(target.glob("provenance*.json"))


def _made_by(provenance: Path) -> str:
    """The run that a provenance file is of."""
    try:
        return str(json.loads(provenance.read_text())["run"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""


def _foreign(provenance: Path, run: str) -> set[str]:
    """Names in the target folder that are not this run's own making."""
    there = {path.name for path in provenance.parent.iterdir()}
    try:
        known = json.loads(provenance.read_text())
        own = {Path(name).name for name in known["files"].values()} if known["run"] == run else set()
    except (FileNotFoundError, ValueError, KeyError, AttributeError):
        return there
    return there - own


def _publish(file: Path, target: Path) -> None:
    """Copy so that a reader never sees a part."""
    partial = target.with_name(f".{target.name}.part")
    shutil.copyfile(file, partial)
    partial.replace(target)
