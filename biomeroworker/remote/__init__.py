"""The programs that run on the cluster: standard library (and numpy), Python 3.6 or later.

They are copied or sent there as text, so they import nothing of this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources


def read(name: str) -> str:
    """The text of one of these programs."""
    return resources.files(__name__).joinpath(name).read_text("utf-8")


def shell_function(name: str) -> str:
    """The text of one function of ``job.sh``, for other job scripts."""
    text = read("job.sh")
    start = text.index(f"\n{name}() {{\n") + 1
    return text[start : text.index("\n}\n", start) + 2]


def encode_words(words: Iterable[str]) -> bytes:
    """The content of a file that the function ``read_words`` of ``job.sh`` reads: each word ends with NUL."""
    return b"".join(word.encode() + b"\0" for word in words)
