"""Parameters of scripts from a cache, so that a dialog opens at once.

An entry is valid for one script text, user, group and state of the configuration (see `cache_key`). Scripts may build
their parameters from anything else too, such as the user's datasets. So each answer from the cache starts a parse in
the background: what has changed is seen at the next opening at the latest, and an entry that was not used for
`MAX_AGE_SECONDS` is parsed before it is shown. Failures are not cached.
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

from biomeroworker import __version__
from biomeroworker.config import Settings

log = logging.getLogger(__name__)

#: An older entry is not shown: the first dialog of a day is parsed.
MAX_AGE_SECONDS = 4 * 3600.0
#: How many entries are kept.
ENTRIES = 500
#: Seconds between an answer and the parse in the background: a dialog, and the start of its script, go first.
REFRESH_DELAY_SECONDS = 1.0


class Files(Protocol):
    """Where entries survive a restart."""

    def read(self, key: str) -> tuple[float, Any] | None:
        """When the parameters were stored, and they."""

    def write(self, key: str, stored: float, params: Any) -> None:
        """Store parameters."""

    def remove(self, key: str) -> None:
        """Remove an entry."""


def cache_key(script_hash: str, user: int, group: int, launcher: str, config_state: str) -> str:
    """What an entry is valid for."""
    parts = [__version__, script_hash, user, group, launcher, config_state]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def config_state(files_digest: str, environment: dict[str, str], settings: Settings) -> str:
    """The state of what dialogs of workflows are made of: ini files, environment, and the kept descriptors."""
    digest = hashlib.sha256(files_digest.encode())
    digest.update(json.dumps(sorted(environment.items())).encode())
    for file in sorted(_files_below(settings.worker.work_folder / "descriptors")):
        try:
            found = file.stat()
        except OSError:
            continue
        digest.update(f"{file}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.suffix != ".lock"] if folder.is_dir() else []


class Answer(NamedTuple):
    """Parameters of a script; None if it fails to name them."""

    params: Any
    source: Literal["cache", "parsed", "shared"]  #: ``shared``: another call parsed them at the same time


class ParameterCache:
    """Answers by key; concurrent first questions for a key share one parse."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._parsing: dict[str, Future[Any]] = {}
        self._refreshes: OrderedDict[str, tuple[float, Callable[[], Any]]] = OrderedDict()
        self._wake = threading.Condition(self._lock)
        self._worker: threading.Thread | None = None

    def get(self, key: str, parse: Callable[[], Any]) -> Answer:
        """The parameters, from the cache or else parsed.

        Parameters
        ----------
        parse
            Returns the parameters, or None for a script that fails to name them; what it raises reaches all callers
            that wait for it.
        """
        with self._lock:
            entry = self._valid(key)
            if entry is not None:
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
        """Parse in the background; if that fails, the next question parses again."""
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
                log.warning("parameters could not be parsed in the background: %s", error)
                params = None
            self._store(key, params)

    def _valid(self, key: str) -> Any:
        entry = self._entries.get(key)
        if entry is None and (entry := self._files.read(key)) is not None:
            self._entries[key] = entry
        if entry is None or not 0 <= time.time() - entry[0] <= MAX_AGE_SECONDS:
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
