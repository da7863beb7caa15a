"""What a session holds of inputs and outputs comes back as the real server gives it back."""

import omero
import omero.clients  # before other parts of omero: they import one another in a circle
import pytest
from omero.rtypes import rarray, rint, rlist, rlong, rmap, rset, rstring

from omero_stand_in.services import environment


def test_a_set_comes_back_as_a_list():
    back = environment.given_back(rset([rint(1)]))
    assert isinstance(back, omero.RList)
    assert [value.val for value in back.val] == [1]


def test_a_set_inside_a_map_inside_a_list_comes_back_as_a_list():
    back = environment.given_back(rlist([rmap({"key": rset([rstring("x")])})]))
    assert isinstance(back.val[0].val["key"], omero.RList)


def test_one_array_spoils_all_results():
    values = {}
    environment.put(values, "good", rlong(1))
    environment.put(values, "bad", rarray([rlong(1)]))
    with pytest.raises(omero.ApiUsageException) as raised:
        environment.all_of(values)
    assert raised.value.message == "Unsupported conversion to rtype from [Ljava.lang.Long;"


def test_null_takes_a_value_away():
    values = {"key": rlong(1)}
    environment.put(values, "key", None)
    assert environment.all_of(values) == {}


def test_maps_come_in_the_order_of_a_java_hash_map():
    names = ("Word", "Number", "Colour", "Numbers", "Flag", "Fraction")
    shown = environment.in_java_order(dict.fromkeys(names))
    assert list(shown) == ["Numbers", "Word", "Number", "Fraction", "Flag", "Colour"]


def test_names_that_share_a_place_come_as_the_sessions_own_map_has_them():
    values = {name: rlong(1) for name in ("Word", "Number", "Message")}
    assert list(environment.all_of(values)) == ["Word", "Message", "Number"]
