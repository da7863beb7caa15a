"""The end of a log of the node, for administrators without a shell."""

import pytest

from biomeroworker.diagnostics import node_log
from biomeroworker.errors import RequestRejected


@pytest.fixture
def environ(tmp_path):
    (tmp_path / "var/log").mkdir(parents=True)
    return {"OMERODIR": str(tmp_path), "HOME": str(tmp_path), "BIOMERO_ADMIN_TOKEN": "extremely-confidential"}


def write(environ, text, name="Processor-0.log"):
    from pathlib import Path

    (Path(environ["OMERODIR"]) / "var/log" / name).write_text(text)


def test_the_number_of_lines_is_bounded(environ):
    write(environ, "a\nb\nc\n")
    assert node_log.last_lines(environ, "", 2)[1] == ["b", "c"]
    for count in (0, node_log.MAX_LINES + 1):
        with pytest.raises(RequestRejected, match="from 1 to"):
            node_log.last_lines(environ, "", count)


def test_secrets_are_redacted(environ):
    write(environ, "x extremely-confidential y\npassword: abc\n")
    assert node_log.last_lines(environ, "Processor-0.log", 10)[1] == ["x *** y", "password: ***"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../etc/shadow"])
def test_only_logs_are_shown(environ, name):
    with pytest.raises(RequestRejected, match="is not a log"):
        node_log.last_lines(environ, name, 10)


def test_a_path_names_a_file_of_the_log_folder_only(environ, tmp_path):
    (tmp_path / "other.log").write_text("foreign\n")
    write(environ, "own\n", "Tables-0.log")
    with pytest.raises(RequestRejected, match=r"the existing logs are: Tables-0\.log"):
        node_log.last_lines(environ, str(tmp_path / "other.log"), 10)


def test_a_link_is_not_followed(environ, tmp_path):
    (tmp_path / "private").write_text("private\n")
    (tmp_path / "var/log/link.log").symlink_to(tmp_path / "private")
    with pytest.raises(RequestRejected, match="cannot be read"):
        node_log.last_lines(environ, "link.log", 10)
