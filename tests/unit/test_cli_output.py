"""What the command line prints is what it was given."""

from pathlib import Path

from typer.testing import CliRunner

from biomeroworker.cli import app
from biomeroworker.cli.common import err, out


def test_words_between_colons_are_words() -> None:
    for console in (out, err):
        with console.capture() as said:
            console.print("gres gpu:a:2, bound /data:/x:ro, image lab:b:c", markup=False)
        assert said.get() == "gres gpu:a:2, bound /data:/x:ro, image lab:b:c\n"


def test_a_value_is_shown_as_it_stands_in_the_file(tmp_path: Path) -> None:
    ini = tmp_path / "site.ini"
    ini.write_text("[SLURM]\ngpu_gres = gpu:a:2\nsbatch_comment = [red]a\\[b]\n")
    shown = CliRunner().invoke(app, ["config", "show", "--config", str(ini)]).output
    assert "gpu:a:2" in shown
    assert "[red]a\\[b]" in shown
