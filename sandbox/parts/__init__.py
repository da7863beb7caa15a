"""All parts in the order of their start: each after the parts that it needs."""

from __future__ import annotations

from sandbox.part import Part
from sandbox.parts.account import Account
from sandbox.parts.apptainer import Apptainer
from sandbox.parts.charliecloud import Charliecloud
from sandbox.parts.grid import Blitz, Glacier2, IceGridNode, IceGridRegistry, Processor, Tables
from sandbox.parts.mariadb import MariaDB
from sandbox.parts.postgres import Postgres
from sandbox.parts.registry import Registry
from sandbox.parts.slurm import Munge, Slurmctld, Slurmd1, Slurmd2, Slurmdbd
from sandbox.parts.sshd import Sshd
from sandbox.parts.web import Web

PARTS: tuple[type[Part], ...] = (
    Postgres,
    Registry,
    Account,
    Apptainer,
    Charliecloud,
    Sshd,
    Munge,
    MariaDB,
    Slurmdbd,
    Slurmctld,
    Slurmd1,
    Slurmd2,
    IceGridRegistry,
    IceGridNode,
    Blitz,
    Glacier2,
    Tables,
    Processor,
    Web,
)

#: Names of groups of parts, for ``--only`` and ``--without``.
GROUPS: dict[str, tuple[str, ...]] = {
    "cluster": ("account", "sshd", "munge", "mariadb", "slurmdbd", "slurmctld", "slurmd-1", "slurmd-2"),
    "omero": ("icegrid-registry", "icegrid-node", "blitz", "glacier2", "tables", "processor"),
}
