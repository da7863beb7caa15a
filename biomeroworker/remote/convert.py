#!/usr/bin/env python3
"""Turn every OME-Zarr of a folder into OME-TIFF: ``convert.py IN OUT [--jobs N] [--progress FILE]``.

This program is sent with a run and runs inside the converter's container image. So it needs only numpy, numcodecs and
tifffile, and Python 3.9. It reads Zarr itself (formats 2 and 3, sharded or not: OME-Zarr 0.1 to 0.5), because starting
zarr-python takes longer than converting a small image, and because errors can then name the chunk.

``image-7.ome.zarr`` becomes ``image-7.tif``; each field of a plate becomes ``plate-3_B2_0.tif`` (well, field). Axes,
pixel sizes with units, channel names and the name of the image are preserved; channels never become RGB.

The pixels of an uncompressed TIFF are one block with a layout that is known in advance. So the file is created empty.
Bands of it (adjacent chunks, over the full width if memory allows) are read once and written at their position, in any
order, by as many threads as the job has cores.

Exit codes: 0 done; 1 an input cannot be converted; 74 reading or writing failed (``EX_IOERR`` of sysexits.h).
A file with its final name is always complete.
"""

# ruff: noqa: B905  (zip has no `strict` in Python 3.9)
from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import re
import struct
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numcodecs
import numpy as np
import tifffile

IO_ERROR = 74
#: Maximum of pixels in memory, unless a single chunk is larger.
MEMORY_BYTES = 192 << 20
#: Maximum size of a band, which grows over the width of a plane, then over its height.
BAND_BYTES = 8 << 20
#: Maximum of shards with an open file and a cached index.
MAX_SHARDS = 64

#: OME-NGFF names units as UDUNITS-2 does, OME-XML by symbol (OME schema 2016-06, UnitsLength and UnitsTime).
LENGTHS = {
    "angstrom": "Å", "attometer": "am", "centimeter": "cm", "decimeter": "dm", "exameter": "Em", "femtometer": "fm",
    "foot": "ft", "gigameter": "Gm", "hectometer": "hm", "inch": "in", "kilometer": "km", "megameter": "Mm",
    "meter": "m", "micrometer": "µm", "mile": "mi", "millimeter": "mm", "nanometer": "nm", "parsec": "pc",
    "petameter": "Pm", "picometer": "pm", "terameter": "Tm", "yard": "yd", "yoctometer": "ym", "yottameter": "Ym",
    "zeptometer": "zm", "zettameter": "Zm",
}  # fmt: skip
TIMES = {
    "attosecond": "as", "centisecond": "cs", "day": "d", "decisecond": "ds", "femtosecond": "fs", "hour": "h",
    "microsecond": "µs", "millisecond": "ms", "minute": "min", "nanosecond": "ns", "picosecond": "ps", "second": "s",
}  # fmt: skip
CENTIMETERS = {"Å": 1e-8, "pm": 1e-10, "nm": 1e-7, "µm": 1e-4, "mm": 0.1, "cm": 1.0, "dm": 10.0, "m": 100.0}

#: Pixel types without a name in OME-XML, and the types that store their values.
STORED_AS = {"bool": "uint8", "float16": "float32", "int64": "int32", "uint64": "uint32"}
OME_TYPES = {
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64", "complex64", "complex128",
}  # fmt: skip

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_INVALID = (
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
    OverflowError,
)  # what Python raises for invalid metadata


class Unconvertible(Exception):
    """An invalid input; the message names the image and the file."""

    code = 1


class Unreadable(Unconvertible):
    """Reading or writing failed; the input is not at fault."""

    code = IO_ERROR


# -- Zarr -----------------------------------------------------------------------------------------------------------


