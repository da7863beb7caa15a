"""What OMERO and Ice raise, classed: the one place that knows which of their errors go away by themselves.

A lost connection, a busy database and a session that the server dropped are transient: the next attempt logs in anew.
A login that is refused and an object that one may not touch need a person. What the server rejects as a wrong question
is our defect, or the request's, and will be rejected again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import Glacier2
import Ice
import omero
import omero.clients  # loads the exceptions of the Slice files

from biomeroworker.errors import BiomeroWorkerError, Blocked, Fault, Permanent, Transient, classify


def fault_of(error: BaseException, doing: str) -> Fault:
    """The fault that ``error`` is when it was raised while ``doing`` (a phrase such as ``read image 12``)."""
    if isinstance(error, Fault):
        return error
    text = f"could not {doing}: {server_message(error)}"
    match error:
        case omero.MissingPyramidException():
            wait = max(0, int(getattr(error, "backOff", 0) or 0)) // 1000
            return Transient(text, hint=f"the server makes the image's pyramid; it asked to wait {wait} s")
        case omero.ConcurrencyException() | omero.ResourceError():
            return Transient(text)
        case omero.SecurityViolation():
            return Blocked(text, hint="ask the owner of the data or an OMERO administrator for access")
        case Glacier2.PermissionDeniedException() | omero.AuthenticationException():
            return Blocked(text, hint="the login was refused: check OMERO's user and password, or log in again")
        case omero.ExpiredCredentialException():
            return Blocked(text, hint="the password has expired: set a new one in OMERO")
        case omero.SessionException() | Glacier2.CannotCreateSessionException():
            return Transient(text, hint="the session has ended; the next attempt opens a new one")
        case omero.ApiUsageException() | omero.ValidationException():
            return Permanent(text)
        case omero.InternalException():  # also what a server says whose database is away
            return Transient(text, hint="OMERO.server's own log (Blitz-0.log) says why")
        case omero.ClientError():
            return Transient(text)
        case Ice.UnknownLocalException():  # Glacier2's words when the server behind it is gone, or starts
            return Transient(text, hint="the router is there, OMERO.server behind it is not")
        case Ice.UnknownException() | Ice.OperationNotExistException() | Ice.FacetNotExistException():
            return Permanent(text)
        case Ice.TimeoutException():
            return Transient(text, hint="OMERO.server did not answer in time")
        case Ice.LocalException():
            return Transient(text, hint="OMERO.server could not be reached")
        case _:
            known = classify(error)
            return type(known)(text, hint=known.hint, detail=known.detail)


def server_message(error: BaseException) -> str:
    """One line of what an exception says: Ice keeps its words in several places. Java's stack traces stay out."""
    words = next(
        (
            str(value)
            for name in ("message", "reason", "unknown")
            if (value := getattr(error, name, None)) and str(value).strip()
        ),
        "",
    )
    if not words and not isinstance(error, Ice.Exception):
        words = str(error)
    first = next((line.strip() for line in words.splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


@contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """What OMERO, Ice or a library raises inside leaves as a fault that says what was being done.

    Our own errors pass as they are: they have their class already, and some are no verdict on the run at all (the
    listener that hears of progress says so by an error when the run is carried by somebody else).
    """
    try:
        yield
    except BiomeroWorkerError:
        raise
    except Exception as error:
        raise fault_of(error, doing) from error
