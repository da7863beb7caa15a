"""Looking at a client must not connect, and must not even read the SSH configuration."""

from __future__ import annotations

import rlcompleter
from collections.abc import Iterator
from pathlib import Path

import pytest

from biomero import SlurmClient
from biomero.compat.connection import HostCheckedConnection
from biomeroworker.errors import ConfigError


@pytest.fixture
def client(tmp_path: Path) -> Iterator[SlurmClient]:
    ini = tmp_path / "slurm-config.ini"
    ini.write_text(
        "[SSH:far]\nhost = far.invalid\n[SLURM:far]\nslurm_data_path = /far/data\ngpu_partition = a100\n"
        f"[ANALYTICS]\nsqlalchemy_url = sqlite:///{tmp_path}/log.sqlite\n"
    )
    with SlurmClient.from_config(ini) as client:
        yield client


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts for which a fabric connection was made."""
    hosts: list[str] = []
    original = HostCheckedConnection.__init__

    def record(self: HostCheckedConnection, host: str, **settings: object) -> None:
        hosts.append(host)
        original(self, host, **settings)

    monkeypatch.setattr(HostCheckedConnection, "__init__", record)
    return hosts


def test_unknown_attributes_repr_and_completion_make_no_connection(client: SlurmClient, made: list[str]) -> None:
    assert not hasattr(client, "frobnicate")
    assert not hasattr(client, "_repr_html_")
    assert not hasattr(client, "_ipython_canary_method_should_not_exist_")
    assert hasattr(client, "run")
    assert repr(client) == "<SlurmClient 'far.invalid', not connected>"
    completer = rlcompleter.Completer({"client": client})
    names = {completer.complete("client.", number) for number in range(500)}
    assert "client.run(" in names
    assert not client.is_connected
    assert made == []


def test_a_wrong_ssh_configuration_does_not_hide_a_missing_attribute(tmp_path: Path) -> None:
    ini = tmp_path / "slurm-config.ini"
    ini.write_text(f"[SSH]\nconfig_file = {tmp_path}/missing\n")
    client = SlurmClient.from_config(ini)
    with pytest.raises(AttributeError, match="frobnicate"):
        client.frobnicate()
    with pytest.raises(ConfigError, match=r"\[SSH\] config_file: the SSH configuration cannot be used"):
        client.run("true")


def test_the_connection_is_made_once_at_its_first_use(client: SlurmClient, made: list[str]) -> None:
    assert client.host == "far.invalid"
    assert client.port == 22
    assert made == ["far.invalid"]


def test_settings_have_the_names_of_biomero(client: SlurmClient) -> None:
    assert (client.slurm_data_path, client.gpu_partition) == ("/far/data", "a100")
    assert client.sqlalchemy_url.endswith("log.sqlite")
