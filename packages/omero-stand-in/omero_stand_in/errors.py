"""The server's exceptions, created in one place so that each has the Java class that clients print."""

from __future__ import annotations

import omero
import omero.clients

#: Ice exception by the simple name of the Java exception that the real server maps to it.
_KINDS: dict[str, type[Exception]] = {
    "ApiUsageException": omero.ApiUsageException,
    "ValidationException": omero.ValidationException,
    "SecurityViolation": omero.SecurityViolation,
    "GroupSecurityViolation": omero.GroupSecurityViolation,
    "ReadOnlyGroupSecurityViolation": omero.ReadOnlyGroupSecurityViolation,
    "InternalException": omero.InternalException,
    "ResourceError": omero.ResourceError,
    "RemovedSessionException": omero.RemovedSessionException,
    "SessionTimeoutException": omero.SessionTimeoutException,
    "OptimisticLockException": omero.OptimisticLockException,
    "LockTimeout": omero.LockTimeout,
    "ConcurrencyException": omero.ConcurrencyException,
    "QueryException": omero.QueryException,
    "MissingPyramidException": omero.MissingPyramidException,
}


def make(kind: str, message: str, java: str = "") -> Exception:
    """An exception of the given kind; ``java`` overrides the class name that the client sees."""
    error = _KINDS[kind]()
    error.message = message
    error.serverExceptionClass = java or f"ome.conditions.{kind}"
    error.serverStackTrace = f"{error.serverExceptionClass}: {message}\n"
    return error


def api_usage(message: str) -> Exception:
    """The caller used the interface wrongly."""
    return make("ApiUsageException", message)


def validation(message: str) -> Exception:
    """The object given breaks a rule of the model."""
    return make("ValidationException", message)


def security(message: str) -> Exception:
    """The caller may not do this."""
    return make("SecurityViolation", message)


def internal(message: str, java: str = "") -> Exception:
    """A fault of the server; some of the real server's answers to odd questions are of this kind too."""
    return make("InternalException", message, java)


def resource(message: str) -> Exception:
    """A file or other resource of the server is not to be had."""
    return make("ResourceError", message)


def removed_session(message: str) -> Exception:
    """The session named does not exist, or no longer."""
    return make("RemovedSessionException", message)


def session_timeout(message: str) -> Exception:
    """The session has exceeded one of its timeouts."""
    return make("SessionTimeoutException", message)


def optimistic_lock(message: str) -> Exception:
    """The object given is older than the one stored."""
    return make("OptimisticLockException", message)


def not_yet(message: str) -> Exception:
    """The result is not ready yet: the caller may try again."""
    return make("ConcurrencyException", message)


def lock_timeout(message: str) -> Exception:
    """Something that would have to be waited for did not come in time."""
    return make("LockTimeout", message)


def query(message: str) -> Exception:
    """A query that the server does not understand."""
    return make("QueryException", message)


def authentication(reason: str) -> Exception:
    """A session was refused (not a ServerError: its text is in ``reason``)."""
    return omero.AuthenticationException(reason)


def not_implemented(interface: str, operation: str) -> Exception:
    """The honest answer to what this server does not do."""
    return api_usage(f"{interface}.{operation} is not implemented by the stand-in OMERO server")
