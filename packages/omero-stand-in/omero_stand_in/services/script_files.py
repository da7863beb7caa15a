"""Where the texts of scripts are: official ones in a folder, users' ones among the server's files.

The folder defines the official scripts: a file that is added, changed or removed there is an official script, a new
version of it, or none any more, at the next call that lists scripts.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from omero_stand_in import errors
from omero_stand_in.context import Call, ServerContext, context_of

if TYPE_CHECKING:
    from omero_stand_in.graph import Entity

PYTHON = "text/x-python"
#: Mimetypes of what the folder may hold, by ending.
MIMETYPES = {".py": PYTHON, ".m": "text/x-matlab", ".lut": "text/x-lut"}
#: Types that are stored like scripts, but not run.
INERT = ("text/x-lut",)
#: The value of the column ``repo`` for official scripts.
REPOSITORY = "ScriptRepo"
HASHER = "SHA1-160"
ROOT, USER_GROUP = 0, 1


def sha1(text: bytes) -> str:
    """The checksum in rows of scripts."""
    return hashlib.sha1(text).hexdigest()


def taken_apart(path: str) -> tuple[str, str]:
    """The columns path and name of a script's path: all up to the last slash of either kind, and the rest."""
    end = max(path.rfind("/"), path.rfind("\\")) + 1
    return path[:end], path[end:]


def mimetype_of(name: str) -> str | None:
    """The type of a script by the ending of its name, None for what is not known."""
    return MIMETYPES.get(PurePosixPath(name).suffix)


def is_official(entity: Entity) -> bool:
    """Whether a file is in the folder of official scripts."""
    return bool(entity.get("repo") == REPOSITORY)


class ScriptFiles:
    """The texts of one server's scripts."""

    def __init__(self, server: ServerContext) -> None:
        self.server = server
        self.folder = server.data / "scripts"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()

    @classmethod
    def of(cls, server: ServerContext) -> ScriptFiles:
        """The scripts of a server; there is one such object per server."""
        known = vars(server).get("_script_files")
        return known or vars(server).setdefault("_script_files", cls(server))

    # -- any script ---------------------------------------------------------------------------------------------------
    def place(self, entity: Entity) -> Path:
        """The file on disk that holds a script's text."""
        if is_official(entity):
            return self.folder / (entity.get("path") + entity.get("name")).lstrip("/")
        return self.server.disk.file(entity.id)

    def read(self, entity: Entity) -> str:
        """The text; empty if it is not there."""
        try:
            return self.place(entity).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def write(self, entity: Entity, text: bytes) -> None:
        """Put a text where `read` finds it, whole or not at all."""
        place = self.place(entity)
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(place.name + ".new")
        beside.write_bytes(text)
        beside.replace(place)

    # -- official scripts ---------------------------------------------------------------------------------------------
    def official(self, tx: Any) -> list[Entity]:
        """Rows of the official scripts, oldest first."""
        return sorted(tx.where("OriginalFile", repo=REPOSITORY), key=lambda entity: int(entity.id))

    def inside(self, path: str) -> Path:
        """The place of an official script of that path; raises for one that leads out of the folder."""
        place = (self.folder / path.lstrip("/")).resolve()
        if not place.is_relative_to(self.folder.resolve()) or place == self.folder.resolve():
            raise errors.validation(f"Path not allowed: {path}")
        return place

    def find(self, path: str) -> Entity | None:
        """The row of the official script of that path, with or without the slash at its beginning."""
        folder, name = taken_apart(path if path.startswith("/") else "/" + path)
        graph = self.server.graph
        with graph.transaction(graph.server()) as tx:
            for entity in self.official(tx):
                if (entity.get("path"), entity.get("name")) == (folder, name):
                    return entity
        return None

    def refresh(self) -> None:
        """Make the rows follow the folder.

        A file that is new gets a row. One whose text was changed behind the server's back gets a new row, and its old
        one is an official script no more; so is that of a file that is gone. Jobs keep their links to old rows.
        """
        with self._lock:
            found = {}
            for place in sorted(self.folder.rglob("*")):
                if place.is_file() and mimetype_of(place.name):
                    found["/" + place.relative_to(self.folder).as_posix()] = place.read_bytes()
            graph = self.server.graph
            with graph.transaction(graph.server()) as tx:
                for entity in self.official(tx):
                    path = entity.get("path") + entity.get("name")
                    text = found.get(path)
                    if text is not None and sha1(text) == entity.get("hash"):
                        del found[path]
                    elif tx.where("JobOriginalFileLink", child=entity.id):
                        tx.change(entity, repo=None, mimetype="text/plain")
                    else:
                        tx.remove(entity)
                for path, text in found.items():
                    self._insert(tx, path, text)

    def add(self, path: str, text: bytes) -> Entity:
        """Make an official script of that path; its text and its row."""
        with self._lock:
            place, old = self.inside(path), self.find(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text)
            graph = self.server.graph
            with graph.transaction(graph.server()) as tx:
                if old is not None:  # no script any more, for it could not be parsed
                    tx.change(old, repo=None)
                return self._insert(tx, path if path.startswith("/") else "/" + path, text)

    def _insert(self, tx: Any, path: str, text: bytes) -> Entity:
        folder, name = taken_apart(path)
        return tx.insert(
            "OriginalFile",
            owner=ROOT,
            group=USER_GROUP,
            name=name,
            path=folder,
            mimetype=mimetype_of(name),
            size=len(text),
            hash=sha1(text),
            hasher=tx.enum("ChecksumAlgorithm", HASHER),
            repo=REPOSITORY,
        )

    # -- what a caller sees -------------------------------------------------------------------------------------------
    def script(self, call: Call, number: int) -> Entity | None:
        """The row of a script that the caller may read; None for what is not there, not seen, or no script."""
        graph = self.server.graph
        with graph.transaction(context_of(call)) as tx:
            entity = tx.find("OriginalFile", number)
            if entity is None or entity.get("mimetype") not in MIMETYPES.values():
                return None
            return entity
