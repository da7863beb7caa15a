"""Names and passwords for container registries, from a file as docker and podman write it.

The file is not copied to the cluster: each pull gets its credentials on stdin. See containers-auth.json(5) for the
format: keys are registries, or registries with the first part of a path.
"""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path

from biomeroworker.cluster.containers.runtime import Reference, RegistryCredentials
from biomeroworker.errors import ConfigError

#: Names of Docker Hub in the file; references do not name it.
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


def reader(file: Path | None) -> Callable[[Reference], RegistryCredentials | None]:
    """A function that finds the credentials for an image; it reads the file each time, so new ones need no restart."""
    return lambda reference: login_for(reference, file) if file else None


def login_for(reference: Reference, file: Path) -> RegistryCredentials | None:
    """The credentials in the file for this image; the longest matching key counts.

    Raises
    ------
    ConfigError
        The file cannot be read, other accounts can read it, or its entry has no name and password. The message
        contains no value of the file.
    """
    try:
        if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"[SLURM] registry_credentials: other accounts can read {file}: chmod 600")
        entries = json.loads(file.read_text()).get("auths", {})
        keys = {_key(key): key for key in entries}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"[SLURM] registry_credentials: {file} cannot be read ({type(error).__name__})"
        ) from None  # a message of the JSON parser may contain a part of the file
    registries = [reference.registry] if reference.registry else list(_HUB)
    for registry in registries:
        parts = [registry, *reference.path.split("/")]
        for length in range(len(parts), 0, -1):
            if (key := "/".join(parts[:length])) in keys:
                return _login(entries[keys[key]], file, key)
    return None


def _key(key: str) -> str:
    """``https://index.docker.io/v1/`` as ``index.docker.io``."""
    bare = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    return bare.removesuffix("/v1").removesuffix("/v2")


def _login(entry: object, file: Path, key: str) -> RegistryCredentials:
    try:
        auth = entry["auth"] if isinstance(entry, dict) else ""
        username, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (KeyError, TypeError, ValueError):
        username = password = ""
    if not username or not password:
        raise ConfigError(f"[SLURM] registry_credentials: {file} has no name and password for {key}")
    return RegistryCredentials(username, password)
