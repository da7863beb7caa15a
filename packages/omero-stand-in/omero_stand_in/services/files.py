"""RawFileStore: the content of an OriginalFile, read and written in blocks at any place."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import omero
import omero.clients
from omero.rtypes import rlong, rstring, rtime

from omero_stand_in import errors
from omero_stand_in.context import ALL_GROUPS, Call, ServerContext, context_of
from omero_stand_in.servant import Service
from omero_stand_in.sessions import Session

from .checksums import checksum
from .script_files import ScriptFiles
from .writing import check_group

log = logging.getLogger(__name__)


class RawFileStoreService(Service):
    """One open file. The bytes are on disk as soon as they are written; the row follows with ``save`` or ``close``."""

    interface = omero.api.RawFileStore
    stateful = True

    def __init__(self, server: ServerContext, session: Session) -> None:
        super().__init__(server, session)
        self._id: int | None = None
        self._handle: int | None = None
        self._path = Path()
        self._size_of_row: int | None = None
        self._writable = self._modified = False
        self._last_call: Call | None = None

    # -- which file ---------------------------------------------------------------------------------------------------
    def setFileId(self, call: Call, number: int) -> None:
        """Open the content of a file that the caller may read; nothing happens if it is the one that is open.

        The row of the file that was open before is left as it is: neither its size nor its hash is brought up to date.
        """
        if number == self._id:
            return
        self._let_go()
        self._id = number  # getFileId returns it even if the file cannot be opened
        graph = self.server.graph
        with graph.transaction(context_of(call)) as tx:
            row = tx.get("OriginalFile", number)
            self._writable, self._size_of_row = tx.can(row, "edit"), row.get("size")
        self._path = ScriptFiles.of(self.server).place(row)
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o640)
        self._last_call = call if self._writable else None

    def getFileId(self, call: Call) -> Any:
        """The file's id, or null before `setFileId`."""
        return None if self._id is None else rlong(self._id)

    def _open(self) -> int:
        if self._handle is None:
            raise errors.api_usage(
                "This RawFileStore has not been properly initialized.\nPlease set the file id first."
            )
        return self._handle

    # -- content ------------------------------------------------------------------------------------------------------
    def size(self, call: Call) -> int:
        """Bytes on disk, which may differ from the row."""
        return os.fstat(self._open()).st_size

    def exists(self, call: Call) -> bool:
        """Whether there is content."""
        self._open()
        return self._path.exists()

    def read(self, call: Call, position: int, length: int) -> bytes:
        """``length`` bytes; those past the end are zero."""
        handle = self._open()
        if length < 0:
            raise errors.internal(
                f" Wrapped Exception: (java.lang.NegativeArraySizeException):\n{length}", "java.lang.RuntimeException"
            )
        if position < 0:
            raise errors.api_usage("Negative position")
        data = os.pread(handle, length, position)
        return data if len(data) == length else data + bytes(length - len(data))

    def write(self, call: Call, data: bytes, position: int, length: int) -> None:
        """Put the first ``length`` bytes of ``data`` at ``position``."""
        handle = self._open()
        if length > len(data):
            raise errors.api_usage(f"newLimit > capacity: ({length} > {len(data)})")
        if length < 0:
            raise errors.api_usage(f"newLimit < 0: ({length} < 0)")
        if position < 0:
            raise errors.api_usage("Negative position")
        self._check_writable()
        view, self._last_call, self._modified = memoryview(data)[:length], call, True
        while view:
            done = os.pwrite(handle, view, position)
            view, position = view[done:], position + done

    def truncate(self, call: Call, length: int) -> bool:
        """Cut the file; false, and nothing done, if it is no longer than that already."""
        handle = self._open()
        if self.size(call) <= length:
            return False
        if length < 0:
            raise errors.api_usage("Negative size")
        self._check_writable()
        os.ftruncate(handle, length)
        self._last_call, self._modified = call, True
        return True

    def _check_writable(self) -> None:
        if not self._writable:
            raise errors.security("File not writeable!")

    # -- the row ------------------------------------------------------------------------------------------------------
    def save(self, call: Call) -> Any:
        """Bring size, time and hash of the row up to date; null if there is no need."""
        if not self._needs_saving():
            return None
        saved = self._saved(call)
        self._modified, self._size_of_row = False, saved.size.val
        return saved

    def _needs_saving(self) -> bool:
        """Whether it was written to, is empty, or has another size than the row."""
        if self._handle is None or not self._writable:
            return False
        size = os.fstat(self._handle).st_size
        return self._modified or size == 0 or self._size_of_row not in (None, size)

    def _saved(self, call: Call) -> Any:
        graph, path = self.server.graph, self._path
        everywhere, status = context_of(call).in_group(ALL_GROUPS), path.stat()
        with graph.transaction(everywhere) as tx:
            row = tx.get("OriginalFile", self._id)
            hasher = row.get("hasher")
            algorithm = tx.get("ChecksumAlgorithm", hasher).get("value") if hasher is not None else None
        digest = checksum(algorithm, path) if algorithm else None
        with graph.transaction(everywhere) as tx:
            row = tx.get("OriginalFile", self._id)
            check_group(call, row)
            changed = tx.load(row)
            changed.size, changed.mtime = rlong(status.st_size), rtime(int(status.st_mtime * 1000))
            if digest:
                changed.hash = rstring(digest)
            with graph.transaction(context_of(call)) as callers:
                callers.save(changed)
            saved = tx.load(tx.get("OriginalFile", self._id))
        saved.unloadFilesetEntries()
        return saved

    def closed(self) -> None:
        """Save the changes and close the file; a refused save is only logged, because the bytes are written."""
        try:
            if self._needs_saving() and self._last_call is not None:
                self._saved(self._last_call)
        except Exception as error:
            log.info("closing file %s without saving its row: %s", self._id, getattr(error, "message", error))
        finally:
            self._let_go()

    def _let_go(self) -> None:
        handle, self._handle = self._handle, None
        self._modified, self._id, self._size_of_row = False, None, None
        if handle is not None:
            os.close(handle)
