"""Numbers of the wrong type are converted where nothing is lost; OMERO's own check sees the rest."""

from __future__ import annotations

import omero
import pytest
from omero.rtypes import rdouble, rfloat, rint, rlist, rlong, rstring, unwrap
from omero.scripts import validate_inputs

from biomeroworker.node.input_types import converted_numbers


def params(**declared: omero.RType) -> omero.grid.JobParams:
    made = omero.grid.JobParams()
    made.inputs = {name: omero.grid.Param(prototype=value) for name, value in declared.items()}
    return made


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        (rfloat(0), rint(12)), (rfloat(0), rlong(12)), (rfloat(0), rdouble(12.5)), (rint(0), rfloat(12.0)),
        (rint(0), rlong(12)), (rlong(0), rint(12)), (rlong(0), rfloat(12.0)), (rdouble(0), rint(12)),
    ],
)  # fmt: skip
def test_a_number_of_another_type_is_converted_and_passes_the_check(declared: omero.RType, given: omero.RType) -> None:
    inputs = {"n": given}
    assert validate_inputs(params(n=declared), inputs) != ""
    inputs |= converted_numbers(params(n=declared), inputs)
    assert validate_inputs(params(n=declared), inputs) == ""
    assert inputs["n"].getValue() == given.getValue()


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        (rint(0), rfloat(12.5)), (rint(0), rlong(2**40)), (rint(0), rstring("12")), (rstring(""), rint(12)),
        (rfloat(0), rfloat(12.5)), (rint(0), rfloat(float("inf"))),
    ],
)  # fmt: skip
def test_what_would_change_is_left_to_the_check(declared: omero.RType, given: omero.RType) -> None:
    assert converted_numbers(params(n=declared, other=rint(0)), {"n": given}) == {}


@pytest.mark.parametrize("given", [rlong(5), rint(5)])
def test_one_id_for_a_list_of_ids_becomes_a_list(given: omero.RType) -> None:
    declared = params(ids=rlist([rlong(0)]))
    converted = converted_numbers(declared, {"ids": given})
    assert unwrap(converted["ids"]) == [5]
    assert not validate_inputs(declared, converted)
    assert not converted_numbers(params(ids=rlist([rstring("")])), {"ids": given})
