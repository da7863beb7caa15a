import pytest
from pydantic import ValidationError

from biomeroworker.domain.manifest import InputImage, InputManifest, ResultFile


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("image-12_mask.tif", "image-12"),
        ("image-1.tif", "image-1"),
        ("masks/image-12.ome.tif", "image-12"),
        ("cp_masks_image-7_v2.png", "image-7"),
        ("plate-3_A1_0.tif", "plate-3"),
        ("summary.csv", None),
        ("image-x.tif", None),
        ("myimage-3.tif", None),
    ],
)
def test_a_result_is_matched_to_its_input_by_id_alone(path, key):
    assert ResultFile(path=path, size=0, sha256="").input_key == key


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "a\0b"])
def test_a_path_from_outside_that_leaves_its_folder_is_refused(path):
    with pytest.raises(ValidationError):
        ResultFile(path=path, size=0, sha256="")


def test_the_manifest_survives_a_round_trip_with_any_name():
    name = 'a b [1];$(touch x)"\n\u2028ü'
    image = InputImage(key="image-1", path="image-1.ome.zarr", name=name, shape=(1, 1, 1, 2, 3), pixel_type="uint8")
    manifest = InputManifest(run="r", images=(image,))
    assert InputManifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert manifest.find("image-1") == image
    assert manifest.find("image-2") is None
