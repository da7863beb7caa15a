"""Write the grid's application descriptor from ``omero.server.nodedescriptors``, as OMERO.server does.

``master:Blitz-0,Tables-0 biomeroworker-external:Processor-0`` puts an instance of each server's template on the node
that is named. Templates, ids, adapters and objects have the names of OMERO's templates.xml. In particular the Processor
has no environment and no interpreter of its own: both are those of the node that starts it.
"""

from __future__ import annotations

import os
import re
import sys
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

#: Properties of all servers: those of OMERO's profile, as far as they matter here.
BASICS = {
    "Ice.MessageSizeMax": "250000",
    "Ice.CacheMessageBuffers": "0",
    "Ice.Override.ConnectTimeout": "5000",
    "Ice.ImplicitContext": "Shared",
    "Ice.ThreadPool.Client.Size": "2",
    "Ice.ThreadPool.Client.SizeMax": "50",
    "Ice.ThreadPool.Server.Size": "10",
    "Ice.ThreadPool.Server.SizeMax": "100",
    "omero.repo.wait": "300",
    "omero.repo.dir": "",
}
#: The router through which all clients come, with the settings of OMERO's own grid. ("localhost", where IceGrid reaches
#: its servers, is an IPv6 address too, also in a container that has none.)
ROUTER = {
    "Ice.IPv6": "0",
    "Ice.Plugin.IceSSL": "IceSSL:createIceSSL",
    "IceSSL.DefaultDir": "/OMERO/certs",
    "IceSSL.CertFile": "server.pem",
    "IceSSL.KeyFile": "server.key",
    "IceSSL.Ciphers": "HIGH",
    "IceSSL.VerifyPeer": "0",
    "Ice.MessageSizeMax": "250000",
    "Ice.CacheMessageBuffers": "0",
    "Ice.Override.ConnectTimeout": "5000",
    "Glacier2.InstanceName": "OMERO.Glacier2",
    "Glacier2.Client.Endpoints": "tcp -p 4063:ssl -p 4064",
    "Glacier2.Server.Endpoints": "tcp",
    "Glacier2.PermissionsVerifier": "BlitzVerifier@BlitzAdapters",
    "Glacier2.SessionManager": "BlitzManager@BlitzAdapters",
    "Glacier2.SessionTimeout": "600",
    "Glacier2.Client.ForwardContext": "1",
    "Glacier2.Filter.Category.Accept": "ProcessCallback ProcessorCallback",
}
#: Servers of a real grid that the stand-in has no counterpart of, or does itself.
WITHOUT_COUNTERPART = {"Indexer", "PixelData", "DropBox", "MonitorServer", "FileServer", "TestDropBox", "Storm"}


def nodes(descriptors: str) -> dict[str, list[str]]:
    """The servers of each node."""
    found: dict[str, list[str]] = {}
    for word in descriptors.split():
        name, colon, servers = word.partition(":")
        if not colon or not servers:
            raise ValueError(f"node descriptor {word!r} is not NODE:SERVER,SERVER")
        found.setdefault(name, []).extend(servers.split(","))
    return found


def application(descriptors: str) -> Element:
    """The descriptor of the application."""
    root = Element("icegrid")
    grid = SubElement(root, "application", name="OMERO")
    SubElement(grid, "variable", name="PYTHON", value="python")
    _blitz_template(grid)
    _python_template(grid, "Processor")
    _python_template(grid, "Tables")
    _router_template(grid)
    group = SubElement(grid, "replica-group", id="BlitzAdapters")
    SubElement(group, "load-balancing", type="adaptive")
    SubElement(group, "object", identity="BlitzManager", type="::Glacier2::SessionManager")
    SubElement(group, "object", identity="BlitzVerifier", type="::Glacier2::PermissionVerifier")
    for name, servers in nodes(descriptors).items():
        node = SubElement(grid, "node", name=name)
        if name == "master":
            SubElement(node, "server-instance", template="Glacier2Template")
        for server in servers:
            _instance(node, server)
    return root


def _instance(node: Element, server: str) -> None:
    kind, _, index = server.partition("-")
    if kind in WITHOUT_COUNTERPART:
        print(f"grid: {server} is left out: the stand-in has no such server", file=sys.stderr)
    elif kind in ("Blitz", "Tables", "Processor") and re.fullmatch(r"\d+", index):
        SubElement(node, "server-instance", template=f"{kind}Template", index=index)
    else:
        raise ValueError(f"there is no template for the server {server!r} of omero.server.nodedescriptors")


def _template(grid: Element, kind: str, **server: str) -> Element:
    template = SubElement(grid, "server-template", id=f"{kind}Template")
    SubElement(template, "parameter", name="index")
    if server["exe"] == "${exe}":
        SubElement(template, "parameter", {"name": "exe", "default": "${PYTHON}"})
    return SubElement(template, "server", {"id": kind + "-${index}", "activation": "always", **server})


def _properties(server: Element, values: dict[str, str]) -> None:
    group = SubElement(server, "properties")
    for name, value in values.items():
        SubElement(group, "property", name=name, value=value)


def _python_template(grid: Element, kind: str) -> None:
    server = _template(grid, kind, exe="${exe}", pwd=os.environ["OMERODIR"])
    for word in ("-m", f"run{kind}"):
        SubElement(server, "option").text = word
    adapter = SubElement(server, "adapter", name=f"{kind}Adapter", endpoints="tcp")
    SubElement(adapter, "object", identity=kind + "-${index}", type=f"::omero::grid::{kind}")
    _properties(server, BASICS)


def _blitz_template(grid: Element) -> None:
    attributes = {"activation-timeout": "60", "deactivation-timeout": "5"}
    server = _template(grid, "Blitz", exe="${PYTHON}", pwd=os.environ["OMERODIR"], **attributes)
    for word in ("-m", os.environ["STAND_IN_MODULE"]):
        SubElement(server, "option").text = word
    SubElement(server, "env").text = f"PYTHONPATH={os.environ['STAND_IN_PATH']}"
    SubElement(
        server, "adapter",
        {"name": "BlitzAdapter", "id": "BlitzAdapter", "replica-group": "BlitzAdapters", "endpoints": "tcp -h 0.0.0.0"},
    )  # fmt: skip
    router = "OMERO.Glacier2/router:tcp -p 4063 -h @omero.host@"
    _properties(server, {**BASICS, "omero.data.dir": "/OMERO", "omero.router.insecure": router})


def _router_template(grid: Element) -> None:
    template = SubElement(grid, "server-template", id="Glacier2Template")
    server = SubElement(
        template, "server", {"id": "Glacier2", "exe": "glacier2router", "activation": "always", "pwd": "."}
    )
    _properties(server, ROUTER)


#: As the omero-server image calls it.
VARIABLE = "CONFIG_omero_server_nodedescriptors"


def main() -> int:
    """Print the descriptor for the descriptors of the environment."""
    descriptors = os.environ.get(VARIABLE) or "master:Blitz-0,Tables-0,Processor-0"
    try:
        root = application(descriptors)
    except ValueError as wrong:
        print(f"grid: error: {wrong}", file=sys.stderr)
        return 1
    ElementTree.indent(root)
    print(ElementTree.tostring(root, encoding="unicode"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
