"""The section about OMERO.grid: nodes, servers and Processors, from IceGrid's registry and IceStorm.

The data come from ``icegridadmin`` and ``icestormadmin``, so that Ice for Python is not needed. No argument contains a
password: the programs read the configuration of the node. A file before it sets the values without which they would
wait for input.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from biomeroworker.diagnostics import claims
from biomeroworker.diagnostics.claims import PROCESSOR_TYPE, Server
from biomeroworker.diagnostics.commands import NotAvailable, run_program
from biomeroworker.diagnostics.sections import Context, File, Notes

#: The topic on which OMERO offers scripts to Processors.
TOPIC = "/internal/ProcessorAccept"
_TOPIC_MANAGER_TYPE = "::IceStorm::TopicManager"
_TOPIC_MANAGER = "IceStorm/TopicManager"
_COMMAND_SECONDS = 10.0
#: A connection to a registry that does not answer ends after this time, before the section's time limit.
_CONNECT_TIMEOUT_MS = 4000

_PLAIN_NAME = re.compile(r"[A-Za-z0-9._:-]+")


@dataclass(frozen=True)
class Registry:
    """The access to the registry: the value of ``--Ice.Config``, and its source."""

    config: str
    source: str

    def admin(self, command: str) -> str:
        """The output of a command of icegridadmin; an error message is an output, too.

        Raises
        ------
        NotAvailable
            icegridadmin is not installed, or the registry does not answer.
        """
        return _run(["icegridadmin", f"--Ice.Config={self.config}", "-e", command])

    def lines(self, command: str) -> list[str]:
        """The lines of the output; none if it is an error message, such as that no object was found."""
        answer = self.admin(command)
        return [] if answer.startswith("error:") else [line.strip() for line in answer.splitlines() if line.strip()]

    def storm(self, manager: str, command: str) -> str:
        """The output of a command of icestormadmin."""
        default = f"--IceStormAdmin.TopicManager.Default={manager}"
        return _run(["icestormadmin", f"--Ice.Config={self.config}", default, "-e", command])


def grid(context: Context, notes: Notes) -> Iterator[File]:
    """Nodes, servers with their states, adapters, objects, and the Processors that serve scripts."""
    with tempfile.TemporaryDirectory(prefix="biomeroworker-diagnostics-") as folder:
        registry = _registry(context, Path(folder))
        nodes = registry.lines("node list")
        up = {node: "is up" in registry.admin(f"node ping {node}") for node in _plain(nodes, notes)}
        pinged = "".join(f"{node}: {'up' if answers else 'does not answer'}\n" for node, answers in up.items())
        yield "grid/nodes.txt", f"# registry: from {registry.source}\n{pinged}"

        servers = []
        for name in _plain(registry.lines("server list"), notes):
            state = registry.admin(f"server state {name}").strip()
            servers.append(claims.parse_server(name, registry.admin(f"server describe {name}"), state))
        yield "grid/servers.txt", "".join(map(_line, servers))

        adapters = _plain(registry.lines("adapter list"), notes)
        endpoints = {name: _endpoints(registry, name) for name in adapters if "Processor" in name}
        listed = "".join(f"{name} {endpoints.get(name, '')}".rstrip() + "\n" for name in adapters)
        yield "grid/adapters.txt", listed

        objects = registry.lines(f"object find {PROCESSOR_TYPE}")
        yield "grid/processor-objects.txt", "".join(f"{proxy}\n" for proxy in objects)

        subscribers = _subscribers(registry, notes)
        if subscribers is not None:
            yield "grid/processor-subscribers.txt", "".join(f"{identity}\n" for identity in subscribers)
        found = claims.findings(servers, objects, endpoints, up, subscribers)
        notes.findings += found
        yield "grid/who-serves-scripts.txt", "".join(f"{line}\n" for line in found)


def _line(server: Server) -> str:
    return f"{server.id} on {server.node}: {server.state}: {server.executable} {server.options}".rstrip() + "\n"


def _registry(context: Context, folder: Path) -> Registry:
    """The access that the node's own file configures, otherwise the locator that the environment names."""
    ours = folder / "diagnostics.cfg"
    lines = [
        f"Ice.Override.ConnectTimeout={_CONNECT_TIMEOUT_MS}",
        # without these, icegridadmin waits for input; the values of a later file take precedence
        "IceGridAdmin.Username=biomeroworker",
        "IceGridAdmin.Password=none",
    ]
    named = [context.server / "etc/internal.cfg", *_named(context.environ.get("ICE_CONFIG", ""))]
    environ = context.environ
    files = [file for file in named if file.is_file() and "Locator" in _text(file)]
    master = environ.get("CONFIG_omero_master_host")
    if files:
        source, config = str(files[0]), f"{ours},{files[0]}"
    elif locator := environ.get("OMERO_LOCATOR"):
        source, config = "OMERO_LOCATOR", str(ours)
        lines.append(f"Ice.Default.Locator={locator}")
    elif master:
        source, config = "CONFIG_omero_master_host", str(ours)
        port = environ.get("CONFIG_omero_master_port") or "4061"
        lines.append(f"Ice.Default.Locator=IceGrid/Locator:tcp -h {master} -p {port}")
    else:
        raise NotAvailable(
            f"no registry is known here: there is no {named[0]} (OMERODIR names the folder), and neither ICE_CONFIG, "
            "OMERO_LOCATOR nor CONFIG_omero_master_host is set. Outside a grid, this section is empty"
        )
    if any("\n" in line for line in lines):
        raise NotAvailable(f"{source} holds a line break")
    ours.touch(mode=0o600)
    ours.write_text("".join(f"{line}\n" for line in lines))
    return Registry(config, source)


def _named(files: str) -> list[Path]:
    return [Path(part) for part in files.split(",") if part]


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _run(argv: list[str]) -> str:
    answer = run_program(argv, seconds=_COMMAND_SECONDS)
    if answer.timed_out:
        raise NotAvailable(f"{argv[0]} did not end within {_COMMAND_SECONDS:g} s ({argv[-1]})")
    # an error of the command begins with "error:"; other output means that the registry could not be reached
    if answer.code != 0 and not answer.text.lstrip().startswith("error:"):
        raise NotAvailable(_last(answer.text))
    return answer.text


def _last(text: str) -> str:
    return " ".join(text.split())[-300:]


def _endpoints(registry: Registry, adapter: str) -> str:
    return " ".join(registry.admin(f"adapter endpoints {adapter}").split())


def _subscribers(registry: Registry, notes: Notes) -> list[str] | None:
    """The identities that are subscribed to the topic; None if IceStorm does not answer."""
    proxies = registry.lines(f"object find {_TOPIC_MANAGER_TYPE}")
    manager = proxies[0] if proxies else _TOPIC_MANAGER
    try:
        answer = registry.storm(manager, f"subscribers {TOPIC}")
    except NotAvailable as reason:
        notes.missing.append(f"subscribers of {TOPIC} are not available: {reason}")
        return None
    if f"{TOPIC}: subscribers" not in answer:
        notes.missing.append(f"subscribers of {TOPIC} are not available: {_last(answer) or 'no answer'}")
        return None
    return claims.parse_subscribers(answer)


def _plain(names: list[str], notes: Notes) -> list[str]:
    """The names that need no quoting in a command of icegridadmin."""
    strange = [name for name in names if not _PLAIN_NAME.fullmatch(name)]
    if strange:
        notes.missing.append(f"{len(strange)} names with unusual characters were left out")
    return [name for name in names if name not in strange]
