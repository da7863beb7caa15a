"""One login to OMERO.server: services, a group, and extra connections for pixels.

Everything that this package does on a server goes through an `OmeroSession`. It knows nothing of runs. If the server
closed the session, or the connection broke, a `Transient` fault is raised: the caller logs in again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import Ice
import omero
import omero.clients
import omero.model
import omero.rtypes
import omero.sys

from biomeroworker.errors import Permanent
from biomeroworker.omero.connection.errors import translate_errors

log = logging.getLogger(__name__)

T = TypeVar("T")
Key = TypeVar("Key", int, str)

#: Seconds between two keep-alive messages; OMERO.server closes a session that is idle for 600 s.
KEEP_ALIVE_SECONDS = 60
#: Milliseconds after which a call without an answer fails; `LONG_TIMEOUT_MS` if the server reads a whole large file.
ANSWER_TIMEOUT_MS, LONG_TIMEOUT_MS = 300_000, 3_600_000
#: Milliseconds for opening a connection, and for closing one.
CONNECT_TIMEOUT_MS, CLOSE_TIMEOUT_MS = 10_000, 5_000
#: Connections for pixels: four transfer twice as much as one; more than four transfer no more.
CONNECTIONS = 4
#: Bytes of one read. An export needs the memory of four of these, and of their compressed forms.
LARGEST_READ_BYTES = 32 * 1024 * 1024
#: Bytes of one read or write of a file; OMERO's own client sends 10 kB at a time.
BLOCK_BYTES = 4 * 1024 * 1024
#: Planes wider or higher than this get a pyramid from OMERO, and are read by tiles (omero.pixeldata.max_plane_width).
PLANE_LIMIT_PIXELS = 3192
#: Ids in one HQL `in (...)`: PostgreSQL accepts 32,767 parameters, but Hibernate becomes slow far below that.
IDS_PER_QUERY = 500


class OmeroSession:
    """A live session. Use it as a context manager; leaving it closes what it opened.

    Parameters
    ----------
    client
        A connected `omero.client`.
    end
        Whether closing ends the session on the server (one that we opened) or only leaves it (one that we joined).
    """

    def __init__(self, client: Any, *, end: bool = True) -> None:
        self.client = client
        self._end = end
        self._extra: list[Any] = []
        #: Called before each save and delete; raises when the session's run must not change OMERO any more.
        self.before_change: Callable[[], None] = lambda: None
        self._insecure = True
        context = client.sf.getAdminService().getEventContext()
        self.user_id: int = context.userId
        self.user_name: str = context.userName
        self.group_id: int = context.groupId

    # -- opening ------------------------------------------------------------------------------------------------

    @classmethod
    def login(cls, host: str, port: int, user: str, password: str, *, group: int | None = None) -> Self:
        """Log in by name and password; ``group`` is the id of the group to work in (default: the user's own)."""
        with translate_errors(f"log in to OMERO at {host}:{port} as {user}"):
            client = _client(host, port)
            try:
                client.createSession(user, password)
                client.enableKeepAlive(KEEP_ALIVE_SECONDS)
                session = cls(client)
                if group is not None and group >= 0:
                    session.enter_group(group)
            except BaseException:
                _close(client)
                raise
            return session

    @classmethod
    def join(cls, host: str, port: int, uuid: str, *, end: bool = False) -> Self:
        """Join the session ``uuid``; closing ends it only if ``end``. The uuid is a secret: it is never shown."""
        with translate_errors(f"join a session of OMERO at {host}:{port}"):
            client = _client(host, port)
            try:
                client.joinSession(uuid)
                client.enableKeepAlive(KEEP_ALIVE_SECONDS)
                if not end:
                    client.sf.detachOnDestroy()
                return cls(client, end=end)
            except BaseException:
                _close(client)
                raise

    def enter_group(self, group: int) -> None:
        """Continue in another group of the user (stateful services must be closed)."""
        if group == self.group_id:
            return
        with translate_errors(f"enter group {group} as {self.user_name}"):
            self.client.sf.setSecurityContext(omero.model.ExperimenterGroupI(group, False))
            self.group_id = group

    def close(self) -> None:
        """Close all connections. Raises nothing, so that an earlier error reaches the caller."""
        for client in self._extra:
            _close(client)
        self._extra.clear()
        with contextlib.suppress(Exception):
            _ping(self.client)
            if self._end:
                # the administrator who opened the session for another user still counts as a client of it
                self.client.killSession()
            else:
                self.client.sf.detachOnDestroy()
        _close(self.client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- reading ------------------------------------------------------------------------------------------------

    @property
    def sf(self) -> Any:
        """The ServiceFactory."""
        return self.client.sf

    def query(self, hql: str, **values: Any) -> list[Any]:
        """The objects that an HQL query finds; ``values`` are ints, strings, or lists of either."""
        with translate_errors("query OMERO"):
            found: list[Any] = self.sf.getQueryService().findAllByQuery(hql, parameters(values))
            return found

    def rows(self, hql: str, *, everywhere: bool = False, **values: Any) -> list[list[Any]]:
        """The plain rows of a projection; with ``everywhere`` from all groups of the user, not only the current one."""
        context = {"omero.group": "-1"} if everywhere else {}
        with translate_errors("query OMERO"):
            found = self.sf.getQueryService().projection(hql, parameters(values), context)
            return [[omero.rtypes.unwrap(cell) for cell in row] for row in found]

    def query_by_ids(self, hql: str, ids: Iterable[int], **values: Any) -> list[Any]:
        """`query` with any number of ids: ``:ids`` is filled in batches."""
        return [
            found for part in batched(sorted(set(ids)), IDS_PER_QUERY) for found in self.query(hql, ids=part, **values)
        ]

    def rows_by_ids(self, hql: str, ids: Iterable[Key], *, everywhere: bool = False, **values: Any) -> list[list[Any]]:
        """`rows` with any number of ids (or texts): ``:ids`` is filled in batches."""
        parts = batched(sorted(set(ids)), IDS_PER_QUERY)
        return [row for part in parts for row in self.rows(hql, everywhere=everywhere, ids=part, **values)]

    # -- changing -----------------------------------------------------------------------------------------------

    def save(self, objects: Sequence[Any]) -> None:
        """Save all of them in one call, which is one transaction."""
        if objects:
            self.before_change()
            with translate_errors(f"save {len(objects)} objects to OMERO"):
                self.sf.getUpdateService().saveCollection(list(objects))

    def save_and_return(self, objects: Sequence[Any]) -> list[Any]:
        """Save all of them in one transaction; returns them as the server has them, in the same order."""
        if not objects:
            return []
        self.before_change()
        with translate_errors(f"save {len(objects)} objects to OMERO"):
            saved: list[Any] = self.sf.getUpdateService().saveAndReturnArray(list(objects))
            return saved

    def delete(self, kind: str, ids: Sequence[int]) -> None:
        """Delete objects, with what is linked only to them, and wait until it is done."""
        for part in batched(ids, IDS_PER_QUERY):
            self.before_change()
            with translate_errors(f"delete {kind} {', '.join(map(str, part))}"):
                command = omero.cmd.Delete2(targetObjects={kind: list(part)})
                answer = self.client.submit(command, loops=240, ms=500, failonerror=False).getResponse()
                if isinstance(answer, omero.cmd.ERR):
                    reason = str((answer.parameters or {}).get("message", answer.name))
                    raise Permanent(f"could not delete {kind} {list(part)}: {reason}")

    def delete_what_is_there(self, kind: str, ids: Sequence[int]) -> None:
        """`delete` those of the objects that still exist; another process may delete the same ones."""
        try:
            self.delete(kind, ids)
        except Permanent:
            left = self.rows_by_ids(f"select o.id from {kind} o where o.id in (:ids)", ids)  # noqa: S608
            self.delete(kind, [row[0] for row in left])

    # -- pixels -------------------------------------------------------------------------------------------------

    def data_connections(self, count: int) -> list[Any]:
        """ServiceFactories on ``count`` separate connections, unencrypted if the server offers that.

        An Ice connection transfers one message at a time, so several are faster; and encryption costs more than half
        of the rate. They are closed with the session.
        """
        while len(self._extra) < count:
            with translate_errors("open a data connection to OMERO"):
                self._extra.append(self._another())
        return [client.sf for client in self._extra[:count]]

    def _another(self) -> Any:
        if self._insecure:
            try:
                return _leaving(self.client.createClient(False))
            except (Ice.LocalException, omero.ClientError) as error:
                self._insecure = False
                log.info("OMERO offers no unencrypted data connection (%s): pixels are encrypted", type(error).__name__)
        return _leaving(self.client.createClient(True))


def file_blocks(sf: Any, original: int, size: int, *, everywhere: bool = False) -> Generator[bytes, None, None]:
    """The content of an original file in blocks; the file ends early if the server has less than ``size`` bytes.

    Parameters
    ----------
    everywhere
        The file may be in any group.
    """
    store = sf.createRawFileStore()
    try:
        store.setFileId(original, {"omero.group": "-1"} if everywhere else None)
        offset = 0
        while block := store.read(offset, min(BLOCK_BYTES, size - offset)) if offset < size else b"":
            yield block
            offset += len(block)
    finally:
        with contextlib.suppress(Ice.Exception):
            store.close()


@contextlib.contextmanager
def pixels_store(sf: Any, pixels: int) -> Iterator[Any]:
    """A RawPixelsStore for one image; it is closed at the end of the block. After writing, save it before the end."""
    store = sf.createRawPixelsStore()
    try:
        store.setPixelsId(pixels, True)
        yield store
    finally:
        with contextlib.suppress(Ice.Exception):
            store.close()


def parameters(values: Mapping[str, Any]) -> Any:
    """Named values as HQL parameters; every int is a long, because the server refuses an int for a long column."""
    wrapped = omero.sys.ParametersI()
    for name, value in values.items():
        wrapped.add(name, _rtype(value))
    return wrapped


def _rtype(value: Any) -> Any:
    if isinstance(value, bool):
        return omero.rtypes.rbool(value)
    if isinstance(value, int):
        return omero.rtypes.rlong(value)
    if isinstance(value, list | tuple):
        return omero.rtypes.rlist([_rtype(entry) for entry in value])
    return omero.rtypes.rstring(value)


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """``items`` in slices of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def ice_timeouts() -> dict[str, str]:
    """Properties of Ice that set a timeout for every call and detect a dead connection.

    The defaults of omero-py have no timeout for calls, and detect a dead connection after 60,000 s: the value is meant
    in milliseconds, but Ice reads seconds.
    """
    return {
        "Ice.Default.InvocationTimeout": str(ANSWER_TIMEOUT_MS),
        "Ice.ACM.Client.Timeout": "60",
        "Ice.ACM.Client.Heartbeat": "3",
        "Ice.Override.ConnectTimeout": str(CONNECT_TIMEOUT_MS),
        "Ice.Override.CloseTimeout": str(CLOSE_TIMEOUT_MS),
    }


def with_long_timeout(service: Any) -> Any:
    """The same service with `LONG_TIMEOUT_MS`, for calls that read or write a whole large file on the server."""
    return service.ice_invocationTimeout(LONG_TIMEOUT_MS)


def _client(host: str, port: int) -> Any:
    client = omero.client(host, port, pmap=ice_timeouts())
    client.setAgent("biomeroworker")
    return client


def _leaving(client: Any) -> Any:
    """A second connection to a session, which does not end the session when it is closed."""
    client.enableKeepAlive(KEEP_ALIVE_SECONDS)
    client.sf.detachOnDestroy()
    return client


def _ping(client: Any) -> None:
    client.sf.ice_invocationTimeout(CLOSE_TIMEOUT_MS).ice_ping()


def _close(client: Any) -> None:
    try:
        _ping(client)
    except Exception:
        # no server answers: closing properly would wait for a timeout at each step
        with contextlib.suppress(Exception):
            client.getCommunicator().destroy()
    with contextlib.suppress(Exception):
        client.__del__()  # closes what is open, and raises nothing
