"""The environment variables of the node that OMERO scripts get: allowed variables, and secrets that are never passed.

The table in the documentation is generated from this list.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from biomeroworker.config.node_settings import is_secret_of_the_worker

_BY_OMERO = "Variables that omero-py passes"
#: Variables by purpose. A trailing star allows all variables with this prefix.
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "Proxies": (
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    ),
    "Certificate authorities": ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "Settings of biomeroworker, except the secrets below": ("BIOMERO*", "GPU_PARTITION", "GPU_GRES", "GPU_GPUS"),
    "Database of the event log; storage module of the event library": (*("SQLALCHEMY_URL", "PERSISTENCE_MODULE"),),
    "Importer and data folder": (
        *("IMPORTER_ENABLED", "INGEST_TRACKING_DB_URL", "USE_INPLACE_ATTACHMENTS", "OMERO_DATA_DIR"),
    ),
    "Address of OMERO for logins": ("OMERO_HOST", "OMERO_PORT"),
    "SSH agent, time zone, character set, folders of the account": (
        *("SSH_AUTH_SOCK", "TZ", "LC_CTYPE", "VIRTUAL_ENV", "XDG_*"),
    ),
    _BY_OMERO: (
        *("PATH", "PYTHONPATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "DISPLAY", "CLASSPATH", "LD_LIBRARY_PATH"),
        *("DYLD_LIBRARY_PATH", "JYTHON_HOME", "MLABRAW_CMD_STR", "OMERODIR", "OMERO_HOME", "OMERO_TEMPDIR"),
        *("OMERO_TMPDIR", "ICE_CONFIG"),
    ),
}

#: Text of the documentation about variables that are never passed; `is_secret_of_the_worker` decides.
NEVER = (
    "`OMERO_PASSWORD`, `OMERO_ROOT_PASSWORD` and `OMERO_LOCATOR`: with them a script could act as the worker",
    "`BIOMERO_WEBHOOK_URL`: only the supervisor sends notifications",
    "variables `BIOMERO…` that end with `PASSWORD`, `SECRET` or `TOKEN`",
    "each of these names with `_FILE` at its end",
)


def script_environment(given: Mapping[str, str], forward: Iterable[str] = ()) -> dict[str, str]:
    """The variables of ``given`` that scripts get, in addition to those that omero-py passes.

    Parameters
    ----------
    forward
        Further allowed variables, from ``[NODE] forward_env``.
    """
    names = [name for group, group_names in ALLOWED.items() if group != _BY_OMERO for name in group_names]
    names += forward
    prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
    return {
        name: value
        for name, value in given.items()
        if (name in names or name.startswith(prefixes)) and not is_secret_of_the_worker(name)
    }


def without_node(python_path: str) -> str:
    """A PYTHONPATH without this folder, which only IceGrid needs: scripts must not import its modules."""
    here = Path(__file__).resolve().parent
    return os.pathsep.join(entry for entry in python_path.split(os.pathsep) if entry and Path(entry).resolve() != here)


def environment_table() -> str:
    """The list as a Markdown table."""
    lines = ["| variables | purpose |", "|---|---|"]
    for meaning, names in ALLOWED.items():
        lines.append(f"| {', '.join(f'`{name}`' for name in names)} | {meaning} |")
    lines.append("| the variables that `[NODE] forward_env` names | Variables of the site |")
    return "\n".join([*lines, "", "Scripts never see:", "", *(f"* {line}" for line in NEVER)]) + "\n"
