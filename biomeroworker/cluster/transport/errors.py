"""Classify error messages of ssh, and of file systems on the cluster.

ssh exits with 255 for each failure of its own and names the cause only on stderr. The messages below are those of
OpenSSH 8 and 9 (ssh.c, sshconnect.c, packet.c, mux.c) and of the C library. An unknown message counts as transient: a
connection that stays broken pauses the run in the end, while a wrong "blocked" would pause it for no reason.
"""

from __future__ import annotations

from biomeroworker.errors import Blocked, Fault, Transient

#: Printed by our own ProxyCommand when ssh would open a connection besides the shared one: no command was run.
NO_MASTER = "biomeroworker: no shared connection"
#: Printed by ssh when the server accepts no more sessions on the connection (``MaxSessions`` of sshd_config(5)).
NO_SESSION = "Session open refused by peer"

PYTHON_HINT = (
    "install python3 on the login node, as /usr/bin/python3, /usr/libexec/platform-python, or on the PATH of commands"
    " over SSH"
)

_BLOCKED = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "the host key changed: ask the cluster's administrators whether this is"
    " intended, then replace the line in known_hosts",
    "Host key verification failed": "the host key is not known: add it to known_hosts after comparing the fingerprint",
    "No matching host key type": "client and cluster have no host key type in common: see"
    " HostKeyAlgorithms in ssh_config(5)",
    "Permission denied (": "the cluster refuses our key: check User and IdentityFile in the SSH configuration, the"
    " agent, and authorized_keys on the cluster",
    "Too many authentication failures": "too many keys are offered: set IdentitiesOnly yes and IdentityFile",
    "Bad configuration option": "the SSH configuration has an error",
    "Bad owner or permissions on": "the SSH configuration must belong to the worker's account, and no"
    " other account may write to it",
    "terminating,": "the SSH configuration has an error",
    "UNPROTECTED PRIVATE KEY FILE": "other accounts can read the private key: chmod 600",
    "Can't open user config file": "the SSH configuration file is missing",
    "Bad stdio forwarding": "the SSH configuration has an error",
    "unix_listener: path": "the path of the folder for shared connections is too long",
}
#: A wrong name ends a run before it is admitted; later, the name server is the likely cause.
_UNRESOLVED = "Could not resolve hostname"
_UNRESOLVED_HINT = "the cluster's name cannot be resolved: check [SSH] host, the SSH configuration and the name server"
_REFUSALS = ("Permission denied (", "Too many authentication failures")
_NO_ROOM = ("No space left on device", "Disk quota exceeded", "quota exceeded")
_NO_ACCESS = ("Permission denied", "Read-only file system", "Operation not permitted")


def tail(text: str, lines: int = 8) -> str:
    """The last lines that are not blank."""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])


def connection_fault(host: str, stderr: str) -> Fault:
    """The fault of an ssh client that failed itself, from its error output."""
    for words, hint in _BLOCKED.items():
        if words in stderr:
            return Blocked(f"no SSH connection to {host}", hint=hint, detail=tail(stderr))
    hint = _UNRESOLVED_HINT if _UNRESOLVED in stderr else ""
    return Transient(f"the SSH connection to {host} failed", hint=hint, detail=tail(stderr))


def is_refusal(stderr: str) -> bool:
    """Whether the front-end refused our key: sites ban addresses for too many of these."""
    return any(words in stderr for words in _REFUSALS)


def python_fault(host: str, found: str) -> Blocked:
    """The fault of a front-end without a usable python3; ``found`` lists what is there instead."""
    return Blocked(f"{host} has no python3 of version 3.6 or later (found: {found})", hint=PYTHON_HINT)


def remote_file_fault(what: str, stderr: str) -> Fault:
    """The fault of a file operation that failed on the cluster, from its error output."""
    if any(words in stderr for words in _NO_ROOM):
        return Blocked(
            f"{what}: no room on the cluster", hint="free space or raise the quota there", detail=tail(stderr)
        )
    if any(words in stderr for words in _NO_ACCESS):
        return Blocked(f"{what}: not allowed on the cluster", hint="give the account access there", detail=tail(stderr))
    return Transient(f"{what} failed on the cluster", detail=tail(stderr))
