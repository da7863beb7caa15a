"""The documented variables are those that the scripts read, with the same defaults."""

import re

from tests.unit.startup.startup_kit import CHECKOUT, SCRIPTS

TEXTS = {path.name: path.read_text() for path in SCRIPTS.glob("*.sh")}
PAGE = (CHECKOUT / "docs/container-startup.md").read_text()
#: What the scripts assign themselves, and what belongs to the shell.
INTERNAL = {
    "MODE",
    "VENV",
    "SERVER",
    "STATE",
    "SECRETS",
    "GIVE_UP",
    "BASH_SOURCE",
    "SECONDS",
    "HOSTNAME",
    "HOME",
    "PATH",
    "PYTHON",
}


def read_by_the_scripts() -> set[str]:
    names = {
        name for text in TEXTS.values() for name in re.findall(r"\$\{?(CONFIG_omero_[a-z_]+|[A-Z][A-Z0-9_]+)", text)
    }
    listed = re.search(r"^SECRETS=\((.*)\)$", TEXTS["20-config.sh"], re.MULTILINE)[1].split()
    files = re.search(r"for variable in (.*); do", TEXTS["20-config.sh"])[1].split()
    return (names - INTERNAL) | {*listed, *files} | {f"{name}_FILE" for name in listed}


def rows() -> dict[str, str]:
    """Each variable of the page's tables, and its default."""
    found = {}
    for variables, default in re.findall(r"^\| (`[^|]*`) \| ([^|]*?) ?\|", PAGE, re.MULTILINE):
        for name in re.findall(r"`([A-Za-z_]+)`", variables):
            found[name] = default
    return {name: default for name, default in found.items() if not name.endswith(".sh")}


def test_the_page_lists_the_variables_that_the_scripts_read():
    assert len(read_by_the_scripts()) > 30
    assert set(rows()) == read_by_the_scripts()


def test_the_page_has_the_defaults_of_the_scripts():
    written = {
        (name, default)
        for text in TEXTS.values()
        for name, default in re.findall(r"\$\{([A-Za-z_]+):?[-=]([A-Za-z0-9/][^}$]*)\}", text)
    }
    assert len(written) > 20
    assert {(name, default) for name, default in written if f"`{default}`" not in rows()[name]} == set()


def test_all_scripts_are_numbered_in_the_page():
    numbered = {name for name in TEXTS if name[0].isdigit()}
    assert numbered == set(re.findall(r"^\| `(\d\d-[a-z-]+\.sh)`", PAGE, re.MULTILINE))
