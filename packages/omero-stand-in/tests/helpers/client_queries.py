"""The HQL queries in the sources of installed OMERO clients, as literal strings."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

#: Packages whose sources are searched, as far as they are installed.
CLIENTS = ("omero.gateway", "omero.plugins", "omero.util", "ezomero", "omero_metadata", "omero_zarr")
#: Pieces that the clients complete in another statement.
FRAGMENT = re.compile(r"(?i)\s*select\s(?:(?!\bfrom\b).)*$|.*=\s*'?\s*$|.*,\s*$", re.DOTALL)
QUERY = re.compile(r"\s*(select\s+(?!.*\bINTO\b)|from\s+[A-Z]\w+\s)", re.IGNORECASE)
#: What stands for the names that clients put into their queries, by what comes before.
CLASS_PLACES = re.compile(r"(?i)((?:from|join)\s+)%s")


def filled(text: str) -> str:
    """A query with its ``%s`` and ``{}`` taken by something that may stand there."""
    text = re.sub(r"%s(?=\s*(?:join|group|order|where)\b)", "", text)
    text = re.sub(r"%[sd](?=\w*Link\b)", "Image", text)
    text = re.sub(r"%[sd](?=Annotation\b)", "Tag", text)
    text = CLASS_PLACES.sub(r"\1Image", text)
    text = re.sub(r"'%[sd]'", "'x'", text)
    text = re.sub(r"%\(\w+\)[sdi]|%[sdi]|\{\w*\}", "1", text)
    return text.replace("%%", "%")


def _texts(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_text())
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and QUERY.match(node.value):
            if FRAGMENT.match(node.value):
                continue
            yield node.value


def client_queries() -> list[tuple[str, str]]:
    """(where, query) of every literal that begins as a query does."""
    found = {}
    for name in CLIENTS:
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        for folder in spec.submodule_search_locations or []:
            for path in sorted(Path(folder).rglob("*.py")):
                for text in _texts(path):
                    found.setdefault(filled(text), f"{name}/{path.name}")
    return [(where, text) for text, where in found.items()]
