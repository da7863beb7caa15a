import re
from pathlib import Path

import pytest

from biomeroworker.config import Settings, settings_table
from sandbox import deployment

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
DEVELOPER_PAGES = (CHECKOUT / "CONTRIBUTING.md", DOCS / "how-it-works.md")
SAMPLES = re.findall(
    r"^:::\{code-block\} ini\n(.*?)^:::", (DOCS / "configure.md").read_text(), re.DOTALL | re.MULTILINE
)


def test_the_documented_settings_match_the_schema():
    # after a change: python -c 'from biomeroworker.config import settings_table as t; print(t().rstrip())'
    assert (DOCS / "settings.md").read_text() == settings_table().rstrip() + "\n"


@pytest.mark.parametrize("text", [*SAMPLES, (CHECKOUT / "slurm-config.ini").read_text()])
def test_sample_configurations_cause_no_warning(tmp_path, text):
    assert len(SAMPLES) >= 3
    (tmp_path / "slurm-config.ini").write_text(text)
    assert not Settings.load(tmp_path / "slurm-config.ini").warnings


def test_the_configuration_of_the_sandbox_causes_no_warning(tmp_path):
    env = {
        "REGISTRY": "r:1",
        "CLUSTER_HOME": "/h",
        "SSH_HOST": "hpc",
        "SSH_CONFIG": "/c",
        "SQLALCHEMY_URL": "sqlite://",
    }
    assert not Settings.load(deployment.write(tmp_path, env)).warnings


@pytest.mark.parametrize("page", DEVELOPER_PAGES, ids=lambda page: page.name)
def test_the_modules_that_a_page_names_exist(page):
    text = page.read_text()
    named = set(re.findall(r"`((?:[a-z_-]+/)+[A-Za-z_]+\.(?:py|sh|toml|def))`", text))
    assert len(named) > 10
    roots = (CHECKOUT, CHECKOUT / "biomeroworker", CHECKOUT / "biomeroworker/eventlog")
    assert {name for name in named if not any((root / name).is_file() for root in roots)} == set()
