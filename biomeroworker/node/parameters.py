"""A cache of the parameters of scripts, so that a dialog opens without delay.

An entry is valid for one script text, user, group and state of the configuration (see `cache_key`). A script can make
its parameters from other data, too, such as the user's datasets. Therefore each answer from the cache starts a parse in
the background: the next opening of the dialog shows the change, and an entry older than `MAX_AGE_SECONDS` is parsed
before it is shown. For a script with the namespace `LIVE_CHOICES`, this age is `LIVE_AGE_SECONDS`. Failures are not
cached.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from omero.constants.namespaces import NSDYNAMIC

from biomeroworker import __version__
from biomeroworker.config import Settings
from biomeroworker.domain.constants import LIVE_CHOICES

log = logging.getLogger(__name__)

#: Maximum age of an entry that is shown without a parse.
MAX_AGE_SECONDS = 4 * 3600.0
#: The same for a script with the namespace `LIVE_CHOICES`: long enough from the opening of a dialog to its start.
LIVE_AGE_SECONDS = 30.0
#: Maximum number of entries, in memory and in files.
ENTRIES = 500
#: Delay between an answer and the parse in the background, so that it does not slow down the dialog and its script.
REFRESH_DELAY_SECONDS = 1.0


#: The author that scripts of this product name.
OWN_AUTHOR = "biomeroworker"


class Files(Protocol):
    """Storage of entries that survives a restart."""

    def read(self, key: str) -> tuple[float, Any] | None:
        """The time of storage (seconds since 1970) and the parameters; None if there is no entry."""

    def write(self, key: str, stored: float, params: Any) -> None:
        """Store parameters."""

    def remove(self, key: str) -> None:
        """Remove an entry."""


def cache_key(script_hash: str, user: int, group: int, launcher: str, config_state: str) -> str:
    """The key of an entry: a digest of everything that it depends on."""
    parts = [__version__, script_hash, user, group, launcher, config_state]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def config_state(files_digest: str, environment: dict[str, str], settings: Settings) -> str:
    """A digest of the data that dialogs of workflows are made from: ini files, environment, cached descriptors."""
    digest = hashlib.sha256(files_digest.encode())
    digest.update(json.dumps(sorted(environment.items())).encode())
    for file in sorted(_files_below(settings.worker.work_folder / "descriptors")):
        try:
            found = file.stat()
        except OSError:
            continue
        digest.update(f"{file}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _max_age(params: Any) -> float:
    return LIVE_AGE_SECONDS if LIVE_CHOICES in (params.namespaces or ()) else MAX_AGE_SECONDS


def _files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.suffix != ".lock"] if folder.is_dir() else []


def has_live_choices(params: Any) -> bool:
    """Whether a script of another program lists choices that may change at any time, such as jobs and data.

    Such scripts start each other, with a job that has ended a moment ago. OMERO refuses a value that is not among the
    choices, so these are never taken from the cache.
    """
    if NSDYNAMIC not in (params.namespaces or ()) or OWN_AUTHOR in (params.authors or ()):
        return False
    return any(param.values is not None for param in (params.inputs or {}).values())


class Answer(NamedTuple):
    """The parameters of a script; None if its parse failed."""

    params: Any
    source: Literal["cache", "parsed", "shared"]  #: ``shared``: parsed by a concurrent call


class ParameterCache:
    """Parameters by key. Concurrent calls for a key that is not cached share one parse."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._parsing: dict[str, Future[Any]] = {}
        self._refreshes: OrderedDict[str, tuple[float, Callable[[], Any]]] = OrderedDict()
        self._wake = threading.Condition(self._lock)
        self._worker: threading.Thread | None = None

    def get(self, key: str, parse: Callable[[], Any]) -> Answer:
        """The parameters from the cache, or from ``parse``.

        Parameters
        ----------
        parse
            Returns the parameters, or None if the script does not name any. An exception is raised in all calls that
            wait for this parse.
        """
        with self._lock:
            entry = self._valid(key)
            if entry is not None and not has_live_choices(entry):
                return Answer(entry, "cache")
            running = self._parsing.get(key)
            if running is None:
                mine: Future[Any] = Future()
                self._parsing[key] = mine
        if running is not None:
            return Answer(running.result(), "shared")
        try:
            params = parse()
        except BaseException as error:
            with self._lock:
                del self._parsing[key]
            mine.set_exception(error)
            raise
        self._store(key, params)
        with self._lock:
            del self._parsing[key]
        mine.set_result(params)
        return Answer(params, "parsed")

    def refresh_later(self, key: str, parse: Callable[[], Any]) -> None:
        """Parse in the background. If that fails, the entry is removed, and the next call parses again."""
        with self._lock:
            self._refreshes.setdefault(key, (time.monotonic() + REFRESH_DELAY_SECONDS, parse))
            if self._worker is None:
                self._worker = threading.Thread(target=self._refresh, name="parameters", daemon=True)
                self._worker.start()
            self._wake.notify()

    def _refresh(self) -> None:
        while True:
            with self._lock:
                while not self._refreshes:
                    self._wake.wait()
                key, (due, _) = next(iter(self._refreshes.items()))
                if (seconds := due - time.monotonic()) > 0:
                    self._wake.wait(seconds)
                    continue
                _, parse = self._refreshes.pop(key)
            try:
                params = parse()
            except Exception as error:
                log.warning("parsing parameters in the background failed: %s", error)
                params = None
            self._store(key, params)

    def _valid(self, key: str) -> Any:
        entry = self._entries.get(key)
        if entry is None and (entry := self._files.read(key)) is not None:
            self._entries[key] = entry
        if entry is None or not 0 <= time.time() - entry[0] <= _max_age(entry[1]):
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def _store(self, key: str, params: Any) -> None:
        with self._lock:
            if params is None:
                self._entries.pop(key, None)
                self._files.remove(key)
                return
            now = time.time()
            self._entries[key] = now, params
            self._entries.move_to_end(key)
            while len(self._entries) > ENTRIES:
                self._entries.popitem(last=False)
            self._files.write(key, now, params)