class Packing(NamedTuple):
    """How a chunk is encoded (zarr format 2: filters and compressor; format 3: codecs)."""

    dtype: np.dtype
    shape: tuple[int, ...]
    axes: tuple[int, ...]  #: storage order of the axes
    codecs: tuple[Any, ...]  #: in the order of encoding

    def unpack(self, raw: bytes) -> np.ndarray:
        """The pixels of a chunk; raises ValueError if the bytes are invalid."""
        data: Any = raw
        for codec in reversed(self.codecs):
            if codec.codec_id == "blosc":
                _check_blosc(data)
            try:
                data = codec.decode(data)
            except Exception as error:  # each codec raises its own types
                raise ValueError(f"{codec.codec_id} cannot unpack it: {error}") from error
        flat = np.frombuffer(data, np.uint8) if isinstance(data, (bytes, bytearray)) else np.asarray(data).reshape(-1)
        flat = flat.view(np.uint8)
        wanted = self.dtype.itemsize * math.prod(self.shape)
        if flat.size != wanted:
            raise ValueError(f"it has {flat.size} bytes of pixels, not {wanted}")
        stored = flat.view(self.dtype).reshape([self.shape[axis] for axis in self.axes])
        return stored.transpose(np.argsort(self.axes))


def _check_blosc(data: Any) -> None:
    """Compare the total size in Blosc's header (bytes 12 to 15) with the actual size: the library does not check it."""
    if len(data) < 16 or struct.unpack_from("<I", data, 12)[0] != len(data):
        raise ValueError(f"it is truncated, or not Blosc: it has {len(data)} bytes")


class Shard(NamedTuple):
    """An open file with several chunks, and their offsets and lengths (2⁶⁴-1 twice: no chunk)."""

    stream: _Stream
    table: np.ndarray


