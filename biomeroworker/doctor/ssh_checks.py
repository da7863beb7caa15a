"""The way to the cluster, as far as it can be examined on this machine: keys, agent, known hosts.

Nothing connects: a shared connection that is still up would hide that the next one will be refused. What the system's
own tools say (``ssh -G``, ``ssh-keygen``, ``ssh-add``) is read, no configuration is parsed here.
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

_TIMEOUT_SECONDS = 15.0
#: RSA keys of fewer bits are reported as weak.
_WEAK_RSA = 2048


def examine(cluster: ClusterSettings) -> Iterator[Finding]:
    """The findings, without connecting."""
    host = cluster.line("SSH", "host")
    asked = _run([*_ssh(cluster), "-G", "--", cluster.ssh.host])
    if asked.returncode:
        file = cluster.line("SSH", "config_file")
        said = asked.stderr.strip().splitlines()
        yield fail("ssh configuration", said[-1] if said else "ssh does not read it", "mend the file", file)
        return
    site: dict[str, list[str]] = {}
    for line in asked.stdout.splitlines():
        name, _, value = line.partition(" ")
        site.setdefault(name, []).append(value)
    yield from _known(site, host)
    yield from _keys(site, host)


def _known(site: dict[str, list[str]], setting: str) -> Iterator[Finding]:
    name, port = _first(site, "hostname"), _first(site, "port") or "22"
    alias = _first(site, "hostkeyalias") or name
    sought = alias if port == "22" or _first(site, "hostkeyalias") else f"[{alias}]:{port}"
    files = [
        Path(word).expanduser() for key in ("userknownhostsfile", "globalknownhostsfile") for word in _words(site, key)
    ]
    strict = _first(site, "stricthostkeychecking")
    if strict in ("no", "off", "false"):
        yield fail(
            "host key", "host keys are not checked", "remove StrictHostKeyChecking from the SSH configuration", setting
        )
        return
    if _words(site, "knownhostscommand") and _first(site, "knownhostscommand") != "none":
        yield ok("host key", "asked of KnownHostsCommand")
        return
    for file in files:
        if file.is_file():
            found = _run(["ssh-keygen", "-F", sought, "-f", str(file)])
            kinds = sorted(set(re.findall(r"^\S+ (?:\S+ )?((?:ssh|ecdsa|sk)-\S+) ", found.stdout, re.MULTILINE)))
            if found.returncode == 0 and "# Host" in found.stdout:
                yield ok("host key", f"{sought} is known ({', '.join(kinds) or 'by its authority'}) in {file}")
                return
    where = files[0] if files else Path("~/.ssh/known_hosts")
    remedy = f"compare it with what the site publishes, then: ssh-keyscan -p {port} {name} >> {where}"
    if strict == "accept-new":
        yield warn(
            "host key", f"{sought} is in no known_hosts file; the first key it shows will be taken", remedy, setting
        )
    else:
        yield fail("host key", f"{sought} is in no known_hosts file", remedy, setting)


def _keys(site: dict[str, list[str]], setting: str) -> Iterator[Finding]:
    agent = _agent(site)
    files = [Path(name).expanduser() for name in _words(site, "identityfile", split=False)]
    there = [file for file in files if file.exists()]
    only = _first(site, "identitiesonly") == "yes"
    usable = bool(agent) and not only
    for file in there:
        finding = _key(file, agent, setting)
        usable = usable or finding.level != "fail"
        yield finding
    if agent and not only:
        yield ok("ssh agent", f"offers {len(agent)} key{'s' if len(agent) > 1 else ''}")
    if not there and not usable:
        yield fail(
            "ssh key",
            f"there is none: looked for {', '.join(map(str, files)) or 'no file'}, and no agent offers one",
            "IdentityFile in the SSH configuration, or SSH_AUTH_SOCK of an agent in the worker's environment",
            setting,
        )


def _key(file: Path, agent: set[str], setting: str) -> Finding:
    subject = f"ssh key {file}"
    try:
        mode = file.stat().st_mode
        readable = os.access(file, os.R_OK)
    except OSError as error:
        return fail(subject, f"cannot be looked at ({error.strerror})", "let the worker's account read it", setting)
    if not stat.S_ISREG(mode) or not readable:
        return fail(subject, "is no file that this account can read", "let the worker's account read it", setting)
    if stat.S_IMODE(mode) & 0o077 and file.stat().st_uid == os.getuid():
        return fail(
            subject,
            f"has mode {stat.S_IMODE(mode):04o}: ssh does not use a key that others can read",
            f"chmod 600 {file}",
        )
    described = _run(["ssh-keygen", "-l", "-f", str(file)])
    kind = re.match(r"(\d+) (\S+) .*\((\S+)\)\s*$", described.stdout)
    opened = _run(["ssh-keygen", "-y", "-P", "", "-f", str(file)])
    fingerprint = kind[2] if kind else ""
    if opened.returncode:
        if "passphrase" not in opened.stderr:
            said = opened.stderr.strip().splitlines()
            return fail(
                subject, f"is no private key: {said[-1] if said else ''}", "make one: ssh-keygen -t ed25519", setting
            )
        if fingerprint and fingerprint in agent:
            return ok(subject, f"{_kind(kind)}; has a passphrase, and the agent holds it")
        return fail(
            subject,
            f"{_kind(kind)}; has a passphrase, and no agent holds it",
            f"ssh-add {file} in the agent that SSH_AUTH_SOCK of the worker's environment names",
        )
    if kind and (kind[3] == "DSA" or (kind[3] == "RSA" and int(kind[1]) < _WEAK_RSA)):
        return warn(subject, f"{_kind(kind)}: servers refuse it, or soon will", "make one: ssh-keygen -t ed25519")
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
