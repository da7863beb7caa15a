from pathlib import Path

from biomeroworker.config import settings_table

DOCS = Path(__file__).parents[2] / "docs"


def test_the_documented_settings_are_the_ones_there_are():
    # after a change: python -c 'from biomeroworker.config import settings_table as t; print(t().rstrip())'
    assert (DOCS / "settings.md").read_text() == settings_table().rstrip() + "\n"
