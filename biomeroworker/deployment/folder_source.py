"""Runs without OMERO: a folder of images in, a folder of results out.

TIFF files (all files that `tifffile` can read) are converted to OME-Zarr 0.4 with numbered names. The manifest has the
names of the user's files, from which the names of the results are made.
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

from biomeroworker.deployment import folder_files
from biomeroworker.domain.manifest import InputFile, InputImage, InputManifest, Portion, ResultManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Guard, Output, ProgressCallback, Provenance
from biomeroworker.errors import Blocked, Permanent, RequestRejected
from biomeroworker.imaging import reader
from biomeroworker.imaging.image_file import TIFF, ImageFile
from biomeroworker.imaging.ome_zarr import write_image

SUFFIXES = TIFF
#: The file in the output folder with the program, the inputs and the files of a run.
PROVENANCE = "provenance.json"
#: Axes letters of tifffile that mean one of TCZYX: S is samples, I and Q are sequences of unknown meaning.
_ALIASES = {"S": "C", "I": "Z", "Q": "Z"}


class FolderSource:
    """Inputs ``{"folder": path}``, outputs ``{"folder": path}``: folders of the user."""

    def check(self, request: RunRequest) -> None:
        """Raise `RequestRejected` if the input folder has no images, or the output folder cannot be used."""
        folder = Path(str(request.inputs.get("folder", "")))
        if not folder.is_dir():
            raise RequestRejected(f"input folder {folder} does not exist or is not a folder")
        for file in _images(folder):
            try:
                file.name.encode()
            except UnicodeEncodeError:
                raise RequestRejected(
                    f"the name of the file {os.fsencode(file)!r} is not UTF-8; rename the file"
                ) from None
        if not list(_images(folder)):
            raise RequestRejected(
                f"input folder {folder} has no images ({', '.join('*' + suffix for suffix in SUFFIXES)})"
            )
        folder_files.describe_files(request.files)
        target = Path(str(request.outputs.get("folder", "")))
        if target.resolve() == folder.resolve():
            raise RequestRejected(f"output folder is the input folder ({folder}); choose another")
        if (
            request.only
            and target.is_dir()
            and any(_made_by(file) == request.retry_of for file in _provenances(target))
        ):
            return  # a retry of failed inputs adds its results to those of the first run
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise RequestRejected(f"output {target} is not an empty folder; choose an empty or a new folder")

    def list_inputs(self, run: str, request: RunRequest) -> InputManifest:
        """Read the headers of all files. The number of an image is its position in the sorted list of all images."""
        folder = Path(str(request.inputs["folder"]))
        images = [_described(file, number) for number, file in enumerate(_images(folder), start=1)]
        for key, name in request.only.items():
            if not any((image.key, image.name) == (key, name) for image in images):
                raise Permanent(f"input folder {folder} has changed: {name} is not image {key.rpartition('-')[2]}")
        try:
            files = folder_files.describe_files(request.files)
        except RequestRejected as gone:  # they were there when the run was accepted
            raise Permanent(str(gone)) from gone
        return InputManifest(
            run=run,
            images=tuple(image for image in images if not request.only or image.key in request.only),
            files=files,
        )

    def stage_files(
        self, request: RunRequest, files: Sequence[InputFile], folder: Path, report: ProgressCallback, guard: Guard
    ) -> None:
        """Copy the files."""
        folder_files.copy(files, folder, report, guard)

    def stage_in(
        self,
        run: str,
        request: RunRequest,
        portions: Sequence[Portion],
        folder: Path,
        report: ProgressCallback,
        guard: Guard,
    ) -> None:
        """Convert each TIFF. Incomplete images of an interrupted export are converted again."""
        source = Path(str(request.inputs["folder"]))
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob(".*.part"):
            shutil.rmtree(partial, ignore_errors=True)
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
        """Write ``provenance.json``, then copy each result, with a name made from the name of its input."""
        target = Path(str(request.outputs["folder"]))
        target.mkdir(parents=True, exist_ok=True)
        record = target / (f"provenance-{provenance.run[:8]}.json" if request.only else PROVENANCE)
        foreign = _foreign(record, provenance.run)
        names = _result_names(results, inputs, reserved=foreign if request.only else ())
        if foreign := foreign.intersection(names.values()):
            raise Blocked(
                f"output folder {target} has files that this run did not write: {', '.join(sorted(foreign))}",
                hint="move these files to another folder",
            )
        # written first, so that a repeated stage-out recognizes the files of this run
        document: dict[str, Any] = {
            **vars(provenance),
            "inputs": {image.key: image.origin.get("file", image.name) for image in inputs.images},
            "files": {path: str(target / name) for path, name in names.items()},
        }
        partial = target / f".{record.name}.part"
        partial.write_text(json.dumps(document, indent=1) + "\n")
        partial.replace(record)
        made = []
        for number, (path, name) in enumerate(names.items(), start=1):
            guard.check()
            report((number - 1) / len(names), name)
            _publish(folder / path, target / name)
            made.append(Output("file", str(target / name), path))
        guard.check()
        report(1.0, f"{len(made)} files")
        return made

    def attach_report(self, request: RunRequest, page: Path, provenance: Provenance, guard: Guard) -> str:
        """Copy the page into the output folder."""
        target = Path(str(request.outputs["folder"])) / page.name
        guard.check()
        _publish(page, target)
        return str(target)

    def read_report(self, request: RunRequest, reference: str) -> bytes:
        """Read the page in the output folder."""
        try:
            return Path(reference).read_bytes()
        except OSError as error:
            raise Permanent(f"the report {reference} cannot be read: {error}") from error


def _images(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES and file.is_file())


@contextmanager
def _opened(file: Path) -> Iterator[ImageFile]:
    """An open image; raises `Permanent` if the file does not exist."""
    try:
        with reader.opened(file) as image:
            yield image
    except FileNotFoundError:
        raise Permanent(f"{file.name} does not exist any more", hint="it was there when the run was accepted") from None


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
            raise Permanent(f"{file.name} has changed after the run was accepted", hint="start a new run")
        pixels = found.values
    squeezed = pixels.reshape([length for length, place in zip(pixels.shape, order, strict=True) if place is not None])
    places = [place for place in order if place is not None]
    full = squeezed.transpose(np.argsort(places)).reshape(shape)
    partial = folder / f".{image.path}.{os.getpid()}.part"  # a supervisor that lost its lease may still write its own
    write_image(partial, full, pixel_size=image.pixel_size, channels=image.channels, name=image.name)
    try:
        partial.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(partial, ignore_errors=True)  # another supervisor has written the same image


def _arrangement(shape: Sequence[int], axes: str, name: str) -> tuple[list[int | None], tuple[int, int, int, int, int]]:
    """The position of each axis in TCZYX (None: an unknown axis of length 1), and the lengths of the five axes."""
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
    """The file name of each result in the output folder: ``image-2_mask.tif`` → ``<name of image 2>_mask.tif``.

    A result that belongs to no single input keeps its name. If two names were equal (inputs ``a.tif`` and ``a.tiff``),
    both results keep their names on the cluster. Names in ``reserved`` are not used.
    """
    wanted = {result.path: _result_name(result.path, inputs) for result in results.files}
    counts = Counter(name.casefold() for name in [*wanted.values(), PROVENANCE])
    names: dict[str, str] = {}
    taken = {PROVENANCE, *(name.casefold() for name in reserved)}
    for path, name in sorted(wanted.items(), key=lambda item: counts[item[1].casefold()]):
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
    """The run of a provenance file; empty if the file cannot be read."""
    try:
        return str(json.loads(provenance.read_text())["run"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""


def _foreign(provenance: Path, run: str) -> set[str]:
    """Names of files in the output folder that this run did not write."""
    there = {path.name for path in provenance.parent.iterdir()}
    try:
        known = json.loads(provenance.read_text())
        own = {Path(name).name for name in known["files"].values()} if known["run"] == run else set()
    except (FileNotFoundError, ValueError, KeyError, AttributeError):
        return there
    return there - own


def _publish(file: Path, target: Path) -> None:
    """Copy a file so that no reader sees an incomplete copy."""
    partial = target.with_name(f".{target.name}.part")
    shutil.copyfile(file, partial)
    partial.replace(target)
