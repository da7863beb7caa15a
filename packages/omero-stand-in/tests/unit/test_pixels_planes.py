"""Where planes lie in a file, and what is read and written of them."""

import hashlib
import io

import numpy
import pytest
from PIL import Image

from omero_stand_in import ome_tiff, rendering
from omero_stand_in.plane_files import OutOfBounds, PlaneFile, Shape


def numbered(shape):
    """Planes whose values encode their position."""
    return {
        (z, c, t): numpy.full((shape.y, shape.x), 100 * t + 10 * c + z, ">u2")
        for z in range(shape.z)
        for c in range(shape.c)
        for t in range(shape.t)
    }


@pytest.mark.parametrize("order", ["XYZCT", "XYCZT", "XYTCZ", "XYTZC", "XYZTC", "XYCTZ"])
def test_every_plane_has_a_place_of_its_own_in_each_order(tmp_path, order):
    shape = Shape(3, 2, 2, 3, 2, "uint16", order)
    file, planes = PlaneFile(tmp_path / "planes", shape), numbered(shape)
    for place, plane in planes.items():
        file.put(shape.plane_offset(*place), plane.tobytes())
    assert all((file.plane(*place) == plane).all() for place, plane in planes.items())
    first_axis = order[2].lower()
    assert shape.plane_offset(**{axis: int(axis == first_axis) for axis in "zct"}) == shape.plane


def test_what_was_not_written_is_zero(tmp_path):
    shape = Shape(3, 2, 2, 1, 1, "uint8")
    file = PlaneFile(tmp_path / "planes", shape)
    file.put(0, bytes([1] * 6))
    assert file.plane(1, 0, 0).sum() == 0
    assert file.digest() == hashlib.sha1(bytes([1] * 6 + [0] * 6)).digest()


def test_only_who_finds_no_file_may_write(tmp_path):
    shape = Shape(3, 2, 1, 1, 1, "uint8")
    first, early = PlaneFile(tmp_path / "planes", shape), PlaneFile(tmp_path / "planes", shape)
    first.put(0, bytes(6))
    late = PlaneFile(tmp_path / "planes", shape)
    assert (first.writable, early.writable, late.writable) == (True, True, False)


def test_what_is_out_of_bounds_is_named_as_the_server_names_it():
    with pytest.raises(OutOfBounds, match="Z '2' greater than sizeZ '2'"):
        Shape(3, 2, 2, 1, 1, "uint8").check(z=2, c=0)


def test_a_hypercube_is_numpys(tmp_path):
    shape = Shape(6, 4, 3, 2, 1, "int16")
    file = PlaneFile(tmp_path / "planes", shape)
    values = numpy.arange(2 * 3 * 4 * 6, dtype=">i2").reshape(2, 3, 4, 6)
    file.put(0, values.tobytes())
    assert file.hypercube([1, 0, 0, 1, 0], [5, 4, 3, 1, 1], [2, 3, 2, 1, 1]) == values[1:, ::2, ::3, 1::2].tobytes()


def test_colours_add_up_and_grey_shows_the_first_active_channel():
    planes = [numpy.array([[0, 100, 200]]), numpy.array([[50, 50, 0]])]
    settings = rendering.defaults([(0, 200), (0, 100)], [None, None], 1)
    assert rendering.render(planes.__getitem__, settings).tolist() == [[[0, 128, 0], [128, 128, 0], [255, 0, 0]]]
    settings.model = "greyscale"
    assert rendering.render(planes.__getitem__, settings).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    settings.channels[0].active = False
    assert rendering.render(planes.__getitem__, settings).tolist() == [[[128] * 3, [128] * 3, [0] * 3]]


def test_more_than_three_channels_are_not_shown_at_once():
    settings = rendering.defaults([(0, 1)] * 4, [None] * 4, 5)
    assert [one.active for one in settings.channels] == [True, True, True, False]
    assert settings.z == 2


def test_the_maximum_takes_the_last_plane_in_and_the_mean_leaves_it_out():
    planes = [numpy.array([value]) for value in (10, 20, 90)]
    assert rendering.projected(planes, "MAXIMUMINTENSITY", 0, 2, 1).tolist() == [90]
    assert rendering.projected(planes, "MEANINTENSITY", 0, 2, 1).tolist() == [15]
    assert rendering.projected(planes, "SUMINTENSITY", 0, 2, 1).tolist() == [30]


def test_packed_colours_are_signed_argb():
    assert rendering.packed(numpy.array([[[1, 2, 3]]], "uint8")) == [0xFF010203 - (1 << 32)]


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float"])
def test_a_tiff_holds_every_plane_in_order(kind):
    shape = Shape(5, 3, 2, 2, 1, kind)
    about = ome_tiff.Description('a "name" & more', shape, ["DAPI", None], (0.5, None, None))
    number = {"uint8": ">u1", "uint16": ">u2", "float": ">f4"}[kind]
    planes = [(numpy.arange(15).reshape(3, 5) + index).astype(number) for index in range(4)]
    picture = Image.open(io.BytesIO(ome_tiff.tiff(about, [plane.tobytes() for plane in planes])))
    assert picture.n_frames == 4
    for index, plane in enumerate(planes):
        picture.seek(index)
        assert (numpy.asarray(picture) == plane).all()
    picture.seek(0)
    described = picture.tag_v2[270]
    assert 'SizeZ="2"' in described
    assert "a &quot;name&quot; &amp; more" in described or "'a \"name\" &amp; more'" in described
