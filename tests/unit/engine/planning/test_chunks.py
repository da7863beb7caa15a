"""How a run is split, and what of it is named when a part fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomeroworker.domain import ranges
from biomeroworker.domain.manifest import InputImage, InputManifest
from biomeroworker.engine.planning import chunks
from biomeroworker.errors import Permanent
from tests.unit.engine.input_images import image


def plate(number, wells, fields):
    places = [f"{row}/{column}/{field}" for row, column in wells for field in range(fields)]
    key = f"plate-{number}"
    return InputImage(
        key=key, path=f"{key}.ome.zarr", name=f"p{number}", shape=(1, 1, 1, 8, 8), pixel_type="uint8",
        origin={"type": "Plate", "id": number, **{place: at for at, place in enumerate(places, start=100)}},
    )  # fmt: skip


def manifest(*images):
    return InputManifest(run="r", images=images)


def keys(found):
    return [chunk.keys for chunk in found.chunks]


def test_images_are_split_in_their_order():
    found = chunks.split(manifest(*map(image, range(1, 6))), 2, 1000)
    assert keys(found) == [("image-1", "image-2"), ("image-3", "image-4"), ("image-5",)]


@pytest.mark.parametrize("size", [0, 5, 6])
def test_inputs_that_fit_into_one_chunk_are_not_split(size):
    found = chunks.split(manifest(*map(image, range(1, 6))), size, 1000)
    assert found.chunks == ()
    assert not chunks.wants_split(found, size)
    assert [portion.image.key for portion in found.portions()] == [f"image-{n}" for n in range(1, 6)]


def test_a_plate_is_split_between_wells_and_shares_no_chunk():
    one = plate(7, [("A", 1), ("A", 2), ("B", 1)], fields=2)
    found = chunks.split(manifest(image(1), one, image(2)), 4, 1000)
    assert [(chunk.keys, chunk.fields) for chunk in found.chunks] == [
        (("image-1",), ()),
        (("plate-7",), ("A/1/0", "A/1/1", "A/2/0", "A/2/1")),
        (("plate-7",), ("B/1/0", "B/1/1")),
        (("image-2",), ()),
    ]


def test_a_well_is_never_split_however_small_the_chunks():
    found = chunks.split(manifest(plate(7, [("A", 1), ("A", 2)], fields=3)), 1, 1000)
    assert [chunk.fields for chunk in found.chunks] == [("A/1/0", "A/1/1", "A/1/2"), ("A/2/0", "A/2/1", "A/2/2")]


def test_chunks_grow_until_the_cluster_allows_so_many_tasks():
    found = chunks.split(manifest(*map(image, range(1, 101))), 1, 30)
    assert 2 <= len(found.chunks) <= 30
    assert [key for chunk in found.chunks for key in chunk.keys] == [f"image-{n}" for n in range(1, 101)]


@pytest.mark.parametrize("most", [0, 1])
def test_inputs_are_not_split_where_arrays_are_switched_off(most):
    assert chunks.split(manifest(*(image(n) for n in range(5))), 2, most).chunks == ()
    assert chunks.split(manifest(plate(1, [("A", 1)], 1), plate(2, [("A", 1)], 1)), 1, most).chunks == ()


def test_more_plates_than_tasks_are_refused():
    with pytest.raises(Permanent, match="3 plates"):
        chunks.split(manifest(*(plate(n, [("A", 1)], 1) for n in (1, 2, 3))), 1, 2)


@given(st.integers(1, 40), st.integers(0, 5), st.integers(1, 9), st.integers(6, 50))
def test_nothing_is_lost_or_doubled_by_a_split(images, wells, size, most):
    parts = [image(n) for n in range(images)]
    parts += [plate(1, [("A", n) for n in range(1, wells + 1)], 2)] if wells else []
    found = chunks.split(manifest(*parts), size, most)
    assert len(found.chunks) <= most
    named = chunks.named_inputs(found, range(len(found.chunks))) if found.chunks else {}
    if found.chunks:
        whole = {f"image-{n}" for n in range(images)}
        fields = {f"plate-1/A/{n}/{field}" for n in range(1, wells + 1) for field in (0, 1)}
        assert set(named) in (whole | fields, whole | ({"plate-1"} if wells else set()))


@given(st.sets(st.integers(0, 400)))
def test_numbers_of_chunks_are_read_as_they_were_written(numbers):
    assert ranges.parse_ranges(ranges.format_ranges(numbers)) == tuple(sorted(numbers))


def test_a_thousand_chunks_are_a_short_text():
    assert ranges.format_ranges(range(1000)) == "0-999"
    assert ranges.format_ranges([]) == ""
