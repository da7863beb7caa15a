"""Classify the exceptions of OMERO and Ice as faults.

A lost connection, a busy database and a session that the server closed are transient: the next attempt logs in again.
A refused login and a missing permission need a person. A call that the server rejects as invalid is a defect of this
program or of the request, and fails again if it is repeated.
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
    """The fault for an error that was raised by an action; ``doing`` describes it (``read image 12``)."""
    if isinstance(error, Fault):
        return error
    text = f"could not {doing}: {server_message(error)}"
    match error:
        case omero.MissingPyramidException():
            wait = max(0, int(getattr(error, "backOff", 0) or 0)) // 1000
            return Transient(text, hint=f"the server is creating the image's pyramid; it needs {wait} s or more")
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
        case omero.InternalException():  # also raised while the server has no database
            return Transient(text, hint="see the log of OMERO.server (Blitz-0.log) for the cause")
        case omero.ClientError():
            return Transient(text)
        case Ice.UnknownLocalException():  # raised by Glacier2 while the server behind it is down or starting
            return Transient(text, hint="the Glacier2 router is running, but OMERO.server is not")
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
    """The first line of an exception's message, which Ice has in several fields; no Java stack trace."""
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
    """Raise what OMERO, Ice or a library raises in the block as a fault whose message names the action.

    Errors of this program pass unchanged: they are classified already, and some are no fault of the run (the guard
    raises one when another process executes the run).
    """
    try:
        yield
    except BiomeroWorkerError:
        raise
    except Exception as error:
        raise fault_of(error, doing) from error
