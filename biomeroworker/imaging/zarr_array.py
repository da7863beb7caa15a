"""Read arrays of Zarr (formats 2 and 3) that other programs wrote, with zarr-python.

Two things are done that zarr-python does not do:

* It refuses metadata that lack a field which has only one sensible value. Such metadata are completed.
* It decodes Blosc without comparing the length in the header with the number of bytes. A chunk that was cut off gives
  wrong pixels, or reads memory beyond its end. Here it is an error.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec, ShardingCodec
from zarr.storage import LocalStore, StorePath

ARRAY_METADATA = ("zarr.json", ".zarray")
_FIELDS_OF_FORMAT_3 = frozenset(
    ("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs")
)


def open_array(folder: Path) -> zarr.Array[Any]:
    """Open an array for reading.

    Raises
    ------
    ValueError
        There is no array, or its metadata are wrong.
    OSError
        The metadata cannot be read.
    """
    found = {name: content for name in ARRAY_METADATA if (content := read_json(folder / name)) is not None}
    if not found:
        raise ValueError(f"no Zarr array in {folder.name}: neither .zarray nor zarr.json")
    name, content = next(iter(found.items()))
    try:
        metadata = _format_3(content) if name == "zarr.json" else _format_2(content)
        store = StorePath(LocalStore(folder, read_only=True))
        return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=store))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{folder.name}/{name} is wrong: {error!r}") from error


def read_pixels(array: zarr.Array[Any], folder: Path) -> np.ndarray[Any, Any]:
    """Read a whole array, in the byte order of this machine.

    Raises
    ------
    ValueError
        A chunk is broken.
    OSError
        Reading failed, or the folder is not there any more.
    """
    try:
        values = np.asarray(array[...])
    except MemoryError:
        raise
    except Exception as error:  # each codec raises exceptions of its own; some are an OSError without a number
        _check_present(folder)
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"a chunk is broken: {error}") from error
    _check_present(folder)
    if array.shards is not None and any(file.stat().st_size == 0 for file in folder.rglob("*")):
        raise ValueError("a chunk is broken: the file of a shard is empty")  # zarr-python takes it for missing
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _check_present(folder: Path) -> None:
    """Raise OSError if the array is not there any more: zarr-python gives the fill value for a missing chunk."""
    if not any((folder / name).exists() for name in ARRAY_METADATA):
        raise OSError(f"{folder} is not there any more")


def read_json(file: Path) -> Any:
    """The content of a JSON file; None if there is no file. Raises ValueError if it is not JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file.name} is not JSON: {error}") from error


def _format_2(found: dict[str, Any]) -> dict[str, Any]:
    """Complete metadata (https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html)."""
    filters = [_numcodec(codec) for codec in found.get("filters") or []]
    compressor = found.get("compressor")
    return {
        "fill_value": None,
        **found,
        "zarr_format": 2,
        "order": "F" if found.get("order") == "F" else "C",
        "dtype": np.dtype(found["dtype"]).str,
        "filters": filters or None,
        "compressor": _numcodec(compressor) if compressor else None,
    }


def _numcodec(configuration: dict[str, Any]) -> Any:
    if configuration["id"] == "blosc":
        return _Blosc()  # the header of each chunk has all that decoding needs
    if configuration["id"] == "pickle":
        raise ValueError("pickled chunks would execute code")
    return numcodecs.get_codec(configuration)


def _format_3(found: dict[str, Any]) -> dict[str, Any]:
    """Complete metadata (https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html)."""
    known = {key: value for key, value in found.items() if key in _FIELDS_OF_FORMAT_3}
    if known.get("fill_value") is None:
        known["fill_value"] = 0
    axes = list(range(len(found["shape"])))
    codecs = [_codec(codec, axes) for codec in found["codecs"]]
    return {"chunk_key_encoding": {"name": "default"}, "attributes": {}, **known, "zarr_format": 3, "codecs": codecs}


def _codec(found: dict[str, Any], axes: list[int]) -> Any:
    name, configuration = found["name"], dict(found.get("configuration") or {})
    if name == "endian":  # drafts of the specification
        name = "bytes"
    if name == "transpose" and isinstance(configuration.get("order"), str):  # likewise
        configuration["order"] = {"C": axes, "F": axes[::-1]}[configuration["order"]]
    if name == "blosc":
        return _BloscCodec()
    if name == "sharding_indexed":
        for key in ("codecs", "index_codecs"):
            configuration[key] = [_codec(codec, axes) for codec in configuration[key]]
        return ShardingCodec.from_dict({"name": name, "configuration": configuration})
    return {"name": name, "configuration": configuration} if configuration else {"name": name}


def _check_blosc(data: Any) -> None:
    """Compare the length in Blosc's header (bytes 12 to 15, little-endian) with the length of the data."""
    header = bytes(data[:16])
    if len(header) < 16 or struct.unpack_from("<I", header, 12)[0] != len(data):
        raise ValueError(f"{len(data)} bytes do not match the length in the header of Blosc")


class _Blosc(numcodecs.Blosc):  # type: ignore[misc]
    def decode(self, buf: Any, out: Any = None) -> Any:
        _check_blosc(memoryview(buf).cast("B"))
        return super().decode(buf, out)


class _BloscCodec(BloscCodec):  # type: ignore[misc]
    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        _check_blosc(chunk_bytes.as_numpy_array())
        return await super()._decode_single(chunk_bytes, chunk_spec)
