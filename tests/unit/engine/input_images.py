"""Input images for tests of the engine."""

from biomeroworker.domain.manifest import InputImage


def image(number):
    key = f"image-{number}"
    return InputImage(key=key, path=f"{key}.ome.zarr", name=f"n{number}", shape=(1, 1, 1, 8, 8), pixel_type="uint8")
