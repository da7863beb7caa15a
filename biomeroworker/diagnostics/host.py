"""Sections about this machine: versions, environment, configuration, and a list of files."""

from __future__ import annotations

import datetime
import grp
import importlib.metadata
import os
import platform
import pwd
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from biomeroworker import __version__
from biomeroworker.config.files import config_files, standard_files
from biomeroworker.diagnostics.commands import NotAvailable, run_program
from biomeroworker.diagnostics.known_secrets import is_secret_variable
from biomeroworker.diagnostics.redaction import MASK
from biomeroworker.diagnostics.sections import Context, File, Notes

_PROGRAMS = (("ssh", "-V"), ("icegridnode", "--version"), ("icegridadmin", "--version"), ("icestormadmin", "--version"))
_PROGRAM_SECONDS = 10.0

#: Variables that biomeroworker, Ice, OMERO or Python read. Others are not collected, not even their names.
_VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSH_AUTH_SOCK", "TZ", "LANG"),
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "VIRTUAL_ENV", "OMERODIR", "ROOTPASS"),
    *("SQLALCHEMY_URL", "PERSISTENCE_MODULE", "INGEST_TRACKING_DB_URL", "IMPORTER_ENABLED", "USE_INPLACE_ATTACHMENTS"),
)
_PREFIXES = ("BIOMERO", "OMERO_", "CONFIG_", "ICE_", "SLURM_", "SSH_", "SQLALCHEMY_", "GPU_", "PYTHON", "LC_", "XDG_")

#: Maximum number of files that are listed per folder.
_FILES_PER_FOLDER = 200


def versions(context: Context, notes: Notes) -> Iterator[File]:
    """Versions of biomeroworker, Python, the system, the programs that it uses, and all installed distributions."""
    now = datetime.datetime.now().astimezone()
    lines = [
        f"biomeroworker {__version__}",
        f"Python {platform.python_version()} ({sys.executable})",
        f"system {_system()}",
        f"kernel {platform.release()} {platform.machine()}",
        f"processors {os.cpu_count()}",
        f"account {_user(os.geteuid())} (uid {os.geteuid()})",
        f"time {now.isoformat(timespec='seconds')}",
    ]
    for argv in _PROGRAMS:
        try:
            answer = run_program(argv, seconds=_PROGRAM_SECONDS)
            printed = answer.text.strip().partition("\n")[0] or f"status {answer.code}"
            lines.append(f"{argv[0]} {'did not answer' if answer.timed_out else printed}")
        except NotAvailable as reason:
            lines.append(f"{argv[0]}: {reason}")
    installed = sorted(
        {(found.name or "?", found.version or "?") for found in importlib.metadata.distributions()},
        key=lambda pair: (pair[0].lower(), pair[1]),
    )
    named = dict(installed)
    lines += [f"{name} {named.get(name, 'is not installed')}" for name in ("zeroc-ice", "omero-py")]
    yield "versions/versions.txt", _text(lines)
    yield "versions/distributions.txt", _text(f"{name}=={version}" for name, version in installed)


def environment(context: Context, notes: Notes) -> Iterator[File]:
    """The relevant variables; the values of secrets are masked."""
    lines = []
    for name, value in sorted(context.environ.items()):
        if name in _VARIABLES or name.startswith(_PREFIXES):
            hidden = is_secret_variable(name) and not (name.endswith("_FILE") and Path(value).is_file())
            lines.append(f"{name}={MASK if hidden and value else value}")
    yield "environment/environment.txt", _text(lines)


def configuration(context: Context, notes: Notes) -> Iterator[File]:
    """Each effective setting with its origin, and the files that can set one. The content of files is not collected."""
    rule = config_files(context.environ, context.config).rule
    yield "configuration/files.txt", _text([f"rule: {rule}", *_files(context)])
    if context.settings is None:
        notes.findings.append("the configuration cannot be used: see configuration/error.txt")
        yield "configuration/error.txt", context.config_error + "\n"
        return
    origins = context.settings.origins
    shown = context.settings.shown().items()
    yield (
        "configuration/settings.txt",
        _text(f"{key} = {value}  [{origins.get(key, 'default')}]" for key, value in shown),
    )
    if context.settings.warnings:
        yield "configuration/warnings.txt", _text(context.settings.warnings)


def ini_files(context: Context) -> list[Path]:
    """The ini files that may exist, in the order in which they are read. `config_files` decides which ones apply."""
    files = config_files(context.environ, context.config)
    return list(dict.fromkeys((*standard_files(context.environ), *files.optional, *files.required)))


def key_folders(context: Context) -> list[Path]:
    """Folders with SSH keys: that of the account, and the mount of the container."""
    return [context.home / ".ssh", Path("/tmp/.ssh")]  # noqa: S108  # a mount's fixed name; only read


def ice_files(context: Context) -> list[Path]:
    """Configuration files of Ice and OMERO, which contain passwords; they are read only to find these."""
    etc = context.server / "etc"
    try:
        found = sorted(etc.glob("*.cfg"))
    except OSError:
        found = []
    named = [Path(part) for part in context.environ.get("ICE_CONFIG", "").split(",") if part]
    return [*found, etc / "ice.config", etc / "grid/config.xml", *named]


def _files(context: Context) -> Iterator[str]:
    yield "# mode owner group bytes path"
    for file in ini_files(context):
        yield _described(file)
    secrets = [
        Path(value)
        for name, value in sorted(context.environ.items())
        if name.endswith("_FILE") and is_secret_variable(name.removesuffix("_FILE")) and value.startswith("/")
    ]
    for path in dict.fromkeys([*secrets, *ice_files(context)]):
        yield _described(path)
    folders = key_folders(context)
    if context.settings is not None:
        folders += [context.settings.worker.work_folder, context.settings.state]
    for folder in folders:
        yield _described(folder)
        try:
            yield from (_described(file) for file in sorted(folder.iterdir())[:_FILES_PER_FOLDER])
        except OSError as error:
            if folder.exists():
                yield f"{folder} cannot be listed: {error.strerror}"


def _described(path: Path) -> str:
    try:
        found = path.lstat()
    except OSError as error:
        return f"-  {path}: {error.strerror}"
    link = f" -> {path.readlink()}" if stat.S_ISLNK(found.st_mode) else ""
    owner, group = _user(found.st_uid), _group(found.st_gid)
    return f"{stat.filemode(found.st_mode)} {owner} {group} {found.st_size} {path}{link}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _text(lines: Iterator[str] | list[str] | tuple[str, ...]) -> str:
    return "".join(f"{line}\n" for line in lines)
