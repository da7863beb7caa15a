"""The addresses of a sandbox as environment variables."""

from __future__ import annotations

import shlex
import sys

from sandbox.deployment import config_path
from sandbox.parts.account import cluster_home, cluster_user
from sandbox.parts.postgres import Postgres
from sandbox.parts.slurm import node_name, slurm_conf
from sandbox.parts.sshd import ALIAS, ssh_config
from sandbox.root import Root


def variables(root: Root) -> dict[str, str]:
    """The variables of the requested parts."""
    parts = set(root.requested_parts())
    found = {"SANDBOX_ROOT": str(root.path), "PYTHON": sys.executable}
    if "sshd" in parts:
        found |= {
            "SSH_CONFIG": str(ssh_config(root)),
            "SSH_HOST": ALIAS,
            "CLUSTER_USER": cluster_user(root),
            "CLUSTER_HOME": str(cluster_home(root)),
        }
    if "slurmctld" in parts:
        found |= {"SLURM_CONF": str(slurm_conf(root)), "CLUSTER_NODES": f"{node_name(root, 1)},{node_name(root, 2)}"}
    if "postgres" in parts:
        found["SQLALCHEMY_URL"] = Postgres(root).url()
    if "glacier2" in parts:
        found |= {
            "OMERO_HOST": "127.0.0.1",
            "OMERO_PORT": str(root.port("glacier2")),
            "OMERO_ROOT_PASSWORD": root.secret("omero-root"),
        }
    if "web" in parts:
        found["OMERO_WEB"] = f"http://127.0.0.1:{root.port('web')}"
    if "icegrid-registry" in parts:
        found["ICE_REGISTRY"] = f"127.0.0.1:{root.port('icegrid-registry')}"
    if "registry" in parts:
        found["REGISTRY"] = f"127.0.0.1:{root.port('registry')}"
    if {"sshd", "registry"} <= parts:
        found["BIOMERO_CONFIG"] = str(config_path(root.path))
    return found


def as_shell(root: Root) -> str:
    """The variables as shell assignments, one per line."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables(root).items())
