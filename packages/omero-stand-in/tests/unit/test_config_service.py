"""The settings that a user may read."""

from types import SimpleNamespace

from omero_stand_in.config import DEFAULTS
from omero_stand_in.services.config import ConfigService


def values(pattern, *, is_admin):
    service = ConfigService.__new__(ConfigService)
    service.server = SimpleNamespace(config=SimpleNamespace(values=lambda: dict(DEFAULTS)))
    return service.getConfigValues(SimpleNamespace(is_admin=is_admin), pattern)


def test_a_pattern_finds_settings_that_contain_a_match():
    assert values("max_plane", is_admin=False) == {
        "omero.pixeldata.max_plane_height": "3192",
        "omero.pixeldata.max_plane_width": "3192",
    }


def test_a_pattern_without_a_match_finds_nothing():
    assert values(r"^omero\.cluster\.read_only\.runtime\.", is_admin=False) == {}


def test_a_user_may_read_whether_the_server_sends_mail_which_omero_web_does_at_each_login():
    assert values(r"^omero\.mail\.", is_admin=False) == {"omero.mail.config": "false"}


def test_settings_that_only_an_administrator_may_read_are_left_out_for_others():
    assert values(r"^omero\.db\.", is_admin=False) == {}
    assert set(values(r"^omero\.db\.", is_admin=True)) == {"omero.db.name", "omero.db.pass", "omero.db.user"}
