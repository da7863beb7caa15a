"""Find out which Processors serve scripts in a grid, from the output of IceGrid and IceStorm. Pure functions.

OMERO sends a script to the Processor that answers first. A second, forgotten Processor runs some of the scripts with
another configuration. A Processor that died but is still subscribed delays scripts, or blocks a new one of its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: The type under which a Processor is registered with IceGrid.
PROCESSOR_TYPE = "::omero::grid::Processor"
#: The id of the server that biomeroworker replaces.
OURS = "Processor-0"

_FIELD = re.compile(r"^ {4}(?P<key>[a-z ]+?) = `(?P<value>.*)'$", re.MULTILINE)
_ENDPOINT = re.compile(r"\b(?:tcp|ssl|ws|wss)\b[^:]*?-h (?P<host>\S+)[^:]*?-p (?P<port>\d+)")
_ADAPTER = re.compile(r"@ (?P<adapter>\S+)")


@dataclass(frozen=True)
class Server:
    """A server of the grid, as IceGrid describes it."""

    id: str
    node: str
    executable: str
    options: str
    state: str
    is_processor: bool

    @property
    def is_enabled(self) -> bool:
        """Whether the grid may start it."""
        return "disabled" not in self.state


def parse_server(server: str, description: str, state: str) -> Server:
    """Parse the output of ``server describe`` and ``server state``."""
    fields = {found["key"]: found["value"] for found in _FIELD.finditer(description)}
    is_processor = PROCESSOR_TYPE in description or "runProcessor" in description
    return Server(
        server, fields.get("node", "?"), fields.get("exe", "?"), fields.get("options", ""), state, is_processor
    )


def parse_subscribers(answer: str) -> list[str]:
    """The identities in the output of ``subscribers TOPIC``: the indented lines below the topic's name."""
    return [line.strip() for line in answer.splitlines() if line[:1].isspace() and line.strip()]


def findings(
    servers: Iterable[Server],
    objects: Iterable[str],
    endpoints: Mapping[str, str],
    nodes_up: Mapping[str, bool],
    subscribers: Iterable[str] | None,
) -> list[str]:
    """List the Processors that serve scripts, and problems with them.

    Parameters
    ----------
    objects
        Proxies that are registered with the type of a Processor.
    endpoints
        Endpoints of the adapters of Processors, by adapter.
    nodes_up
        Whether each registered node answers.
    subscribers
        Identities that are subscribed to OMERO's topic for offering scripts; None if not known.
    """
    processors = [server for server in servers if server.is_processor]
    enabled = [server for server in processors if server.is_enabled]
    lines = [
        f"{server.id} on node {server.node}: {server.state}; {server.executable} {server.options}".rstrip()
        for server in processors
    ]
    if not any(server.id == OURS for server in processors):
        lines.append(
            f"no server {OURS} in this grid: add it to omero.server.nodedescriptors, for the node of biomeroworker"
        )
    elif not any(server.id == OURS for server in enabled):
        lines.append(f'{OURS} is disabled; to use it: icegridadmin -e "server enable {OURS}"')
    if len(enabled) > 1:
        names = ", ".join(f"{server.id} on {server.node}" for server in enabled)
        others = next((server.id for server in enabled if server.id != OURS), OURS)
        lines.append(
            f"{len(enabled)} servers serve scripts: {names}. OMERO sends a script to the server that answers first. If "
            f'one of them is not biomeroworker: icegridadmin -e "server disable {others}", then '
            f'icegridadmin -e "server stop {others}"'
        )
    for server in enabled:
        if not nodes_up.get(server.node, False):
            lines.append(f"{server.id}: its node {server.node} does not answer; start IceGrid's node there")
    lines += _foreign_objects(objects, endpoints)
    if subscribers is not None:
        lines += _of_subscribers(list(subscribers))
    return lines


def _foreign_objects(objects: Iterable[str], endpoints: Mapping[str, str]) -> list[str]:
    known = {place for text in endpoints.values() for place in _places(text)}
    lines = []
    for proxy in objects:
        adapter = _ADAPTER.search(proxy)
        belongs = adapter["adapter"] in endpoints if adapter else bool(_places(proxy) & known)
        if not belongs:
            lines.append(
                f"a registered Processor belongs to no running server of this grid: {proxy}. If it is not wanted: "
                f'icegridadmin -e "object remove {proxy.split(" ")[0]}"'
            )
    return lines


def _of_subscribers(identities: list[str]) -> list[str]:
    lines = [f"Processors to which OMERO offers scripts: {', '.join(identities) or 'none, so every script fails'}"]
    twice = sorted({name for name in identities if identities.count(name) > 1})
    lines += [f"{name} is subscribed more than once" for name in twice]
    if len(identities) > 1:
        lines.append(
            f"{len(identities)} Processors are subscribed. "
            "A Processor that died is removed from the list at the next script"
        )
    return lines


def _places(text: str) -> set[tuple[str, str]]:
    return {(found["host"], found["port"]) for found in _ENDPOINT.finditer(text)}
