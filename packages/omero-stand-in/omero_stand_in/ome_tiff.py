"""OME-XML and OME-TIFF of one image, as plain as the formats allow: one page per plane, one strip, no compression.

TIFF 6.0 in big-endian order, which is that of the planes; the OME-XML is the description of the first page.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

from .plane_files import TYPES, Shape

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_SHORT, _LONG, _ASCII = 3, 4, 2
_SAMPLE_FORMAT = {"u": 1, "i": 2, "f": 3}


@dataclass
class Description:
    """The OME-XML of an image."""

    name: str
    shape: Shape
    channels: list[str | None] = field(default_factory=list)
    #: micrometre in x, y, z; None where it is not known
    sizes: tuple[float | None, float | None, float | None] = (None, None, None)


def xml(about: Description, with_planes: bool) -> str:
    """The OME-XML document; ``with_planes``: it declares that the planes follow as TIFF pages."""
    shape = about.shape
    sizes = "".join(f' Size{axis}="{getattr(shape, axis.lower())}"' for axis in "XYZCT")
    physical = "".join(
        f' PhysicalSize{axis}="{value}" PhysicalSize{axis}Unit="µm"'
        for axis, value in zip("XYZ", about.sizes, strict=True)
        if value is not None
    )
    channels = "".join(
        f'<Channel ID="Channel:0:{index}" SamplesPerPixel="1"' + (f" Name={quoteattr(name)}" if name else "") + "/>"
        for index, name in enumerate(about.channels)
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{NAMESPACE}" UUID="urn:uuid:{uuid.uuid4()}">'
        f'<Image ID="Image:0" Name={quoteattr(about.name)}>'
        f'<Pixels ID="Pixels:0" DimensionOrder="{shape.order}" Type="{shape.kind}" BigEndian="true"{sizes}{physical}>'
        f"{channels}{'<TiffData/>' if with_planes else '<MetadataOnly/>'}</Pixels></Image></OME>"
    )


def tiff(about: Description, planes: Iterable[bytes]) -> bytes:
    """The whole file. ``planes`` come in the image's dimension order."""
    shape, kind = about.shape, TYPES[about.shape.kind]
    width, text = shape.width, xml(about, True).encode() + b"\0"
    count = shape.z * shape.c * shape.t
    parts, at = [text], 8 + len(text)
    offsets = []
    for plane in planes:
        if at % 2:
            parts.append(b"\0")
            at += 1
        offsets.append(at)
        parts.append(bytes(plane))
        at += len(plane)
    if at % 2:
        parts.append(b"\0")
        at += 1
    pages = []
    for index in range(count):
        entries = [
            (256, _LONG, 1, shape.x), (257, _LONG, 1, shape.y), (258, _SHORT, 1, width * 8), (259, _SHORT, 1, 1),
            (262, _SHORT, 1, 1), (273, _LONG, 1, offsets[index]), (277, _SHORT, 1, 1), (278, _LONG, 1, shape.y),
            (279, _LONG, 1, shape.plane), (339, _SHORT, 1, _SAMPLE_FORMAT[kind[1]]),
        ]  # fmt: skip
        if index == 0:
            entries.append((270, _ASCII, len(text), 8))
        size = 2 + 12 * len(entries) + 4
        following = at + size if index + 1 < count else 0
        body = b"".join(_entry(*entry) for entry in sorted(entries))
        pages.append(struct.pack(">H", len(entries)) + body + struct.pack(">I", following))
        at += size
    first = at - sum(map(len, pages))
    return b"".join([b"MM\0*", struct.pack(">I", first), *parts, *pages])


def _entry(tag: int, kind: int, count: int, value: int) -> bytes:
    packed = struct.pack(">HH", value, 0) if kind == _SHORT else struct.pack(">I", value)
    return struct.pack(">HHI", tag, kind, count) + packed
