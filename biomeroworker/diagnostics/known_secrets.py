"""Find the secrets that this account can read, so that their values can be removed from the archive.

Nothing is written. The archive cannot contain secrets of files that this account cannot read.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from pydantic import SecretStr

from biomeroworker.config import SECTIONS, Settings, rendering
from biomeroworker.diagnostics.redaction import is_secret_name

#: Larger files are skipped: files with secrets are small.
_LARGEST_FILE_BYTES = 1_000_000
#: Shorter lines of a private key are headers.
_KEY_LINE_CHARACTERS = 20

_PASSWORD_IN_URL = re.compile(r"://(?:[^/\s:@]*:)?([^/\s]+)@")
_OPTION = re.compile(r"\s*(?P<key>[^=:\s]+)\s*[=:]\s*(?P<value>.*)")
_XML_PROPERTY = re.compile(r'name="(?P<key>[^"]+)"\s+value="(?P<value>[^"]+)"')
_JSON_ENTRY = re.compile(r'"(?:auth|identitytoken|password)"\s*:\s*"([^"]+)"')

_SECRET_FIELDS = {
    key: rendering.field_extras(field).get("env", [])
    for section in SECTIONS.values()
    for key, field in section.model_fields.items()
    if "SecretStr" in str(field.annotation)
}
#: Keys of the ini whose values are secrets.
SECRET_KEYS = frozenset(_SECRET_FIELDS)
#: Environment variables that override them.
SECRET_VARIABLES = frozenset(name for names in _SECRET_FIELDS.values() for name in names) | {"INGEST_TRACKING_DB_URL"}


def is_secret_variable(name: str) -> bool:
    """Whether the value of an environment variable is a secret."""
    return name in SECRET_VARIABLES or is_secret_name(name)


def known_values(
    settings: Settings | None, environ: Mapping[str, str], ini_files: Iterable[Path], folders: Iterable[Path]
) -> Iterator[str]:
    """Yield the secrets of the environment, the configuration and Ice's files, and the lines of private keys.

    Parameters
    ----------
    ini_files
        Files with ``key = value``: ini files and configurations of Ice. They may be invalid.
    folders
        Folders with private keys.
    """
    for name, value in environ.items():
        yield from _of_value(value, is_secret=is_secret_variable(name) and not name.endswith("_FILE"))
        if name.endswith("_FILE") and is_secret_variable(name.removesuffix("_FILE")):
            content = _read(Path(value))
            yield from _of_value(content, is_secret=True)
            if not content and not Path(value).is_absolute():  # by mistake the secret itself
                yield value
    for file in ini_files:
        yield from _of_options(_read(file))
    if settings is not None:
        for section in (settings.analytics, settings.notifications):
            for value in dict(section).values():
                if isinstance(value, SecretStr):
                    yield from _of_value(value.get_secret_value(), is_secret=True)
        for cluster in settings.clusters.values():
            if logins := cluster.slurm.registry_credentials:
                yield from _of_logins(_read(logins))
    for folder in folders:
        yield from _of_keys(folder)


def _of_value(value: str, *, is_secret: bool) -> Iterator[str]:
    """A secret as a whole; of a URL also its password and its path, which is the secret of a webhook's address."""
    for password in _PASSWORD_IN_URL.findall(value):
        yield password
        yield unquote(password)
    if is_secret and not _is_file(value):
        yield value
        scheme, found, rest = value.partition("://")
        if found and scheme.startswith("http"):
            yield rest.partition("/")[2]


def _is_file(value: str) -> bool:
    """Whether a value is the path of a file with a secret, not the secret itself."""
    try:
        return value.startswith(("/", "~")) and Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def _of_options(text: str) -> Iterator[str]:
    """The secrets of a file with options, found by their keys; includes continued lines, and XML like config.xml."""
    is_secret = False
    for line in text.splitlines():
        option = _OPTION.match(line)
        if line[:1].isspace() and is_secret:
            yield from _of_value(line.strip(), is_secret=True)
        elif option:
            is_secret = option["key"].lower() in SECRET_KEYS or is_secret_name(option["key"])
            yield from _of_value(option["value"], is_secret=is_secret)
        for found in _XML_PROPERTY.finditer(line):
            yield from _of_value(found["value"], is_secret=is_secret_name(found["key"]))


def _of_logins(text: str) -> Iterator[str]:
    """The logins in a file that ``podman login --authfile`` writes."""
    for entry in _JSON_ENTRY.findall(text):
        yield entry
        try:
            yield base64.b64decode(entry, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            continue


def _of_keys(folder: Path) -> Iterator[str]:
    try:
        files = sorted(folder.iterdir())
    except OSError:
        return
    for file in files:
        text = _read(file)
        if "PRIVATE KEY-----" in text:
            yield from (line for line in text.splitlines() if len(line) >= _KEY_LINE_CHARACTERS and "-----" not in line)


def _read(file: Path) -> str:
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_FILE_BYTES:
            return ""
        return file.read_text(errors="replace")
    except (OSError, ValueError):
        return ""