class Level:
    """The full-resolution array of an image: its metadata and chunks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata, read = folder / "zarr.json", self._format_3
        found = load(self.metadata)
        if found is None:
            self.metadata, read = folder / ".zarray", self._format_2
            found = load(self.metadata)
        if found is None:
            raise Unconvertible(f"neither .zarray nor zarr.json is in {_shown(folder)}")
        self.outer: tuple[int, ...] = ()  #: shape of a shard
        self.index: tuple[Packing, bool] | None = None  #: encoding of a shard's index, and whether it comes first
        try:
            self.shape = tuple(int(size) for size in found["shape"])
            read(found)
            if len(self.chunks) != len(self.shape) or min(self.chunks, default=1) < 1:
                raise ValueError(f"chunks {self.chunks} for shape {self.shape}")
            self.fill = _fill_value(found.get("fill_value"), self.dtype) if self.dtype.kind in "biufc" else None
        except _INVALID as error:
            raise Unconvertible(f"{_shown(self.metadata)} is invalid: {_words(error)}") from error
        self.shards: OrderedDict[Path, Shard | None] = OrderedDict()
        self.lock = threading.Lock()

    def _format_2(self, found: dict[str, Any]) -> None:
        """https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html"""
        self.chunks = tuple(int(size) for size in found["chunks"])
        self.dtype = np.dtype(found["dtype"])
        axes = tuple(range(len(self.shape)))
        codecs = [*(found.get("filters") or []), *filter(None, [found.get("compressor")])]
        packed = tuple(_codec(str(codec["id"]), codec) for codec in codecs)
        self.packing = Packing(self.dtype, self.chunks, axes[::-1] if found.get("order") == "F" else axes, packed)
        separator = str(found.get("dimension_separator") or ".")
        self.place: Callable[[Sequence[int]], str] = lambda index: separator.join(map(str, index))

    def _format_3(self, found: dict[str, Any]) -> None:
        """https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html"""
        if found.get("node_type") != "array":
            raise ValueError(f"node type {found.get('node_type')!r}, not an array")
        if found["chunk_grid"]["name"] != "regular":
            raise ValueError(f"chunk grid {found['chunk_grid']['name']!r} is not supported")
        self.chunks = tuple(int(size) for size in found["chunk_grid"]["configuration"]["chunk_shape"])
        self.dtype = np.dtype(str(found["data_type"]))
        codecs = found["codecs"]
        if any(codec["name"] == "sharding_indexed" for codec in codecs):
            if len(codecs) > 1:
                raise ValueError("codecs outside shards are not supported")
            inside = codecs[0]["configuration"]
            self.outer, self.chunks = self.chunks, tuple(int(size) for size in inside["chunk_shape"])
            if any(a % b for a, b in zip(self.outer, self.chunks)):
                raise ValueError(f"the size of shards {self.outer} is not a multiple of that of chunks {self.chunks}")
            counts = tuple(a // b for a, b in zip(self.outer, self.chunks))
            packing = _packing(inside["index_codecs"], np.dtype("<u8"), (*counts, 2))
            self.index = packing, inside.get("index_location", "end") == "start"
            codecs = inside["codecs"]
        self.packing = _packing(codecs, self.dtype, self.chunks)
        keys = found.get("chunk_key_encoding") or {}
        name = keys.get("name", "default")
        separator = str((keys.get("configuration") or {}).get("separator") or ("." if name == "v2" else "/"))
        prefix = [] if name == "v2" else ["c"]
        self.place = lambda index: separator.join([*prefix, *map(str, index)])

    def read(self, region: tuple[slice, ...], dtype: np.dtype) -> np.ndarray | None:
        """The pixels of a region that starts at the border of a chunk; each chunk is read once.

        None if no chunk of the region was written and the fill value is zero.
        """
        shape = [part.stop - part.start for part in region]
        grid = [range(part.start // side, -(-part.stop // side)) for part, side in zip(region, self.chunks)]
        is_one_chunk = all(len(one) == 1 for one in grid)
        pixels: np.ndarray | None = None
        for index in itertools.product(*grid):
            chunk = self.chunk(index)
            if chunk is not None and chunk.dtype == dtype and is_one_chunk:
                return chunk[tuple(map(slice, shape))]
            if chunk is None and not self.fill:
                continue
            if pixels is None:
                pixels = np.zeros(shape, dtype)
            starts = [i * side - part.start for i, side, part in zip(index, self.chunks, region)]
            target = pixels[tuple(slice(start, start + side) for start, side in zip(starts, self.chunks))]
            found: Any = self.fill if chunk is None else chunk[tuple(map(slice, target.shape))]  # cut at the edge
            self._check_range(found, dtype)
            target[...] = found
        return pixels

    def _check_range(self, values: Any, dtype: np.dtype) -> None:
        """Raise if 64-bit integers do not fit into the narrower type of the TIFF."""
        if self.dtype.itemsize < 8 or self.dtype.kind not in "iu" or dtype.itemsize == 8:
            return
        limits = np.iinfo(dtype)
        if np.min(values) < limits.min or np.max(values) > limits.max:
            raise Unconvertible(f"values beyond {dtype.name}, which is the widest that OME-TIFF has")

    def chunk(self, index: tuple[int, ...]) -> np.ndarray | None:
        """One chunk, or None for one that was never written."""
        if self.index is not None:
            parts = [divmod(i, a // b) for i, a, b in zip(index, self.outer, self.chunks)]
            file = self.folder / self.place([outer for outer, _ in parts])
            inner = tuple(rest for _, rest in parts)
        else:
            file, inner = self.folder / self.place(index), ()
        try:
            raw = self._part(file, inner) if inner else file.read_bytes()
            return None if raw is None else self.packing.unpack(raw)
        except FileNotFoundError as error:
            # The chunk was never written, if the metadata exist. Else the folder is gone, perhaps with its mount.
            if not self.metadata.exists():
                raise Unreadable(f"{_shown(self.metadata)} is no longer there") from error
            return None
        except ValueError as error:
            raise Unconvertible(f"chunk {_shown(file, inner)} is invalid: {error}") from error
        except OSError as error:
            raise Unreadable(f"chunk {_shown(file, inner)} cannot be read: {error.strerror or error}") from error

    def _part(self, file: Path, inner: tuple[int, ...]) -> bytes | None:
        """The bytes of one chunk of a shard."""
        with self.lock:
            if file in self.shards:
                self.shards.move_to_end(file)
            else:
                self.shards[file] = self._open(file)
                if len(self.shards) > MAX_SHARDS:
                    self.shards.popitem(last=False)  # its file is closed with its last reader
            shard = self.shards[file]
        if shard is None:
            return None
        offset, length = (int(number) for number in shard.table[inner])
        if offset == length == 2**64 - 1:
            return None
        if max(offset, length) > 2**63 - 1:
            raise ValueError("the shard's index is invalid")
        raw = os.pread(shard.stream.fileno(), length, offset)
        while len(raw) < length:
            more = os.pread(shard.stream.fileno(), length - len(raw), offset + len(raw))
            if not more:
                raise ValueError(f"the shard ends after {len(raw)} of its {length} bytes")
            raw += more
        return raw

    def _open(self, file: Path) -> Shard | None:
        assert self.index is not None
        packing, first = self.index
        length = packing.dtype.itemsize * math.prod(packing.shape)
        length += sum(4 for codec in packing.codecs if codec.codec_id == "crc32c")
        try:
            stream = _Stream(file, "rb")
        except FileNotFoundError:
            if not self.metadata.exists():
                raise
            return None
        size = os.fstat(stream.fileno()).st_size
        if size < length:
            raise ValueError(f"the shard has only {size} bytes, less than its index")
        return Shard(stream, packing.unpack(os.pread(stream.fileno(), length, 0 if first else size - length)))

    def close(self) -> None:
        """Drop the cached shards."""
        with self.lock:
            self.shards.clear()


class _Stream:
    """A file that is closed with its last reader."""

    def __init__(self, file: Path, mode: str) -> None:
        self.stream = file.open(mode, buffering=0)

    def fileno(self) -> int:
        return self.stream.fileno()

    def __del__(self) -> None:
        if hasattr(self, "stream"):
            self.stream.close()


def _packing(codecs: Sequence[dict[str, Any]], dtype: np.dtype, shape: tuple[int, ...]) -> Packing:
    """The codecs of zarr format 3: transposition, then bytes, then compressors of bytes."""
    axes = tuple(range(len(shape)))
    packed = []
    in_bytes = False
    for codec in codecs:
        name, configuration = str(codec["name"]), codec.get("configuration") or {}
        if name == "transpose" and not in_bytes:
            order = configuration["order"]
            order = {"C": axes, "F": axes[::-1]}[order] if isinstance(order, str) else order
            axes = tuple(axes[int(axis)] for axis in order)
        elif name in ("bytes", "endian") and not in_bytes:
            in_bytes = True
            dtype = dtype.newbyteorder(">" if configuration.get("endian") == "big" else "<")
        elif in_bytes:
            known = {key: value for key, value in configuration.items() if name.startswith("numcodecs.")}
            packed.append(_codec(name.replace("numcodecs.", ""), known))  # a decoder needs no other settings
        else:
            raise ValueError(f"codec {name!r} is not known")
    if not in_bytes:
        raise ValueError("there is no codec that converts pixels to bytes")
    return Packing(dtype, shape, axes, tuple(packed))


def _codec(name: str, settings: dict[str, Any]) -> Any:
    try:
        return numcodecs.get_codec({**settings, "id": name})
    except Exception as error:  # numcodecs' own type, or any type for invalid settings
        raise ValueError(f"codec {name!r} is not known to numcodecs {numcodecs.__version__}") from error


def _fill_value(given: Any, dtype: np.dtype) -> Any:
    """The value of pixels in chunks that were never written, in the notations of both formats."""
    if given is None:
        return dtype.type(0)
    if isinstance(given, str) and given.startswith("0x"):
        return np.frombuffer(bytes.fromhex(given[2:]), dtype.newbyteorder(">"))[0]
    if dtype.kind == "c":
        return dtype.type(complex(*(float(part) for part in given)))
    return dtype.type(float(given) if isinstance(given, str) else given)


def load(file: Path) -> Any:
    """The content of a JSON file; None if the file does not exist."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(f"{_shown(file)} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise Unconvertible(f"{_shown(file)} is not valid JSON: {error}") from error


