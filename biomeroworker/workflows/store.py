"""Find descriptors in a file, in a folder or on the web, and cache those from the web.

Opening a dialog must never need the network. A fetched descriptor is cached on disk and used while it is fresh. A stale
one is used if the network does not answer, or must not be used.

An address may contain a password or a token. It is masked in messages, which users of the dialog read, and in the event
log, which stores the origin of descriptors.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from biomeroworker.domain.redaction import mask_credentials
from biomeroworker.errors import ConfigError
from biomeroworker.workflows.descriptor import Workflow
from biomeroworker.workflows.readers import DescriptorFault, read

#: File names of a descriptor in a repository, in the order in which they are tried.
NAMES = ("descriptor.json", "descriptor.yaml", "descriptor.yml", "config.yaml", "config.yml")
_SUFFIXES = (".json", ".yaml", ".yml")
_LARGEST_BYTES = 4 << 20
_COMMIT = re.compile(r"/(?:tree|blob|raw)/[0-9a-f]{40}(?:/|$)")

FRESH_SECONDS = 24 * 3600.0
TIMEOUT_SECONDS = 10.0


class Network(enum.Enum):
    """Whether descriptors may be fetched from the web."""

    NEVER = "never"  #: use the cache, even if it is stale
    IF_STALE = "if stale"  #: fetch if the cache is stale
    ALWAYS = "always"  #: fetch; the cache is the fallback


@dataclass(frozen=True)
class Found:
    """A descriptor's text and its origin."""

    text: str
    origin: str
    fetched: float | None = None  #: seconds since the epoch; None for a local file


