"""Container images on the cluster: references, file names, versions; and the interface of the runtimes. Pure.

A runtime (`apptainer`, `charliecloud`) builds command lines. The file of an image has the same name as in existing
deployments, ``<images>/<workflow path>/<name>_<version>.sif``, so that their images are found. Beside it is a record,
``<image>.json``, with the reference that was pulled and the SHA-256 of the file, for provenance.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from biomeroworker.domain.cluster_paths import container_problem
from biomeroworker.errors import ConfigError

_NAME = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
#: The grammar of the OCI distribution specification (github.com/distribution/reference), with its optional parts.
_REFERENCE = re.compile(
    rf"(?:(?P<registry>localhost(?::\d+)?|[A-Za-z0-9.-]+\.[A-Za-z0-9.-]+(?::\d+)?|[A-Za-z0-9.-]+:\d+)/)?"
    rf"(?P<path>{_NAME}(?:/{_NAME})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Reference:
    """A container image by name: ``org/name:tag``, ``ghcr.io/org/name``, ``127.0.0.1:5000/lab/x:v1``, by digest."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a reference; `ConfigError` if it is not one."""
        match = _REFERENCE.fullmatch(text.strip().removeprefix("docker://"))
        if not match:
            raise ConfigError(f"{text!r} does not name a container image (org/name:tag)")
        return cls(match["registry"] or "", match["path"], match["tag"] or "", match["digest"] or "")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def version(self) -> str:
        """The version that the reference names: its tag, else a part of its digest, else ``latest``."""
        return self.tag or (f"sha256-{self.digest[7:19]}" if self.digest else "latest")

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on the same machine, where container tools use HTTP."""
        host = self.registry.partition(":")[0]
        return host == "localhost" or host.startswith("127.")

    def at(self, version: str) -> Reference:
        """The same image in another version; itself when ``version`` is empty."""
        if not version or version == self.version:
            return self
        if not _VERSION.fullmatch(version):
            raise ConfigError(f"{version!r} is not a version of a container image")
        return Reference(self.registry, self.path, version)

    def __str__(self) -> str:
        prefix = f"{self.registry}/" if self.registry else ""
        # Only the digest, if there is one: tools disagree on which wins if both are given.
        suffix = f"@{self.digest}" if self.digest else f":{self.version}"
        return f"{prefix}{self.path}{suffix}"


@dataclass(frozen=True)
class Image:
    """An image on the cluster: ``digest`` is ``sha256:`` of the file, empty if there is no record of it."""

    path: str
    version: str
    digest: str = ""


class Runtime(Protocol):
    """The command lines of one container program. A prefix is an argv; words that are appended arrive unchanged."""

    program: str
    suffix: str

    def run_prefix(self, image: str, *, binds: Sequence[str], gpu: bool = False) -> list[str]:
        """The argv that runs the image's own entry point; its arguments are appended.

        ``binds`` are folders that the container sees under their own paths; the first is its home. The exit code is
        that of the entry point, or 128 plus the number of a signal. 255 with a line ``FATAL: …`` means that the runtime
        itself failed.
        """
        ...

    def exec_prefix(self, image: str, *, binds: Sequence[str], gpu: bool = False) -> list[str]:
        """The argv that runs a program in the image; the program and its arguments are appended."""
        ...

    def pull_command(self, reference: Reference, target: str, *, replace: bool = False) -> list[str]:
        """Put an image at ``target``, atomically, unless it exists or is to be replaced. Prints the record.

        Name and password for the registry are read from stdin, one per line (`RegistryCredentials.lines`), if it is not
        empty.
        """
        ...

    def outdated(self, record: Mapping[str, Any]) -> str:
        """Why an image with this record cannot be run with the present configuration; empty if it can."""
        ...


@dataclass(frozen=True)
class RegistryCredentials:
    """Name and password (or token) for a registry. They are sent on stdin, and are in no argv, log or event."""

    username: str
    password: str = field(repr=False)

    @property
    def lines(self) -> bytes:
        """As `Runtime.pull_command` reads them."""
        if any(character in self.username + self.password for character in "\n\r\0"):
            raise ConfigError("the name and password for a registry must not contain a line break")
        return f"{self.username}\n{self.password}\n".encode()


def plain(folder: str) -> str:
    """A folder, checked for use in a bind option."""
    if not folder.startswith("/"):
        raise ConfigError(f"{folder!r} cannot be given to a container: it is not absolute")
    if problem := container_problem(folder):
        raise ConfigError(f"{folder!r}: {problem}")
    return folder


def image_file(reference: Reference, suffix: str = ".sif") -> str:
    """The file name of an image: ``<name>_<version>.sif``."""
    return f"{reference.name}_{reference.version}{suffix}"


def converter_file(key: str, reference: Reference, suffix: str = ".sif") -> str:
    """The file name of a converter's image: ``convert_<key>_<version>.sif``."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", key):
        raise ConfigError(f"[CONVERTERS] {key!r} is not a name like zarr_to_tiff")
    return f"convert_{key}_{reference.version}{suffix}"


