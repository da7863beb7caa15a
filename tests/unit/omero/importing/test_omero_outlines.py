"""Outlines of label images: their areas are those of the pixels, exactly."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomeroworker.omero.importing.outlines import looks_like_labels, outlines, packed_mask


def shoelace(points):
    x, y = np.array(points).T
    return abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2


def test_a_square_has_four_corners_on_the_edges_of_its_pixels():
    plane = np.zeros((6, 8), np.uint8)
    plane[2:4, 3:6] = 7
    (only,) = outlines(plane)
    assert only.label == 7
    assert only.area == 6
    assert set(only.points) == {(3, 2), (6, 2), (6, 4), (3, 4)}


def test_two_labels_that_touch_are_two_outlines_with_their_own_areas():
    plane = np.array([[1, 1, 2], [1, 2, 2]])
    assert {(o.label, o.area) for o in outlines(plane)} == {(1, 3), (2, 3)}


def test_a_hole_is_covered_by_the_outline_and_counted():
    plane = np.ones((5, 5), int)
    plane[1:4, 1:3] = 0
    (only,) = outlines(plane)
    assert (only.area, only.holes, len(only.points)) == (25, 6, 4)


def test_pixels_that_touch_by_a_corner_are_pieces_of_their_own():
    pieces = outlines(np.array([[1, 0], [0, 1]]))
    assert [piece.area for piece in pieces] == [1, 1]


def test_an_object_at_the_border_of_the_image_is_closed():
    (only,) = outlines(np.full((2, 3), 9))
    assert set(only.points) == {(0, 0), (3, 0), (3, 2), (0, 2)}


def test_an_empty_plane_has_no_outlines():
    assert outlines(np.zeros((4, 4), np.uint16)) == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
def test_outlines_less_their_holes_cover_each_label_exactly(seed, height, width, labels):
    plane = np.random.default_rng(seed).integers(0, labels + 1, (height, width))
    found = outlines(plane)
    for label in range(1, labels + 1):
        mine = [o for o in found if o.label == label]
        assert sum(o.area - o.holes for o in mine) == np.count_nonzero(plane == label)
        assert all(shoelace(o.points) == o.area for o in mine)
        assert all((x0 == x1) != (y0 == y1) for o in mine for (x0, y0), (x1, y1) in pairwise(o.points))


def test_intensities_do_not_look_like_labels():
    noise = np.random.default_rng(1).integers(0, 50, (40, 40))
    assert not looks_like_labels([outlines(noise)])


def test_a_mask_of_one_value_is_labels_however_many_pieces_it_has():
    mask = np.zeros((20, 20), np.uint8)
    mask[::2, ::2] = 255
    assert looks_like_labels([outlines(mask)])


@pytest.mark.parametrize("planes", [1, 5])
def test_objects_are_labels_in_a_plane_and_through_a_stack(planes):
    plane = np.zeros((30, 30), np.uint16)
    plane[2:10, 2:10], plane[15:25, 12:20] = 1, 2
    assert looks_like_labels([outlines(plane)] * planes)


def test_a_mask_keeps_its_holes_in_packed_bits():
    inside = np.zeros((6, 20), bool)
    inside[1:4, 5:16] = True
    inside[2, 8] = False
    x, y, width, height, data = packed_mask(inside)
    assert (x, y, width, height) == (5, 1, 11, 3)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=width * height).reshape(height, width)
    assert np.array_equal(bits.astype(bool), inside[1:4, 5:16])
