"""The client as a fabric connection to a real sshd: when it reads the SSH configuration, and which keys it accepts."""

from __future__ import annotations

import getpass
import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from biomero import SlurmClient
from biomeroworker.errors import Blocked, ConfigError
from tests.integration.cluster.own_sshd import OwnSshd


@pytest.fixture(scope="module")
def server() -> Iterator[OwnSshd]:
    one = OwnSshd()
    yield one
    one.close()


@pytest.fixture
def ini(server: OwnSshd, tmp_path: Path) -> Path:
    server.trust()
    config = tmp_path / "ssh_config"
    config.write_text(server.config.read_text())
    file = tmp_path / "slurm.ini"
    file.write_text(
        f"[SSH]\nhost = cluster\nconfig_file = {config}\n[ANALYTICS]\nsqlalchemy_url = sqlite:///{tmp_path}/log.sqlite\n"
    )
    return file


def greeting(client: SlurmClient) -> str:
    return str(client.run("echo hello", hide=True, in_stream=False).stdout).strip()


def known_hosts(server: OwnSshd) -> Path:
    return server.root / "known_hosts"


def test_a_known_host_is_connected_to(ini: Path) -> None:
    with SlurmClient.from_config(ini) as client:
        assert greeting(client) == "hello"
        assert client.host == "127.0.0.1"


def test_an_unknown_host_is_refused(ini: Path, server: OwnSshd) -> None:
    known_hosts(server).write_text("")
    with SlurmClient.from_config(ini) as client, pytest.raises(Blocked, match="no known_hosts file: SHA256"):
        greeting(client)


def test_a_host_with_another_key_is_refused(ini: Path, server: OwnSshd, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    other = (tmp_path / "other.pub").read_text().split()
    known_hosts(server).write_text(f"[127.0.0.1]:{server.port} {other[0]} {other[1]}\n")
    with SlurmClient.from_config(ini) as client, pytest.raises(Blocked, match="the host key changed"):
        greeting(client)


def test_a_revoked_key_is_refused_although_it_is_listed(ini: Path, server: OwnSshd) -> None:
    line = known_hosts(server).read_text()
    known_hosts(server).write_text(f"{line}@revoked * {line.partition(' ')[2]}")
    with SlurmClient.from_config(ini) as client, pytest.raises(Blocked):
        greeting(client)


def test_names_that_are_hashed_or_patterns_or_aliases_are_found(ini: Path, server: OwnSshd) -> None:
    key = known_hosts(server).read_text().partition(" ")[2]
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known_hosts(server)], check=True, capture_output=True)
    assert known_hosts(server).read_text().startswith("|1|")
    with SlurmClient.from_config(ini) as client:
        assert greeting(client) == "hello"
    known_hosts(server).write_text(f"[127.0.0.*]:{server.port} {key}")
    with SlurmClient.from_config(ini) as client:
        assert greeting(client) == "hello"
    known_hosts(server).write_text(f"front-ends {key}")
    config = ini.parent / "ssh_config"
    config.write_text(config.read_text() + "  HostKeyAlias front-ends\n")
    with SlurmClient.from_config(ini) as client:
        assert greeting(client) == "hello"


def test_with_accept_new_ssh_stores_the_key_of_a_new_host(ini: Path, server: OwnSshd) -> None:
    known_hosts(server).write_text("")
    config = ini.parent / "ssh_config"
    config.write_text(config.read_text() + "  StrictHostKeyChecking accept-new\n")
    with SlurmClient.from_config(ini) as client:
        assert greeting(client) == "hello"
        assert "ed25519" in known_hosts(server).read_text()
        client.deployment.cluster.close()


def test_a_jump_host_must_be_known_as_well(ini: Path, server: OwnSshd) -> None:
    config = ini.parent / "ssh_config"
    text = config.read_text()
    config.write_text(f"{text}  ProxyJump way\n{text.replace('Host cluster', 'Host way')}".replace(
        "  ProxyJump way\nHost way", "  HostKeyAlias end\n  ProxyJump way\nHost way"
    ))  # fmt: skip
    way = known_hosts(server).read_text()
    known_hosts(server).write_text(f"end {way.partition(' ')[2]}{way}")
    with SlurmClient.from_config(ini) as client:
        assert greeting(client) == "hello"
    known_hosts(server).write_text(f"end {way.partition(' ')[2]}")
    with SlurmClient.from_config(ini) as client, pytest.raises(Blocked, match="no known_hosts file"):
        greeting(client)


def test_the_ssh_configuration_is_read_at_the_first_use_of_the_connection(
    ini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())  # which paramiko lets the programs of the configuration read
    config, ran = ini.parent / "ssh_config", ini.parent / "ran"
    config.write_text(f'Match exec "touch {ran}"\n  User nobody\n{config.read_text()}')
    with SlurmClient.from_config(ini) as client:
        assert client.log.runs() == []
        assert client.slurm_data_path
        assert "not connected" in repr(client)
        assert not ran.exists()
        assert client.user == "nobody"
    assert ran.exists()


def test_a_missing_ssh_configuration_is_reported_with_its_line_and_the_log_can_still_be_read(ini: Path) -> None:
    (ini.parent / "ssh_config").unlink()
    with SlurmClient.from_config(ini) as client:
        assert client.log.runs() == []
        with pytest.raises(ConfigError, match=r"slurm\.ini:3: \[SSH\] config_file: the SSH configuration cannot"):
            greeting(client)
        findings = {finding.subject: finding for finding in client.deployment.doctor()}
    assert findings["ssh configuration"].level == "fail"
    assert findings["ssh configuration"].setting.endswith("slurm.ini:3: [SSH] config_file")


def test_a_user_and_a_port_of_the_constructor_hold_for_both_connections(
    server: OwnSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.trust()
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host *\n  IdentityFile {server.root}/id\n  IdentitiesOnly yes\n  UserKnownHostsFile {known_hosts(server)}\n"
    )
    monkeypatch.setenv("BIOMERO_SSH_CONFIG_FILE", str(config))
    monkeypatch.setenv("BIOMERO_GPU_PARTITION", "a100")  # an argument: the constructor does not take it from there
    account = getpass.getuser()
    with SlurmClient("127.0.0.1", user=account, port=server.port, sqlalchemy_url=f"sqlite:///{tmp_path}/l") as client:
        assert greeting(client) == "hello"
        assert client.deployment.cluster.transport.run(["echo", "hello"]).stdout.strip() == "hello"
        assert (client.user, client.port, client.gpu_partition) == (account, server.port, None)
