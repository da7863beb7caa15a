"""Which function runs which request, and how a request fails."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import omero
import omero.clients
import omero.cmd

from omero_stand_in.context import Call

if TYPE_CHECKING:
    from omero_stand_in.graph.transaction import Transaction


@dataclass
class Run:
    """One request being run: whose, in which transaction, and what is to happen once it is committed."""

    call: Call
    tx: Transaction
    request: Any
    #: called after the commit, e.g. to delete files
    afterwards: list[Callable[[], None]]
    cancelled: Callable[[], bool] = lambda: False
    #: called with the number of each step at its start
    at: Callable[[int], None] = lambda step: None

    def within(self, request: Any) -> Run:
        """The same run for another request."""
        return Run(self.call, self.tx, request, self.afterwards, self.cancelled)


class Failed(Exception):
    """The request failed; ``response`` has the reason for the client."""

    def __init__(self, response: Any) -> None:
        super().__init__(response.name)
        self.response = response


def error(request: Any, name: str, message: str | None = None, trace: str = "") -> Failed:
    """An ``ERR`` of the request's own category."""
    parameters = {} if message is None else {"message": message, "stacktrace": trace or f"{name}: {message}"}
    return Failed(omero.cmd.ERR(request.ice_id(), name, parameters))


def graph_error(request: Any, message: str) -> Failed:
    """What the server answers when the graph of objects forbids the request."""
    parameters = {"message": "", "stacktrace": f"ome.services.graphs.GraphException: {message}"}
    return Failed(omero.cmd.GraphException(request.ice_id(), "graph-fail", parameters, message))


@dataclass(frozen=True)
class Command:
    """How to run a kind of request, and the number of steps that its status shows."""

    run: Callable[[Run], Any]
    steps: int | Callable[[Any], int] = 1
    #: fewer steps when only tried
    dry_steps: int | None = None
    #: whether it needs the graph for itself while it runs
    alone: bool = True

    def steps_of(self, request: Any) -> int:
        """The number of steps of a request."""
        if self.dry_steps is not None and getattr(request, "dryRun", False):
            return self.dry_steps
        return self.steps(request) if callable(self.steps) else self.steps


_known: dict[type, Command] = {}


def command(
    kind: type, steps: int | Callable[[Any], int] = 1, dry_steps: int | None = None, alone: bool = True
) -> Callable[[Callable[[Run], Any]], Callable[[Run], Any]]:
    """Declare the function that runs requests of a class."""

    def declare(function: Callable[[Run], Any]) -> Callable[[Run], Any]:
        _known[kind] = Command(function, steps, dry_steps, alone)
        return function

    return declare


def find(request: Any) -> Command | None:
    """The command for a request, None if the server has none."""
    for name in ("basic", "duplicate", "files", "graphs", "sessions"):
        importlib.import_module(f"{__package__}.{name}")  # declares its commands
    return _known.get(type(request))


def known() -> list[type]:
    """Classes of the requests that are implemented."""
    return list(_known)