def attributes(folder: Path) -> dict[str, Any]:
    """A group's OME metadata (version 0.5: in ``zarr.json``; before: in ``.zattrs``)."""
    for name in ("zarr.json", ".zattrs"):
        content = load(folder / name)
        if content is None:
            continue
        try:
            found = (content.get("attributes") or {}).get("ome") or {} if name == "zarr.json" else content
            return dict(found)
        except _INVALID as error:
            raise Unconvertible(f"{_shown(folder / name)} is invalid: {_words(error)}") from error
    if folder.is_dir():
        raise Unconvertible(f"no zarr metadata is in {_shown(folder)}: neither .zattrs nor zarr.json")
    raise Unconvertible(f"{_shown(folder)} does not exist")


def _below(folder: Path, path: Any) -> Path:
    """A path from metadata, which must stay inside its folder."""
    parts = Path(str(path)).parts
    if not parts or ".." in parts or Path(str(path)).is_absolute():
        raise Unconvertible(f"the path {str(path)!r} leads out of {_shown(folder)}")
    return folder.joinpath(*parts)


def _shown(file: Path, inner: tuple[int, ...] = ()) -> str:
    """The path of a file from its ``.zarr`` on, with unprintable characters escaped."""
    parts = file.parts
    root = max((number for number, part in enumerate(parts) if part.endswith(".zarr")), default=len(parts) - 2)
    return _printable("/".join(parts[root:]) + (f" {inner}" if inner else ""))


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


