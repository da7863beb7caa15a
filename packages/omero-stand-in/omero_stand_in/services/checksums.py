"""The checksum algorithms that an OriginalFile may name, in hexadecimal; short ones are little-endian words."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

_BLOCK = 1 << 20
_M64 = (1 << 64) - 1
_M32 = (1 << 32) - 1


def checksum(algorithm: str, path: Path) -> str:
    """The checksum of a file's content; raises KeyError for an algorithm that is not known."""
    return _ALGORITHMS[algorithm](path)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _digest(name: str) -> Callable[[Path], str]:
    def compute(path: Path) -> str:
        digest = hashlib.new(name, usedforsecurity=False)
        for block in _blocks(path):
            digest.update(block)
        return digest.hexdigest()

    return compute


def _adler(path: Path) -> str:
    value = 1
    for block in _blocks(path):
        value = zlib.adler32(block, value)
    return value.to_bytes(4, "little").hex()


def _crc(path: Path) -> str:
    value = 0
    for block in _blocks(path):
        value = zlib.crc32(block, value)
    return value.to_bytes(4, "little").hex()


def _size(path: Path) -> str:
    return path.stat().st_size.to_bytes(8, "little").hex()


def _left(value: int, by: int, bits: int) -> int:
    mask = (1 << bits) - 1
    return ((value << by) | (value >> (bits - by))) & mask


def _murmur32(path: Path) -> str:
    """MurmurHash3 x86 32-bit, seed 0 (A. Appleby's reference)."""
    data, value = path.read_bytes(), 0
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * 0xCC9E2D51 & _M32
        value ^= _left(word, 15, 32) * 0x1B873593 & _M32
        value = (_left(value, 13, 32) * 5 + 0xE6546B64) & _M32
    if tail := data[whole:]:
        word = int.from_bytes(tail, "little") * 0xCC9E2D51 & _M32
        value ^= _left(word, 15, 32) * 0x1B873593 & _M32
    value ^= len(data)
    value = (value ^ value >> 16) * 0x85EBCA6B & _M32
    value = (value ^ value >> 13) * 0xC2B2AE35 & _M32
    return (value ^ value >> 16).to_bytes(4, "little").hex()


def _mix64(value: int) -> int:
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & _M64
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _M64
    return value ^ value >> 33


def _murmur128(path: Path) -> str:
    """MurmurHash3 x64 128-bit, seed 0 (A. Appleby's reference)."""
    first_factor, second_factor = 0x87C37B91114253D5, 0x4CF5AD432745937F
    data, one, two = path.read_bytes(), 0, 0
    whole = len(data) // 16 * 16
    for start in range(0, whole, 16):
        low = int.from_bytes(data[start : start + 8], "little")
        high = int.from_bytes(data[start + 8 : start + 16], "little")
        one ^= _left(low * first_factor & _M64, 31, 64) * second_factor & _M64
        one = ((_left(one, 27, 64) + two) * 5 + 0x52DCE729) & _M64
        two ^= _left(high * second_factor & _M64, 33, 64) * first_factor & _M64
        two = ((_left(two, 31, 64) + one) * 5 + 0x38495AB5) & _M64
    tail = data[whole:]
    if len(tail) > 8:
        two ^= _left(int.from_bytes(tail[8:], "little") * second_factor & _M64, 33, 64) * first_factor & _M64
    if tail:
        one ^= _left(int.from_bytes(tail[:8], "little") * first_factor & _M64, 31, 64) * second_factor & _M64
    one, two = one ^ len(data), two ^ len(data)
    one = (one + two) & _M64
    two = (two + one) & _M64
    one, two = _mix64(one), _mix64(two)
    one = (one + two) & _M64
    two = (two + one) & _M64
    return (one.to_bytes(8, "little") + two.to_bytes(8, "little")).hex()


_ALGORITHMS: dict[str, Callable[[Path], str]] = {
    "Adler-32": _adler,
    "CRC-32": _crc,
    "File-Size-64": _size,
    "MD5-128": _digest("md5"),
    "Murmur3-128": _murmur128,
    "Murmur3-32": _murmur32,
    "SHA1-160": _digest("sha1"),
}
