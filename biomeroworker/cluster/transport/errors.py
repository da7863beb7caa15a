"""What ssh's own complaints, and those of the far side's file systems, mean for a run.

ssh exits 255 for every trouble of its own and says which on stderr only; the sentences below are those of OpenSSH 8 and
9 (ssh.c, sshconnect.c, packet.c, mux.c) and of the C library. A sentence that is not known is taken for a passing one:
a link that never comes back pauses the run in the end, a link that was misjudged as broken would stop it for nothing.
"""

from __future__ import annotations

from biomeroworker.errors import Blocked, Fault, Transient

#: Said by our own ProxyCommand when ssh would have opened a connection beside the shared one: nothing was run.
NO_MASTER = "biomeroworker: no shared connection"
#: Said by ssh when the server takes no more commands on the connection (``MaxSessions`` of sshd_config(5)).
NO_SESSION = "Session open refused by peer"

PYTHON_HINT = (
    "install python3 on the front-end, as /usr/bin/python3, /usr/libexec/platform-python, or on the PATH of commands"
    " over SSH"
)

_BLOCKED = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "the host key changed: ask the cluster's admins whether that is meant,"
    " then renew the line in known_hosts",
    "Host key verification failed": "the host key is not known: add it to known_hosts after comparing the fingerprint",
    "No matching host key type": "client and cluster share no kind of host key: see HostKeyAlgorithms in ssh_config(5)",
    "Permission denied (": "the cluster refuses our key: check User and IdentityFile in the SSH configuration, the"
    " agent, and authorized_keys on the cluster",
    "Too many authentication failures": "too many keys are offered: set IdentitiesOnly yes and IdentityFile",
    "Could not resolve hostname": "the cluster's name cannot be resolved: check [SSH] host and the SSH configuration",
    "Bad configuration option": "the SSH configuration has an error",
    "Bad owner or permissions on": "the SSH configuration must belong to us and be writable by nobody else",
    "terminating,": "the SSH configuration has an error",
    "UNPROTECTED PRIVATE KEY FILE": "the private key is readable by others: chmod 600",
    "Can't open user config file": "the SSH configuration file is missing",
    "Bad stdio forwarding": "the SSH configuration has an error",
    "unix_listener: path": "the folder for shared connections has too long a name",
}
_REFUSALS = ("Permission denied (", "Too many authentication failures")
_NO_ROOM = ("No space left on device", "Disk quota exceeded", "quota exceeded")
_NO_ACCESS = ("Permission denied", "Read-only file system", "Operation not permitted")


def tail(text: str, lines: int = 8) -> str:
    """The last lines that say something, as evidence for a person."""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])


def connection_fault(host: str, stderr: str) -> Fault:
    """The fault of an ssh that ended by its own trouble, from what it said."""
    if "Temporary failure in name resolution" not in stderr:
        for words, hint in _BLOCKED.items():
            if words in stderr:
                return Blocked(f"no SSH connection to {host}", hint=hint, detail=tail(stderr))
    return Transient(f"the SSH connection to {host} failed", detail=tail(stderr))


def is_refusal(stderr: str) -> bool:
    """Whether the front-end heard who we are and did not let us in: what sites ban addresses for."""
    return any(words in stderr for words in _REFUSALS)


def python_fault(host: str, found: str) -> Blocked:
    """The fault of a front-end without a usable python3; ``found`` lists what is there instead."""
    return Blocked(f"{host} has no python3 of version 3.6 or later (found: {found})", hint=PYTHON_HINT)


def remote_file_fault(what: str, stderr: str) -> Fault:
    """The fault of a file operation that failed on the cluster, from what its programs said."""
    if any(words in stderr for words in _NO_ROOM):
        return Blocked(
            f"{what}: no room on the cluster", hint="free space or raise the quota there", detail=tail(stderr)
        )
    if any(words in stderr for words in _NO_ACCESS):
        return Blocked(f"{what}: not allowed on the cluster", hint="give the account access there", detail=tail(stderr))
    return Transient(f"{what} failed on the cluster", detail=tail(stderr))
