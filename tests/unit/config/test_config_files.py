"""Which ini files are read, and how a running process reacts to changes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from biomeroworker.config import Settings
from biomeroworker.config.files import config_files
from biomeroworker.config.live import LiveSettings
from biomeroworker.errors import ConfigError


def ini(folder: Path, name: str, text: str) -> Path:
    file = folder / f"{name}.ini"
    file.write_text(text)
    return file


def test_a_later_file_overrides_an_earlier_one(tmp_path: Path) -> None:
    base = ini(tmp_path, "base", "[SSH]\nhost = base\n[SLURM]\npoll_seconds = 5\n")
    override = ini(tmp_path, "override", "[SSH]\nhost = web\n")
    settings = Settings.load(None, {"HOME": "/h"}, standard=[base, tmp_path / "absent.ini", override])
    assert (settings.clusters[""].ssh.host, settings.clusters[""].slurm.poll_seconds) == ("web", 5)
    assert settings.files == (base, override)
    assert settings.files_rule == "the standard files are read; later files override earlier ones"


def test_the_file_of_the_variable_replaces_the_standard_files_but_not_the_packaged_defaults(tmp_path: Path) -> None:
    base = ini(tmp_path, "base", "[SLURM]\npoll_seconds = 5\n")
    alone = ini(tmp_path, "alone", "[SSH]\nhost = alone\n")
    extra = ini(tmp_path, "extra", "[SLURM]\ngpu_partition = extra\n")
    environ = {"HOME": "/h", "BIOMERO_SLURM_CONFIG_FILE": str(alone)}
    settings = Settings.load(None, environ, standard=[base])
    assert (settings.clusters[""].ssh.host, settings.clusters[""].slurm.poll_seconds) == ("alone", 15.0)
    assert settings.files == (alone,)
    assert "BIOMERO_SLURM_CONFIG_FILE is set" in settings.files_rule
    both = Settings.load(None, {**environ, "BIOMERO_CONFIG": str(extra)}, standard=[base])
    cluster = both.clusters[""]
    assert (cluster.ssh.host, cluster.slurm.gpu_partition, both.files) == ("alone", "extra", (alone, extra))
    assert "the file of BIOMERO_CONFIG is read after them" in both.files_rule
    with pytest.raises(ConfigError, match="nowhere"):
        Settings.load(None, {"HOME": "/h", "BIOMERO_SLURM_CONFIG_FILE": "/nowhere.ini"}, standard=[])


def test_config_show_prints_the_rule_and_the_files(tmp_path: Path) -> None:
    ini(tmp_path, "slurm-config", "[SSH]\nhost = home\n")
    alone = ini(tmp_path, "alone", "[SSH]\nhost = alone\n")

    def shown(**variables: str) -> str:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BIOMERO")}
        command = [sys.executable, "-c", "from biomeroworker.cli import main; main()", "config", "show", "--origin"]
        done = subprocess.run(
            command, env={**environ, "HOME": str(tmp_path), **variables}, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    standard = shown()
    assert "rule: the standard files are read" in standard
    assert f"read: {tmp_path}/slurm-config.ini" in standard
    replaced = shown(BIOMERO_SLURM_CONFIG_FILE=str(alone))
    assert "rule: BIOMERO_SLURM_CONFIG_FILE is set" in replaced
    assert f"read: {alone}" in replaced
    assert "read: " + str(tmp_path / "slurm-config.ini") not in replaced


def test_the_stamp_of_the_files_changes_with_every_kind_of_change(tmp_path: Path) -> None:
    first, second = tmp_path / "a.ini", tmp_path / "b.ini"
    first.write_text("[SSH]\nhost = a\n")
    files = config_files({"HOME": "/h"}, None, [first, second])
    seen = {json.dumps(files.stamp())}
    second.write_text("[SSH]\nhost = b\n")
    seen.add(json.dumps(files.stamp()))
    other = tmp_path / "new.ini"
    other.write_text("[SSH]\nhost = c\n")
    other.replace(second)
    seen.add(json.dumps(files.stamp()))
    first.unlink()
    seen.add(json.dumps(files.stamp()))
    assert len(seen) == 4


def test_a_running_process_uses_a_change_and_ignores_it_while_a_file_is_invalid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = ini(tmp_path, "named", "[NODE]\nscripts_at_once = 3\n")
    live = LiveSettings(None, {"HOME": str(tmp_path), "BIOMERO_SLURM_CONFIG_FILE": str(file)})
    assert live.settings.node.scripts_at_once == 3
    assert not live.refresh()
    file.write_text("[NODE]\nscripts_at_once = 5\n")
    assert live.refresh()
    assert live.settings.node.scripts_at_once == 5
    with caplog.at_level(logging.ERROR):
        file.write_text("\n[NODE]\nscripts_at_once = none\n")
        assert not live.refresh()
        assert not live.refresh()
    assert live.settings.node.scripts_at_once == 5
    (record,) = caplog.records
    assert f"{file}:3: [NODE] scripts_at_once = 'none'" in record.getMessage()
    file.write_text("[NODE]\nscripts_at_once = 7\n")
    assert live.refresh()
    assert live.settings.node.scripts_at_once == 7


def test_a_file_that_is_written_again_with_the_same_settings_changes_nothing(tmp_path: Path) -> None:
    file = ini(tmp_path, "named", "[NODE]\nscripts_at_once = 3\n")
    live = LiveSettings(file, {"HOME": str(tmp_path)})
    file.write_text("[NODE]\nscripts_at_once = 3\n")
    assert not live.refresh()


def test_an_invalid_file_at_the_start_is_an_error_unless_there_is_a_default(tmp_path: Path) -> None:
    environ = {
        "HOME": str(tmp_path),
        "BIOMERO_SLURM_CONFIG_FILE": str(ini(tmp_path, "bad", "[NODE]\nscripts_at_once = 0\n")),
    }
    with pytest.raises(ConfigError):
        LiveSettings(None, environ)
    live = LiveSettings(None, environ, default=Settings.model_validate({}))
    assert live.settings.node.scripts_at_once == 32
    (tmp_path / "bad.ini").write_text("[NODE]\nscripts_at_once = 2\n")
    assert live.refresh()
    assert live.settings.node.scripts_at_once == 2
