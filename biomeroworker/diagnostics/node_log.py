"""The last lines of a log file of the node, without secrets, for people who have no shell on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from biomeroworker.diagnostics import logs
from biomeroworker.diagnostics.collect import context_of, redactor
from biomeroworker.errors import RequestRejected

#: The log of the Processor, which starts all scripts.
DEFAULT = "Processor-0.log"
#: Most lines in one answer. `logs.TAIL_BYTES` is a limit, too.
MAX_LINES = 10_000


def last_lines(environ: Mapping[str, str], name: str, count: int) -> tuple[Path, list[str]]:
    """The file, and at most ``count`` lines of its end.

    Parameters
    ----------
    name
        A file of the folder with the logs of OMERO's servers on this node. A path is reduced to its last part.

    Raises
    ------
    RequestRejected
        ``count`` is out of bounds, or there is no such log; the message lists the logs.
    """
    if not 1 <= count <= MAX_LINES:
        raise RequestRejected(f"the number of lines must be from 1 to {MAX_LINES}, not {count}")
    context = context_of(None, environ)
    file = context.server / "var/log" / (PurePosixPath(name).name or DEFAULT)
    if not file.name.endswith(logs.SUFFIXES):
        raise RequestRejected(f"{file.name} is not a log: the name of a log ends with {', '.join(logs.SUFFIXES)}")
    try:
        text = logs.tail(file)
    except OSError as error:
        raise RequestRejected(f"{file} cannot be read: {error.strerror}; {_there(file.parent)}") from error
    return file, redactor(context)(text).rstrip("\n").split("\n")[-count:]


def _there(folder: Path) -> str:
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(logs.SUFFIXES))
    except OSError:
        names = []
    return f"the existing logs are: {', '.join(names)}" if names else "there are no logs; see: docker logs NAME"
