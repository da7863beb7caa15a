"""Requests about the files behind an image: there are none but its planes, since nothing is imported from files."""

from __future__ import annotations

from typing import Any

import omero
import omero.clients
import omero.cmd

from . import registry
from .registry import Run, command


def _image(run: Run) -> Any:
    found = run.tx.find("Image", run.request.imageId)
    if found is None:
        raise registry.error(run.request, "bad-image", f"Can't load image: {run.request.imageId}")
    if found.get("fileset") is not None:
        raise registry.error(run.request, "unsupported", "images of filesets are not implemented by this server")
    return found


@command(omero.cmd.UsedFilesRequest)
def used_files(run: Run) -> Any:
    """No files."""
    _image(run)
    return omero.cmd.UsedFilesResponsePreFs([], [], [])


@command(omero.cmd.OriginalMetadataRequest)
def original_metadata(run: Run) -> Any:
    """No metadata."""
    _image(run)
    return omero.cmd.OriginalMetadataResponse(None, None, {}, {})


@command(omero.cmd.ManageImageBinaries)
def binaries(run: Run) -> Any:
    """How much room an image's planes take; none of them can be taken away here."""
    request = run.request
    if request.togglePixels or request.deletePyramid or request.deleteThumbnails:
        raise registry.error(request, "unsupported", "taking binaries away is not implemented by this server")
    answer = omero.cmd.ManageImageBinariesResponse(None, [], False, False, 0, 0, 0, 0)
    for pixels in run.tx.members(_image(run), "pixels"):
        path = run.call.server.disk.pixels(pixels.id)
        if path.exists():
            answer.pixelsPresent, answer.pixelSize = True, answer.pixelSize + path.stat().st_size
    return answer