class DescriptorStore:
    """Descriptors by location: a path, or an address (a GitHub or GitLab repository, or any file on the web)."""

    def __init__(self, cache: Path, *, timeout: float = TIMEOUT_SECONDS, fresh: float = FRESH_SECONDS) -> None:
        self._cache = cache
        self._timeout = timeout
        self._fresh = fresh

    def load(self, location: str, network: Network = Network.IF_STALE) -> Workflow:
        """The workflow at a location.

        Raises
        ------
        ConfigError
            There is no descriptor, or it is invalid: names the file and the field.
        """
        found = self.find(location, network)
        return parse(found.text, found.origin)

    def find(self, location: str, network: Network = Network.IF_STALE) -> Found:
        """The text of the descriptor at a location; raises ConfigError if there is none."""
        return self._from_web(location, network) if is_address(location) else _from_disk(location)

    def _from_web(self, location: str, network: Network) -> Found:
        cached = self._cached(location)
        is_fresh = (
            cached is not None and cached.fetched is not None and _is_fresh(cached.fetched, location, self._fresh)
        )
        if cached is not None and (network is Network.NEVER or (network is Network.IF_STALE and is_fresh)):
            return cached
        if network is Network.NEVER:
            raise ConfigError(f"{mask_credentials(location)}: is not in the cache, and must not be fetched now")
        try:
            fetched = self._fetch(location)
        except ConfigError:
            if cached is not None:
                return cached
            raise
        self._write_cache(location, fetched)
        return fetched

    def _fetch(self, location: str) -> Found:
        import requests  # here and below: slow to import, and dialogs fetch nothing

        tried = []
        try:
            addresses = list(candidates(location))
        except ValueError as error:
            raise ConfigError(f"{mask_credentials(location)} is not a web address: {error}") from error
        for address in addresses:
            shown = mask_credentials(address)
            try:
                text = self._get(address)
                read(content_of(text, shown))  # a web page with status 200 is not a descriptor
                return Found(text, shown, time.time())
            except requests.HTTPError as error:
                tried.append(f"{shown}: {error.response.status_code}")
            except requests.RequestException as error:
                # The host does not answer: other file names need not be tried.
                raise ConfigError(f"{shown}: cannot be fetched ({type(error).__name__})") from None
            except DescriptorFault as error:
                raise ConfigError(f"{shown}: {error}") from error
        raise ConfigError(f"{mask_credentials(location)}: no descriptor there; tried {'; '.join(tried)}")

    def _get(self, address: str) -> str:
        import requests

        deadline = time.monotonic() + 3 * self._timeout
        with requests.get(address, timeout=self._timeout, stream=True) as answer:
            answer.raise_for_status()
            body = bytearray()
            for piece in answer.iter_content(65536):
                body += piece
                if len(body) > _LARGEST_BYTES or time.monotonic() > deadline:
                    raise requests.Timeout(f"{address} is too large or too slow")
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{mask_credentials(address)}: is not text") from error

    def _file(self, location: str) -> Path:
        return self._cache / f"{hashlib.sha256(location.encode()).hexdigest()[:32]}.json"

    def _cached(self, location: str) -> Found | None:
        try:
            facts = json.loads(self._file(location).read_text())
            return Found(facts["text"], mask_credentials(facts["origin"]), float(facts["fetched"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write_cache(self, location: str, found: Found) -> None:
        """Write the cache atomically; an error is ignored."""
        with contextlib.suppress(OSError):
            self._cache.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._cache, prefix=".part-")
            with os.fdopen(descriptor, "w") as stream:
                json.dump({"location": mask_credentials(location), **vars(found)}, stream)
            Path(name).replace(self._file(location))


def _is_fresh(fetched: float, location: str, seconds: float) -> bool:
    """A location with a commit never changes. A time in the future, after the clock was set back, is not fresh."""
    return bool(_COMMIT.search(location)) or 0 <= time.time() - fetched < seconds


def is_address(location: str) -> bool:
    """Whether a location is on the web."""
    return location.lower().startswith(("http://", "https://"))


def candidates(location: str) -> Iterator[str]:
    """Addresses at which a location's descriptor may be, most likely first. Pure.

    In ``/tree/REF/PATH`` the end of the reference is not known, because references may contain slashes. Raw addresses
    of the forge have the same form, so reference and path are passed on together.
    """
    parts = urlsplit(location)
    host, path = parts.netloc, parts.path.strip("/").removesuffix(".git")
    base = f"{parts.scheme}://{host}"
    words = path.split("/")
    if host in {"github.com", "www.github.com"} and len(words) >= 2:
        yield from _in_forge(f"{base}/{words[0]}/{words[1]}/raw", words[2:])
    elif "-" in words[2:] or host.split(".")[0] == "gitlab" or host == "gitlab.com":
        end = words.index("-") if "-" in words else len(words)
        yield from _in_forge(f"{base}/{'/'.join(words[:end])}/-/raw", words[end + 1 :])
    elif path.endswith(_SUFFIXES):
        yield location
    else:
        yield from (f"{base}/{path}/{name}".replace("//" + name, "/" + name) for name in NAMES)


def _in_forge(raw: str, rest: list[str]) -> Iterator[str]:
    """``rest`` is what follows the repository: nothing, or ``tree|blob|raw`` and a reference and perhaps a path."""
    if len(rest) < 2 or rest[0] not in {"tree", "blob", "raw"}:
        yield from (f"{raw}/HEAD/{name}" for name in NAMES)
        return
    tail = "/".join(rest[1:])
    if tail.endswith(_SUFFIXES):
        yield f"{raw}/{tail}"  # the forge separates reference and path
    else:
        yield from (f"{raw}/{tail}/{name}" for name in NAMES)


def parse(text: str, origin: str) -> Workflow:
    """A workflow from a descriptor's text; raises ConfigError that names the origin and the field."""
    try:
        return read(content_of(text, origin), origin)
    except DescriptorFault as error:
        raise ConfigError(f"{origin}: {error}") from error


def content_of(text: str, origin: str) -> Any:
    """The content of a descriptor: JSON or YAML, by the name of its file; raises `DescriptorFault` if it is neither."""
    text = text.removeprefix("\ufeff")  # a byte order mark, which some editors write
    try:
        if origin.endswith(".json"):
            return json.loads(text)
        import yaml  # slow to import, and most descriptors are JSON

        return yaml.safe_load(text)
    except Exception as error:  # errors of YAML, and of Python for invalid dates, numbers or nesting
        kind = "JSON" if origin.endswith(".json") else "YAML"
        raise DescriptorFault("", f"is not valid {kind}: {' '.join(str(error).split())}") from error


def _from_disk(location: str) -> Found:
    try:
        path = Path(location).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{location}: {error}") from error
    tried = [path / name for name in NAMES] if path.is_dir() else [path]
    for file in tried:
        try:
            return Found(file.read_text(encoding="utf-8"), str(file))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: cannot be read ({error})") from error
    address = _web_address(location)
    raise ConfigError(
        f"{path}: no descriptor there; "
        + (f"did you mean {address}?" if address else f"looked for {', '.join(map(str, tried))}")
    )


def _web_address(location: str) -> str:
    """The web address for ``git@host:org/name`` or ``github.com/org/name``; empty for other text."""
    found = re.match(r"(?:ssh://)?(?:git@)?([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[a-z]{2,})[:/]+(.+)", location)
    return f"https://{found[1]}/{found[2].removesuffix('.git')}" if found else ""


__all__ = ["DescriptorStore", "Found", "Network", "candidates", "content_of", "is_address", "parse"]
