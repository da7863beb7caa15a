"""How to reach a running sandbox, as environment variables."""

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
    """Name and value of each; only of the parts that were ever asked for."""
    asked = set(root.asked())
    found = {"SANDBOX_ROOT": str(root.path), "PYTHON": sys.executable}
    if "sshd" in asked:
        found |= {
            "SSH_CONFIG": str(ssh_config(root)),
            "SSH_HOST": ALIAS,
            "CLUSTER_USER": cluster_user(root),
            "CLUSTER_HOME": str(cluster_home(root)),
        }
    if "slurmctld" in asked:
        found |= {"SLURM_CONF": str(slurm_conf(root)), "CLUSTER_NODES": f"{node_name(root, 1)},{node_name(root, 2)}"}
    if "postgres" in asked:
        found["SQLALCHEMY_URL"] = Postgres(root).url()
    if "glacier2" in asked:
        found |= {
            "OMERO_HOST": "127.0.0.1",
            "OMERO_PORT": str(root.port("glacier2")),
            "OMERO_ROOT_PASSWORD": root.secret("omero-root"),
        }
    if "icegrid-registry" in asked:
        found["ICE_REGISTRY"] = f"127.0.0.1:{root.port('icegrid-registry')}"
    if "registry" in asked:
        found["REGISTRY"] = f"127.0.0.1:{root.port('registry')}"
    if {"sshd", "registry"} <= asked:
        found["BIOMERO_CONFIG"] = str(config_path(root.path))
    return found


def as_shell(root: Root) -> str:
    """One quoted assignment a line."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables(root).items())
