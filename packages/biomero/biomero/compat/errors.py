"""Errors that are also what biomero raises, so that ``except`` clauses of old programs catch them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from paramiko.ssh_exception import SSHException

from biomeroworker.errors import BiomeroWorkerError, ConfigError, RequestRejected

T = TypeVar("T", bound=type)


def old_types(error: BiomeroWorkerError) -> tuple[type[Exception], ...]:
    """What biomero raises in place of an error: ValueError for a wrong value, SSHException for the cluster."""
    if isinstance(error, ConfigError):
        return (ValueError,)
    if isinstance(error, RequestRejected):
        return (ValueError, SSHException)
    return (SSHException,)


_classes: dict[tuple[Any, ...], Any] = {}


def _combined(kind: type[Exception], others: tuple[type[Exception], ...]) -> type[Exception]:
    missing = tuple(one for one in others if not issubclass(kind, one))
    key = (kind, *missing)
    if missing and key not in _classes:
        _classes[key] = type(kind.__name__, key, {"__module__": kind.__module__, "__doc__": kind.__doc__})
    made: type[Exception] = _classes[key] if missing else kind
    return made


def raise_as_biomero(error: BiomeroWorkerError) -> NoReturn:
    """Raise the same error, with the types of `old_types` added to its own."""
    kind = _combined(type(error), old_types(error))
    if kind is type(error):
        raise error
    made = kind.__new__(kind)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    raise made.with_traceback(error.__traceback__) from error.__cause__


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BiomeroWorkerError as error:
            raise_as_biomero(error)

    return call


def raises_as_biomero(cls: T) -> T:
    """Let all public methods and properties of a class, and of its bases here, raise errors that biomero's callers
    catch.
    """
    for base in [one for one in cls.__mro__ if one.__module__.startswith("biomero.")]:
        for name, member in vars(base).items():
            if name.startswith("_") and name != "__init__":
                continue
            if inspect.isfunction(member):
                setattr(cls, name, _wrapped(member))
            elif isinstance(member, classmethod):
                setattr(cls, name, classmethod(_wrapped(member.__func__)))
            elif isinstance(member, property) and member.fget is not None:
                setattr(cls, name, property(_wrapped(member.fget), member.fset, member.fdel, member.__doc__))
    return cls
