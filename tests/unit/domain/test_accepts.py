"""Conditions for images, as an administrator writes them."""

import pytest

from biomeroworker.domain import accepts
from biomeroworker.domain.manifest import InputImage


def image(shape=(1, 1, 1, 8, 8), pixel_type="uint8", kind="image"):
    return InputImage(key=f"{kind}-1", path=f"{kind}-1.ome.zarr", name="n", shape=shape, pixel_type=pixel_type)


def accepted(text, one):
    return all(condition.fits(one) for condition in accepts.parse(text))


@pytest.mark.parametrize(
    ("text", "fitting", "unfitting"),
    [
        ("dimensions: 2D", {}, {"shape": (1, 1, 2, 8, 8)}),
        ("dimensions: 3d", {"shape": (1, 1, 2, 8, 8)}, {}),
        ("planes: 2-4", {"shape": (1, 1, 4, 8, 8)}, {"shape": (1, 1, 5, 8, 8)}),
        ("planes: 2-", {"shape": (1, 1, 999, 8, 8)}, {"shape": (1, 1, 1, 8, 8)}),
        ("channels: 1, 3", {"shape": (1, 3, 1, 8, 8)}, {"shape": (1, 2, 1, 8, 8)}),
        ("timepoints: 1", {}, {"shape": (2, 1, 1, 8, 8)}),
        ("Pixel  Types: uint8, FLOAT", {"pixel_type": "float32"}, {"pixel_type": "float64"}),
        ("max pixels: 64", {}, {"shape": (1, 1, 1, 8, 9)}),
        ("inputs: plates", {"kind": "plate"}, {}),
        ("inputs: images", {}, {"kind": "plate"}),
    ],
)
def test_an_image_fits_or_not(text, fitting, unfitting):
    assert accepted(text, image(**fitting))
    assert not accepted(text, image(**unfitting))


def test_all_conditions_must_be_fulfilled():
    text = "dimensions: 2D; channels: 1-3;"
    assert accepted(text, image((1, 3, 1, 8, 8)))
    assert not accepted(text, image((1, 4, 1, 8, 8)))
    assert not accepted(text, image((1, 3, 2, 8, 8)))


def test_both_dimensions_and_an_empty_text_accept_all_images():
    for text in ("", " ; ", "dimensions: 2D, 3D"):
        assert accepted(text, image((3, 9, 1, 8, 8)))
        assert accepted(text, image((3, 9, 7, 8, 8)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chanels: 1", "'chanels: 1' is not a condition.*the names are inputs, dimensions, planes, channels"),
        ("2D", "'2D' is not a condition"),
        ("channels 1-3", "not a condition"),
        ("channels: many", "'channels: many': write for channels numbers or ranges, such as 1, 1-3 or 2-"),
        ("channels: 3-1", "numbers or ranges"),
        ("channels: 0", "numbers or ranges"),
        ("channels:", "numbers or ranges"),
        ("channels: 1,,2", "numbers or ranges"),
        ("dimensions: 4D", r"2D \(one plane\) or 3D"),
        ("pixel types: uint12", "int8, uint8, int16"),
        ("max pixels: 0", "one whole number"),
        ("max pixels: 1, 2", "one whole number"),
        ("inputs: screens", "images or plates"),
        ("channels: 1; channels: 2", "'channels' is given twice"),
    ],
)
def test_a_mistake_is_reported_with_what_is_allowed(text, words):
    with pytest.raises(ValueError, match=words):
        accepts.parse(text)
