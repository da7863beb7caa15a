# ruff: noqa: F811  fixtures by import
"""Defects of BIOMERO's scripts at the import of results; each test shows that biomeroworker does not have it."""

from __future__ import annotations

import omero.clients
import omero.model
import pytest
import tifffile
from omero.rtypes import rstring

from biomeroworker.errors import Permanent
from tests.fakes.guards import UNGUARDED
from tests.integration.omero.conftest import person, server, session  # noqa: F401
from tests.integration.omero.import_run import Run, quiet
from tests.integration.omero.omero_objects import make_image, make_plate, noise


@pytest.fixture
def run(server, person, session, tmp_path):
    made = Run(server, person, session, tmp_path)
    for file in made.folder.iterdir():
        file.unlink()
    return made


def test_each_of_several_results_is_matched_to_its_input(run):
    """Of three results of one image, only the first was matched to it; the others to another image or to none."""
    first, second = run.images
    for key, words in ((first, ("mask", "outline", "probability")), (second, ("mask",))):
        for word in words:
            tifffile.imwrite(run.folder / f"image-{key}_{word}.tif", noise(9, 9, seed=key))
    run.request = run.request.model_copy(update={"outputs": {"attach_images": True, "images": False}})
    run.stage_out()
    query = "select l.id from ImageAnnotationLink l, FileAnnotation a where l.child.id = a.id and l.parent.id = :i"
    assert len(run.session.rows(query, i=first)) == 3
    assert len(run.session.rows(query, i=second)) == 1


def test_ids_of_datasets_and_plates_are_never_used_as_ids_of_images(run, session):
    """Results were attached to images that had the same id as the selected dataset."""
    (run.folder / "note.txt").write_text("of the whole run")
    run.request = run.request.model_copy(update={"inputs": {"type": "Dataset", "ids": [run.dataset]}})
    run.stage_out()
    query = "select l.parent.id from {}AnnotationLink l where l.child.ns = 'biomero/workflow/result'"
    assert session.rows(query.format("Dataset")) == [[run.dataset]]
    assert session.rows(query.format("Image")) == []


def test_a_failed_import_does_not_count_as_success(run):
    """An error during the import of results was ignored, and the run counted as done."""
    (run.folder / f"image-{run.images[0]}_mask.tif").write_bytes(b"this is no image")
    with pytest.raises(Permanent, match="mask"):
        run.stage_out()


def test_a_screen_is_exported_and_an_image_without_a_dataset_gets_its_results(run, session, tmp_path):
    """Screens were offered but not supported; an image without a dataset was an error after the job had run."""
    plate = make_plate(session, {(0, 0): [make_image(session, "f", noise(1, 1, 1, 20, 30))]})
    screen, link = omero.model.ScreenI(), omero.model.ScreenPlateLinkI()
    screen.name = rstring("s")
    link.parent = session.save_and_return([screen])[0]
    link.child = omero.model.PlateI(plate, False)
    session.save([link])
    of_screen = run.request.model_copy(update={"inputs": {"type": "Screen", "ids": [link.parent.id.val]}})
    assert [image.key for image in run.source.list_inputs("r", of_screen).images] == [f"plate-{plate}"]

    alone = make_image(session, "alone", noise(1, 1, 1, 9, 9))
    run.request = run.request.model_copy(update={"inputs": {"type": "Image", "ids": [alone]}})
    run.inputs = run.source.list_inputs(run.id, run.request)
    run.source.stage_in(run.id, run.request, run.inputs.portions(), tmp_path / "alone", quiet, UNGUARDED)
    tifffile.imwrite(run.folder / f"image-{alone}_mask.tif", noise(9, 9))
    assert {"Dataset", "Image"} <= {one.kind for one in run.stage_out()}


def test_new_datasets_are_in_the_group_of_the_run(run, session):
    """A new dataset was created in the default group of the session."""
    tifffile.imwrite(run.folder / f"image-{run.images[0]}_mask.tif", noise(9, 9))
    (made,) = [one for one in run.stage_out() if one.kind == "Dataset"]
    rows = session.rows("select d.details.group.id from Dataset d where d.id = :id", id=int(made.reference[8:]))
    assert rows == [[run.person.group]]
