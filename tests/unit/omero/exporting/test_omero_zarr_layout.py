"""Exported images and plates are valid OME-Zarr; and how planes are cut into reads."""

import numpy as np
import pytest
import zarr
from ome_zarr_models.v04.hcs import HCSAttrs
from ome_zarr_models.v04.image import Image

from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.imaging import ome_zarr
from biomeroworker.omero.exporting.describe import ChannelInfo, Field, ImageInfo, PlateInfo
from biomeroworker.omero.exporting.zarr_layout import (
    field_path,
    plate_attributes,
    regions,
    row_name,
    well_attributes,
    write_image,
)

IMAGE = ImageInfo(
    id=7,
    name='α "b" [1].tif',
    pixels_id=70,
    pixel_type="uint16",
    shape=(2, 3, 4, 50, 60),
    pixel_size={"x": PhysicalSize(value=0.1), "z": PhysicalSize(value=500, unit="nanometer")},
    channels=(ChannelInfo("DAPI", "0000FF", (3.0, 900.0)), ChannelInfo("GFP", "00FF00")),
)


def test_an_image_conforms_to_ome_ngff_0_4(tmp_path):
    write_image(tmp_path / "image-7.ome.zarr", IMAGE)
    group = zarr.open_group(tmp_path / "image-7.ome.zarr", mode="r")
    image = Image.from_zarr(group)
    scale = image.attributes.multiscales[0]
    assert scale.name == IMAGE.name
    assert [axis.name for axis in scale.axes] == list("tczyx")
    assert [axis.unit for axis in scale.axes] == [None, None, "nanometer", None, "micrometer"]
    assert scale.datasets[0].coordinateTransformations[0].scale == [1, 1, 500, 1, 0.1]
    channels = image.attributes.omero.channels
    assert [channel.color for channel in channels] == ["0000FF", "00FF00", "FFFFFF"]
    assert (channels[0].window.start, channels[0].window.end) == (3, 900)
    assert channels[1].window.max == 65535


def test_a_plate_conforms_to_ome_ngff_0_4(tmp_path):
    plate = PlateInfo(
        3, "P", (Field(0, 0, 0, IMAGE, 9), Field(0, 11, 0, IMAGE, 9), Field(27, 0, 1, IMAGE, None)), ((9, "Run 9"),)
    )
    ome_zarr.create_group(tmp_path / "p", plate_attributes(plate))
    described = HCSAttrs.model_validate(zarr.open_group(tmp_path / "p", mode="r").attrs.asdict()).plate
    assert [row.name for row in described.rows] == ["A", "AB"]
    assert [column.name for column in described.columns] == ["1", "12"]
    assert [(w.path, w.rowIndex, w.columnIndex) for w in described.wells] == [
        ("A/1", 0, 0),
        ("A/12", 0, 1),
        ("AB/1", 1, 0),
    ]
    well = well_attributes(plate, 0, 0).well
    assert [(image.path, image.acquisition) for image in well.images] == [("0", 9)]


@pytest.mark.parametrize(("row", "name"), [(0, "A"), (25, "Z"), (26, "AA"), (701, "ZZ"), (702, "AAA")])
def test_rows_are_lettered_as_spreadsheets_do(row, name):
    assert row_name(row) == name


def test_a_field_lies_below_its_well():
    assert field_path(1, 9, 2) == "B/10/2"


@pytest.mark.parametrize(
    ("shape", "largest", "limit"),
    [((2, 2, 3, 50, 60), 10**6, 3192), ((1, 1, 1, 5000, 4100), 4 * 2**20, 3192), ((1, 1, 1, 10, 4000), 10**9, 3192)],
)
def test_every_pixel_is_read_once_and_no_two_reads_share_a_chunk(shape, largest, limit):
    seen = np.zeros(shape, np.uint8)
    for region in regions(shape, 2, largest, limit):
        seen[region.t, region.c, region.z][region.y : region.y + region.height, region.x : region.x + region.width] += 1
        assert region.y % 1024 == 0
        assert region.x % 1024 == 0
        assert region.height * region.width * 2 <= largest
    assert (seen == 1).all()
