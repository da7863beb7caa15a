"""Check the SSH configuration on this machine: keys, agent, known hosts. Opens no connection.

A shared connection that is still open would hide that the next login will fail. The checks parse the output of
``ssh -G``, ``ssh-keygen`` and ``ssh-add``, not the configuration itself.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from biomeroworker.config import ClusterSettings
from biomeroworker.domain.findings import Finding, fail, ok, warn

#: Time limit of one call of ssh, ssh-keygen or ssh-add.
_TIMEOUT_SECONDS = 15.0
#: Shorter RSA keys are reported as weak.
_MIN_RSA_BITS = 2048


def examine(cluster: ClusterSettings) -> Iterator[Finding]:
    """Yield the findings about the host of these cluster."""
    host = cluster.line("SSH", "host")
    resolved = _run([*_ssh(cluster), "-G", "--", cluster.ssh.host])
    if resolved.returncode:
        file = cluster.line("SSH", "config_file")
        errors = resolved.stderr.strip().splitlines()
        yield fail("ssh configuration", errors[-1] if errors else "ssh cannot read it", "correct the file", file)
        return
    site: dict[str, list[str]] = {}
    for line in resolved.stdout.splitlines():
        name, _, value = line.partition(" ")
        site.setdefault(name, []).append(value)
    yield _host_key(site, host)
    yield from _keys(site, host)


def _host_key(site: dict[str, list[str]], setting: str) -> Finding:
    name, port = _first(site, "hostname"), _first(site, "port") or "22"
    alias = _first(site, "hostkeyalias") or name
    sought = alias if port == "22" or _first(site, "hostkeyalias") else f"[{alias}]:{port}"
    files = [
        Path(word).expanduser() for key in ("userknownhostsfile", "globalknownhostsfile") for word in _words(site, key)
    ]
    strict = _first(site, "stricthostkeychecking")
    if strict in ("no", "off", "false"):
        remedy = "remove StrictHostKeyChecking from the SSH configuration"
        return fail("host key", "host keys are not checked", remedy, setting)
    if _words(site, "knownhostscommand") and _first(site, "knownhostscommand") != "none":
        return ok("host key", "provided by KnownHostsCommand")
    for file in files:
        if file.is_file():
            found = _run(["ssh-keygen", "-F", sought, "-f", str(file)])
            kinds = sorted(set(re.findall(r"^\S+ (?:\S+ )?((?:ssh|ecdsa|sk)-\S+) ", found.stdout, re.MULTILINE)))
            if found.returncode == 0 and "# Host" in found.stdout:
                return ok("host key", f"{sought} is known ({', '.join(kinds) or 'by its authority'}) in {file}")
    where = files[0] if files else Path("~/.ssh/known_hosts")
    remedy = f"compare its key with the one that the site publishes, then: ssh-keyscan -p {port} {name} >> {where}"
    if strict == "accept-new":
        message = f"{sought} is in no known_hosts file; ssh will accept any key at the first connection"
        return warn("host key", message, remedy, setting)
    return fail("host key", f"{sought} is in no known_hosts file", remedy, setting)


def _keys(site: dict[str, list[str]], setting: str) -> Iterator[Finding]:
    agent = _agent(site)
    files = [Path(name).expanduser() for name in _words(site, "identityfile", split=False)]
    existing = [file for file in files if file.exists()]
    use_agent = bool(agent) and _first(site, "identitiesonly") != "yes"
    for file in existing:
        yield _key(file, agent, setting)
    if use_agent:
        yield ok("ssh agent", f"offers {len(agent)} key{'s' if len(agent) > 1 else ''}")
    if not existing and not use_agent:
        yield fail(
            "ssh key",
            f"no key: the SSH configuration names {', '.join(map(str, files)) or 'no file'}, and no agent has a key",
            "set IdentityFile in the SSH configuration, or SSH_AUTH_SOCK in the worker's environment",
            setting,
        )


def _key(file: Path, agent: set[str], setting: str) -> Finding:
    subject = f"ssh key {file}"
    try:
        mode = file.stat().st_mode
        readable = os.access(file, os.R_OK)
    except OSError as error:
        remedy = "give the worker's account read access"
        return fail(subject, f"cannot be examined ({error.strerror})", remedy, setting)
    if not stat.S_ISREG(mode) or not readable:
        remedy = "give the worker's account read access"
        return fail(subject, "is not a file that this account can read", remedy, setting)
    if stat.S_IMODE(mode) & 0o077 and file.stat().st_uid == os.getuid():
        message = f"has mode {stat.S_IMODE(mode):04o}: ssh ignores a key that others can read"
        return fail(subject, message, f"chmod 600 {file}")
    described = _run(["ssh-keygen", "-l", "-f", str(file)])
    kind = re.match(r"(\d+) (\S+) .*\((\S+)\)\s*$", described.stdout)
    opened = _run(["ssh-keygen", "-y", "-P", "", "-f", str(file)])
    fingerprint = kind[2] if kind else ""
    if opened.returncode:
        if "passphrase" not in opened.stderr:
            errors = opened.stderr.strip().splitlines()
            message = f"is not a private key: {errors[-1] if errors else ''}"
            return fail(subject, message, "create one: ssh-keygen -t ed25519", setting)
        if fingerprint and fingerprint in agent:
            return ok(subject, f"{_kind(kind)}; has a passphrase, and the agent has the key")
        return fail(
            subject,
            f"{_kind(kind)}; has a passphrase, and no agent has the key",
            f"load it into the agent of the worker's SSH_AUTH_SOCK: ssh-add {file}",
        )
    if kind and (kind[3] == "DSA" or (kind[3] == "RSA" and int(kind[1]) < _MIN_RSA_BITS)):
        message = f"{_kind(kind)}: current SSH servers refuse such keys"
        return warn(subject, message, "create another: ssh-keygen -t ed25519")
    return ok(subject, _kind(kind))


def _kind(match: re.Match[str] | None) -> str:
    return f"{match[3]} {match[1]}" if match else "of unknown kind"


def _agent(site: dict[str, list[str]]) -> set[str]:
    """Fingerprints of the keys that the agent offers."""
    socket = _first(site, "identityagent") or "SSH_AUTH_SOCK"
    if socket == "none":
        return set()
    environment = dict(os.environ)
    if socket != "SSH_AUTH_SOCK":
        environment["SSH_AUTH_SOCK"] = str(Path(socket).expanduser())
    if not environment.get("SSH_AUTH_SOCK"):
        return set()
    listed = _run(["ssh-add", "-l"], environment)
    return (
        {words[1] for line in listed.stdout.splitlines() if len(words := line.split()) > 2}
        if not listed.returncode
        else set()
    )


def _ssh(cluster: ClusterSettings) -> list[str]:
    return ["ssh", *(["-F", str(cluster.ssh.config_file)] if cluster.ssh.config_file else [])]


def _first(site: dict[str, list[str]], key: str) -> str:
    return site.get(key, [""])[0]


def _words(site: dict[str, list[str]], key: str, *, split: bool = True) -> list[str]:
    values = [value for value in site.get(key, []) if value]
    return [word for value in values for word in (value.split() if split else [value])]


def _run(argv: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(argv, 1, "", f"{argv[0]}: {type(error).__name__}")