# -- images on the cluster
# -----------------------------------------------------------------------------------------------------

#: $1 suffix, then any number of folders. Prints the home folder, then the names of the images in each folder.
_LIST = r"""
suffix=$1; shift
printf 'home %s\n' "$(cd && pwd)"
cd || exit
for folder do
  printf 'folder %s\n' "$folder"
  [ -d "$folder" ] || continue
  find "$folder/" -maxdepth 1 -type f -size +0 -name "*$suffix" -printf 'image %f\n'
done
"""

#: $1 image, $2 suffix. Prints the home folder, whether the image exists, its record, and the images in its folder.
_PROBE = r"""
printf 'home %s\n' "$(cd && pwd)"
cd || exit
[ ! -s "$1" ] || { echo there; [ ! -r "$1.json" ] || { printf 'record '; tr -d '\n' <"$1.json"; echo; }; }
find "${1%/*}/" -maxdepth 1 -type f -size +0 -name "*$2" -printf 'image %f\n' 2>/dev/null
:
"""


def list_versions_command(folders: Sequence[str], suffix: str) -> list[str]:
    """One remote execution that lists the images of all folders; relative ones start at the home folder."""
    return ["sh", "-c", _LIST, "images", suffix, *folders]


def parse_versions(text: str) -> dict[str, list[str]]:
    """The versions in each folder, newest first; an empty list for a folder without images."""
    found: dict[str, list[str]] = {}
    folder = ""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "folder":
            folder = rest
            found[folder] = []
        elif word == "image" and folder in found:
            found[folder].append(rest)
    return {folder: versions(names) for folder, names in found.items()}


def probe_command(image: str, suffix: str) -> list[str]:
    """One remote execution that looks for an image, its record, and the other images in its folder."""
    return ["sh", "-c", _PROBE, "image", image, suffix]


@dataclass(frozen=True)
class ImageProbe:
    """The answer to `probe_command`."""

    home: str
    there: bool
    record: Mapping[str, Any]
    beside: tuple[str, ...]

    @property
    def digest(self) -> str:
        """``sha256:`` of the image's file from its record; empty if there is none."""
        return digest_in(self.record)


def parse_probe(text: str) -> ImageProbe:
    """Parse the answer to `probe_command`; an invalid record counts as none."""
    home, there, record, beside = "", False, {}, []
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "home":
            home = rest
        elif word == "there":
            there = True
        elif word == "record":
            record = parse_record(rest)
        elif word == "image":
            beside.append(rest)
    return ImageProbe(home, there, record, tuple(beside))


def parse_record(text: str) -> dict[str, Any]:
    """The fields of a record; none if it is invalid."""
    try:
        record = json.loads(text)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def digest_in(record: Mapping[str, Any]) -> str:
    """The digest in a record, as ``sha256:…``; empty if there is none."""
    digest = str(record.get("sha256", ""))
    return f"sha256:{digest}" if re.fullmatch(r"[0-9a-f]{64}", digest) else ""


_LIKE_A_VERSION = re.compile(r"[vV]?\d|latest$|sha256-")


def version_of(name: str) -> str:
    """The version in an image's file name: the shortest part after an underscore that looks like a version."""
    words = name.rpartition(".")[0].split("_")
    tails = ["_".join(words[at:]) for at in range(len(words) - 1, 0, -1)]
    return next((tail for tail in tails if _LIKE_A_VERSION.match(tail)), tails[0] if tails else "")


def versions(names: Iterable[str]) -> list[str]:
    """The versions in image file names, newest first: v1.10 before v1.9, v2.0 before v2.0-rc1, ``latest`` last."""
    return sorted({version_of(name) for name in names} - {""}, key=version_key, reverse=True)


def version_key(version: str) -> tuple[object, ...]:
    """Sort key: numbers by value, a pre-release before its release, words before numbers."""
    numbers = re.match(r"[vV]?(\d+(?:\.\d+)*)", version)
    if not numbers:
        return (0, (), 0, version)
    rest = version[numbers.end() :]
    pre_release = bool(re.match(r"[-_.]?(?:a|alpha|b|beta|rc|pre|dev)(?![a-z])", rest, re.IGNORECASE))
    counted = [int(part) for part in numbers[1].split(".")]
    while counted and counted[-1] == 0:
        counted.pop()
    return (
        1,
        tuple(counted),
        0 if pre_release else 1,
        [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.findall(r"\d+|\D+", rest)],
    )
