"""From pixel values to colours: the rendering model of OMERO, without lookup tables.

Values of a channel are mapped linearly (or by a power) from its window to 0...255; active channels are added up in
their colours, or the first active one is shown in grey. Pure: no server, no files.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy
from PIL import Image

#: Colours of channels that name none, by place; a fourth one is red again.
COLORS = ((255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255))
#: Number of channels that are active by default.
SHOWN = 3
JPEG_QUALITY = 85


@dataclass
class Channel:
    """How one channel is shown."""

    start: float
    end: float
    color: tuple[int, int, int, int]
    active: bool
    family: str = "linear"
    coefficient: float = 1.0
    noise: bool = False
    lookup_table: str | None = None
    reverse: bool = False


@dataclass
class Settings:
    """How an image is shown."""

    channels: list[Channel] = field(default_factory=list)
    z: int = 0
    t: int = 0
    model: str = "rgb"
    low: int = 0
    high: int = 255
    bits: int = 255


Plane = Callable[[int], numpy.ndarray]


def defaults(windows: list[tuple[float, float]], colors: list[tuple[int, ...] | None], size_z: int) -> Settings:
    """The settings of an image that no user has changed: windows by channel, colours where the channels name them."""
    channels = []
    for index, (window, color) in enumerate(zip(windows, colors, strict=True)):
        chosen = tuple(color) if color else COLORS[index % len(COLORS)]
        channels.append(Channel(*window, chosen, index < SHOWN))
    return Settings(channels, z=size_z // 2, model="rgb" if len(channels) > 1 else "greyscale")


def quantized(values: numpy.ndarray, channel: Channel, settings: Settings) -> numpy.ndarray:
    """Values as floats between the ends of the output range."""
    span = channel.end - channel.start
    with numpy.errstate(all="ignore"):
        part = (values.astype(float) - channel.start) / span if span else (values >= channel.end).astype(float)
        part = numpy.nan_to_num(numpy.clip(part, 0, 1))
    if channel.family == "polynomial":
        part = part**channel.coefficient
    elif channel.family == "exponential":
        part = numpy.expm1(part**channel.coefficient) / numpy.expm1(1)
    elif channel.family == "logarithmic":
        part = numpy.log1p(part * (numpy.e - 1))
    if channel.reverse:
        part = 1 - part
    return settings.low + part * (settings.high - settings.low)


def render(plane: Plane, settings: Settings) -> numpy.ndarray:
    """An array of (y, x, 3) bytes; ``plane`` gives a channel's values by its index."""
    active = [index for index, channel in enumerate(settings.channels) if channel.active]
    if settings.model == "greyscale":
        active = active[:1]
    total: numpy.ndarray | None = None
    for index in active:
        channel = settings.channels[index]
        grey = quantized(plane(index), channel, settings)
        color = (255, 255, 255, 255) if settings.model == "greyscale" else channel.color
        weights = numpy.array(color[:3]) / 255 * (color[3] / 255)
        part = grey[..., None] * weights
        total = part if total is None else total + part
    if total is None:
        total = numpy.zeros((*plane(0).shape, 3))
    return numpy.clip(numpy.floor(total + 0.5), 0, 255).astype("uint8")


def packed(picture: numpy.ndarray) -> list[int]:
    """As signed 32-bit ARGB, which is how the server packs colours."""
    argb = numpy.dstack([numpy.full(picture.shape[:2], 255, "uint8"), picture])
    return numpy.ascontiguousarray(argb).view(">i4").astype("int32").ravel().tolist()


def jpeg(picture: numpy.ndarray, quality: float = JPEG_QUALITY / 100) -> bytes:
    """As JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=round(quality * 100), subsampling=0)
    return buffer.getvalue()


def scaled(picture: numpy.ndarray, width: int, height: int) -> numpy.ndarray:
    """In another size."""
    return numpy.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def projected(planes: list[numpy.ndarray], kind: str, start: int, end: int, step: int) -> numpy.ndarray:
    """Several planes as one. The maximum takes the last plane in, mean and sum leave it out, as the server does."""
    if kind == "MAXIMUMINTENSITY":
        return numpy.maximum.reduce(planes[start : end + 1 : step])
    chosen = planes[start:end:step]
    total = numpy.sum([plane.astype(float) for plane in chosen], axis=0)
    return total / max(len(chosen), 1) if kind == "MEANINTENSITY" else total
