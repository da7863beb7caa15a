"""The command line prints values unchanged."""

import json
from pathlib import Path

from typer.testing import CliRunner

from biomeroworker.cli import app
from biomeroworker.cli.common import err, out


def test_text_between_colons_is_not_printed_as_emoji() -> None:
    for console in (out, err):
        with console.capture() as captured:
            console.print("gres gpu:a:2, bound /data:/x:ro, image lab:b:c", markup=False)
        assert captured.get() == "gres gpu:a:2, bound /data:/x:ro, image lab:b:c\n"


def test_a_value_is_shown_as_in_the_file(tmp_path: Path) -> None:
    ini = tmp_path / "site.ini"
    ini.write_text("[SLURM]\ngpu_gres = gpu:a:2\nsbatch_comment = [red]a\\[b]\n")
    shown = CliRunner().invoke(app, ["config", "show", "--config", str(ini)]).output
    assert "gpu:a:2" in shown
    assert "[red]a\\[b]" in shown


def test_the_doctor_reports_an_unreadable_configuration_as_a_finding(tmp_path: Path) -> None:
    ini = tmp_path / "site.ini"
    ini.write_text("[SLURM]\npoll_seconds = soon\nfree_space_gb = -1\n")
    answer = CliRunner().invoke(app, ["doctor", "--json", "--config", str(ini)])
    found = [(one["level"], one["subject"], one["setting"]) for one in json.loads(answer.output)]
    assert answer.exit_code == 1
    assert sorted(found) == [
        ("fail", "configuration", f"{ini}:2: [SLURM] poll_seconds"),
        ("fail", "configuration", f"{ini}:3: [SLURM] free_space_gb"),
    ]
    ini.write_text("host = x\n")
    answer = CliRunner().invoke(app, ["doctor", "--config", str(ini)])
    assert (answer.exit_code, f"fail configuration: {ini}:1: a setting before" in answer.output) == (1, True)