def _words(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


# -- images ---------------------------------------------------------------------------------------------------------


class Image:
    """A multiscale image: its full-resolution array and its metadata."""

    def __init__(self, folder: Path, label: str) -> None:
        self.label = label
        metadata = attributes(folder)
        try:
            self._describe(folder, metadata)
        except _INVALID as error:
            raise Unconvertible(f"the metadata of {_shown(folder)} are invalid: {_words(error)}") from error
        self._check()

    def _describe(self, folder: Path, metadata: dict[str, Any]) -> None:
        multiscales = metadata.get("multiscales")
        if not multiscales or not multiscales[0].get("datasets"):
            raise Unconvertible("no multiscales metadata, so it is not an OME-Zarr image")
        scale = multiscales[0]
        if "coordinateSystems" in scale:
            raise Unconvertible("OME-Zarr with coordinate systems (0.6 and later) is not supported")
        dataset = scale["datasets"][0]
        self.level = Level(_below(folder, dataset["path"]))
        self.shape = self.level.shape
        self.name = _NOT_XML.sub("", str(scale.get("name") or ""))
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in scale.get("axes") or "tczyx"]
        names = [str(axis["name"]).upper() for axis in axes]
        self.axes = names if any(len(name) != 1 for name in names) else "".join(names)
        self.units = dict(zip(names, (axis.get("unit") for axis in axes)))
        self.scale = dict(zip(names, _scales(len(names), dataset, scale)))
        channels = (metadata.get("omero") or {}).get("channels") or []
        self.channels = [_NOT_XML.sub("", str(channel.get("label") or "")) for channel in channels]

    def _check(self) -> None:
        names = ", ".join(self.axes)
        if len(self.axes) != len(self.shape):
            raise Unconvertible(f"{len(self.axes)} axes ({names}) for {len(self.shape)} dimensions")
        if "".join(axis for axis in "TCZYX" if axis in self.axes) != self.axes:
            raise Unconvertible(f"axes {names} are not some of T, C, Z, Y, X in this order")
        if not self.axes.endswith("YX"):
            raise Unconvertible(f"axes {names} lack Y or X")
        if min(self.shape) < 1:
            raise Unconvertible(f"shape {self.shape} has no pixels")
        if self.dtype.name not in OME_TYPES:
            raise Unconvertible(f"OME-TIFF does not support pixels of type {self.level.dtype}")

    @property
    def dtype(self) -> np.dtype:
        """The pixel type in the TIFF."""
        kind = self.level.dtype
        stored: np.dtype = np.dtype(STORED_AS.get(kind.name, kind)).newbyteorder("<")
        return stored

    def ome(self) -> dict[str, Any]:
        """The content of the OME-XML, as tifffile's ``metadata`` argument."""
        found: dict[str, Any] = {"axes": self.axes}
        if self.name:
            found["Name"] = self.name
        for axis in "XYZ":
            unit = LENGTHS.get(str(self.units.get(axis)))
            if unit and 0 < self.scale.get(axis, 0) < math.inf:
                found[f"PhysicalSize{axis}"] = self.scale[axis]
                found[f"PhysicalSize{axis}Unit"] = unit
        unit = TIMES.get(str(self.units.get("T")))
        if unit and 0 < self.scale.get("T", 0) < math.inf:
            found["TimeIncrement"], found["TimeIncrementUnit"] = self.scale["T"], unit
        if self.channels:
            count = self.shape[self.axes.index("C")] if "C" in self.axes else 1
            names = [*self.channels, *[""] * count][:count]
            found["Channel"] = {"Name": [name or f"Channel {number}" for number, name in enumerate(names)]}
        return found

    def resolution(self) -> tuple[float, float] | None:
        """Pixels per centimetre in X and Y, for programs that read the tags of the TIFF and not the OME-XML."""
        metadata = self.ome()
        try:
            x, y = (1 / (metadata[f"PhysicalSize{a}"] * CENTIMETERS[metadata[f"PhysicalSize{a}Unit"]]) for a in "XY")
        except KeyError:
            return None
        return (x, y) if min(x, y) > 1e-3 and max(x, y) < 2**32 else None  # the range of TIFF's fractions

    def bands(self) -> Iterator[tuple[slice, ...]]:
        """Regions that cover every chunk exactly once, shard by shard."""
        steps = list(self.level.chunks)
        bytes_ = max(self.dtype.itemsize, self.level.dtype.itemsize) * math.prod(
            min(step, size) for step, size in zip(steps, self.shape)
        )
        for axis in (-1, -2):  # first over the width, then over the height
            fitting = max(1, min(BAND_BYTES // bytes_, -(-self.shape[axis] // steps[axis])))
            bytes_, steps[axis] = bytes_ * fitting, steps[axis] * fitting
            if steps[axis] < self.shape[axis]:
                break
        whole = [(0, size) for size in self.shape]
        outer = self.level.outer and [*self.level.outer[:-1], self.shape[-1]]
        for shard in _cut(whole, outer) if outer else [tuple(slice(*one) for one in whole)]:
            yield from _cut([(part.start, part.stop) for part in shard], steps)

    def memory(self, band: tuple[slice, ...]) -> int:
        """Bytes that the conversion of one band needs: the band, a chunk, and an encoded chunk."""
        chunk: int = self.level.dtype.itemsize * math.prod(self.level.chunks)
        pixels: int = math.prod(part.stop - part.start for part in band)
        return int(self.dtype.itemsize) * pixels + 2 * chunk


def _cut(extents: Sequence[tuple[int, int]], steps: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Boxes of at most these sizes that cover these extents."""
    ranges = [
        [slice(start, min(start + step, stop)) for start in range(first, stop, step)]
        for (first, stop), step in zip(extents, steps)
    ]
    yield from itertools.product(*ranges)


def _scales(count: int, *levels: dict[str, Any]) -> list[float]:
    """Scale of the dataset, times that of the whole image (OME-NGFF 0.4, "multiscales" metadata)."""
    product = [1.0] * count
    for level in levels:
        for transformation in level.get("coordinateTransformations") or []:
            if transformation.get("type") == "scale" and "scale" in transformation:
                if len(transformation["scale"]) != count:
                    raise ValueError(f"scale {transformation['scale']} for {count} axes")
                product = [a * float(b) for a, b in zip(product, transformation["scale"])]
    return product


def find_images(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each image in a folder of OME-Zarr: its path, and the file name of its TIFF without suffix."""
    for entry in sorted(folder.iterdir()):
        if entry.suffix != ".zarr":
            continue
        stem = re.sub(r"(\.ome)?\.zarr$", "", entry.name)
        if not entry.is_dir():
            raise Unconvertible(f"{_shown(entry)} is a file, not a folder")
        metadata = attributes(entry)
        if "plate" in metadata:
            try:
                yield from _fields(entry, stem, metadata["plate"])
            except _INVALID as error:
                raise Unconvertible(f"the metadata of {_shown(entry)} are invalid: {_words(error)}") from error
        elif "multiscales" not in metadata and "bioformats2raw.layout" in metadata:
            for series in sorted((one for one in entry.iterdir() if one.name.isdigit()), key=lambda one: int(one.name)):
                yield series, f"{stem}_{series.name}"
        else:
            yield entry, stem


def _fields(plate: Path, stem: str, metadata: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for well in metadata.get("wells") or []:
        path = _below(plate, well["path"])
        for field in (attributes(path).get("well") or {}).get("images") or []:
            name = f"{well['path'].replace('/', '')}_{field['path'].replace('/', '')}"
            yield _below(path, field["path"]), f"{stem}_{name}"


# -- TIFF -----------------------------------------------------------------------------------------------------------


def needs_bigtiff(size: int, planes: int) -> bool:
    """Whether pixels of this size, with a directory for each plane, exceed the 4 GiB of 32-bit offsets."""
    return size + planes * 512 + (1 << 20) >= 1 << 32


class Target:
    """An OME-TIFF that is created empty and filled in any order; it gets its name when it is complete."""

    def __init__(self, image: Image, path: Path) -> None:
        self.image, self.path = image, path
        self.part = path.with_name(path.name + ".part")
        self.left = 1  #: open bands, and one more until all bands are submitted
        self.lock = threading.Lock()
        self.descriptor = -1
        itemsize = image.dtype.itemsize
        size = itemsize * math.prod(image.shape)
        try:
            self.offset = self._lay_out(needs_bigtiff(size, math.prod(image.shape[:-2])))
            if self.offset + size > self.part.stat().st_size:
                raise Unconvertible("the pixels of the TIFF are not one block")
            self.descriptor = os.open(self.part, os.O_WRONLY)
        except BaseException:
            self.discard()
            raise
        self.strides = [itemsize * math.prod(image.shape[axis + 1 :]) for axis in range(len(image.shape))]

    def _lay_out(self, bigtiff: bool) -> int:
        """Write everything except the pixels; returns their offset."""
        options: dict[str, Any] = {}
        resolution = self.image.resolution()
        with tifffile.TiffWriter(str(self.part), ome=True, bigtiff=bigtiff, byteorder="<") as tiff:
            if resolution is not None and hasattr(tiff, "write"):
                options = {"resolution": resolution, "resolutionunit": "CENTIMETER"}
            write = tiff.write if hasattr(tiff, "write") else tiff.save  # tifffile 2020 and before
            offset, _ = write(
                shape=self.image.shape,
                dtype=self.image.dtype,
                photometric="minisblack",
                metadata=self.image.ome(),
                returnoffset=True,
                **options,
            )
        return int(offset)

    def copy(self, region: tuple[slice, ...]) -> None:
        """Read a band and write it at its position; with the full width, the rows of a plane are contiguous."""
        band = self.image.level.read(region, self.image.dtype)
        if band is None:
            return  # the file was created with zeros
        whole_rows = band.shape[-1] == self.image.shape[-1]
        for index in np.ndindex(band.shape[:-2] if whole_rows else band.shape[:-1]):
            start = [part.start + (index[axis] if axis < len(index) else 0) for axis, part in enumerate(region)]
            place = self.offset + sum(i * stride for i, stride in zip(start, self.strides))
            # A single row or column of a chunk has gaps between its pixels, so a copy may be needed.
            rows = np.ascontiguousarray(band[index]).reshape(-1).view(np.uint8).data
            while rows:
                written = os.pwrite(self.descriptor, rows, place)
                rows, place = rows[written:], place + written

    def add(self, count: int) -> bool:
        """Count submitted bands, or finished ones (negative); True after the last one."""
        with self.lock:
            self.left += count
            return self.left == 0

    def publish(self) -> None:
        """Close the file and rename it to its final name."""
        self._close()
        self.part.replace(self.path)
        shape = "x".join(map(str, self.image.shape))
        print(f"{_printable(self.path.name)}: {self.image.axes} {shape} {self.image.dtype.name}", flush=True)

    def discard(self) -> None:
        """Remove the incomplete file."""
        self._close()
        with suppress(FileNotFoundError):
            self.part.unlink()

    def _close(self) -> None:
        self.image.level.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


# -- the program ----------------------------------------------------------------------------------------------------


class Progress:
    """Writes the percentage of converted pixels, at most three times a second."""

    def __init__(self, file: Path | None, total: int) -> None:
        self.file, self.total, self.done, self.shown, self.at = file, max(total, 1), 0, -1, 0.0
        self.lock = threading.Lock()

    def step(self, pixels: int) -> None:
        """Count converted pixels."""
        with self.lock:
            self.done += pixels
            percent, now = 100 * self.done // self.total, time.monotonic()
            if self.file is None or percent == self.shown or (percent < 100 and now < self.at + 0.3):
                return
            self.shown, self.at = percent, now
            part = self.file.with_name(self.file.name + ".part")
            part.write_text(f"{percent}\n")
            part.replace(self.file)


class Conversion:
    """Converts all images of a run, band by band, in a pool of threads and within a memory limit."""

    def __init__(self, jobs: int, progress: Progress) -> None:
        self.jobs, self.progress = max(jobs, 1), progress
        self.running: dict[Future[None], int] = {}
        self.targets: set[Target] = set()

    def run(self, images: Sequence[Image], folder: Path) -> None:
        """Convert the images; after an error, incomplete files are removed."""
        try:
            with ThreadPoolExecutor(self.jobs) as pool:
                try:
                    for image in images:
                        self._submit(pool, image, folder)
                    self._wait(0, 0)
                except BaseException:
                    for future in self.running:
                        future.cancel()
                    raise
        finally:
            for target in self.targets:
                target.discard()

    def _submit(self, pool: ThreadPoolExecutor, image: Image, folder: Path) -> None:
        with _naming(image.label):
            target = Target(image, folder / f"{image.label}.tif")
            self.targets.add(target)
        for band in image.bands():
            memory = image.memory(band)
            self._wait(self.jobs, MEMORY_BYTES - memory)
            target.add(1)
            self.running[pool.submit(self._band, target, band)] = memory
        if target.add(-1):
            self._finish(target)

    def _band(self, target: Target, band: tuple[slice, ...]) -> None:
        with _naming(target.image.label):
            target.copy(band)
            self.progress.step(math.prod(part.stop - part.start for part in band))
            if target.add(-1):
                self._finish(target)

    def _finish(self, target: Target) -> None:
        target.publish()
        self.targets.discard(target)

    def _wait(self, many: int, memory: int) -> None:
        """Wait until at most ``many`` bands are in progress, with at most ``memory`` bytes."""
        while self.running and (len(self.running) > many or sum(self.running.values()) > memory):
            done, _ = wait(self.running, return_when=FIRST_COMPLETED)
            for future in done:
                del self.running[future]
            for future in done:
                future.result()


@contextmanager
def _naming(label: str) -> Iterator[None]:
    """Add the name of the image to errors."""
    name = _printable(label)
    try:
        yield
    except Unconvertible as error:
        raise type(error)(f"{name}: {error}") from error
    except OSError as error:
        raise Unreadable(f"{name}: {error}") from error
    except MemoryError as error:
        raise Unconvertible(f"{name}: its chunks do not fit into memory") from error


def convert(source: Path, target: Path, jobs: int, progress: Path | None) -> int:
    """Convert all images of a folder; returns their number."""
    target.mkdir(parents=True, exist_ok=True)
    images: dict[str, Image] = {}
    for folder, label in find_images(source):
        with _naming(label):
            if label in images:
                raise Unconvertible("two images would have this name")
            images[label] = Image(folder, label)
    if not images:
        raise Unconvertible(f"{source} contains no OME-Zarr")
    reported = Progress(progress, sum(math.prod(image.shape) for image in images.values()))
    Conversion(jobs, reported).run(list(images.values()), target)
    return len(images)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = argparse.ArgumentParser(description="Turn every OME-Zarr of a folder into OME-TIFF.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--progress", type=Path)
    given = parser.parse_args(argv)
    try:
        convert(given.source, given.target, given.jobs, given.progress)
    except Unconvertible as error:
        print(error, file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return IO_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
