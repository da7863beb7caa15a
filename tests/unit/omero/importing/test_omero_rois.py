"""Colours of ROIs: what people write, as OMERO keeps it."""

import pytest

from biomeroworker.errors import RequestRejected
from biomeroworker.omero.importing.options import Options
from biomeroworker.omero.importing.rois import YELLOW, clear, colour_of


@pytest.mark.parametrize(
    ("text", "colour"),
    [("yellow", YELLOW), ("#FFFF00", YELLOW), ("ffff00ff", YELLOW), (" Red ", -16776961), ("#00000000", 0)],
)
def test_a_colour_is_a_name_or_two_digits_for_each_part(text, colour):
    assert colour_of(text) == colour


def test_an_outline_is_filled_with_its_own_colour_seen_through():
    assert clear(YELLOW) & 0xFFFFFFFF == 0xFFFF0000


def test_what_is_no_colour_is_refused_by_name():
    with pytest.raises(RequestRejected, match=r"roi_colour.*reddish.*yellow"):
        Options.of({"roi_colour": "reddish"})
