"""Import options of the user, each verified in OMERO."""

import omero.clients
import omero.model
import pytest
from omero.rtypes import rstring

from biomeroworker.omero.importing.rois import colour_of
from tests.integration.omero.import_run import Run
from tests.integration.omero.omero_objects import make_dataset


@pytest.fixture
def make_run(server, person, session, tmp_path):
    """Create runs with these import options."""
    return lambda **outputs: Run(server, person, session, tmp_path, **outputs)


def draw(session, image, name):
    """A ROI that existed before the import."""
    roi = omero.model.RoiI()
    roi.image, roi.name = omero.model.ImageI(image, False), rstring(name)
    roi.addShape(omero.model.PointI())
    return session.save_and_return([roi])[0].id.val


def names(session, image):
    return sorted(row[0] for row in session.rows("select r.name from Roi r where r.image.id = :i", i=image))


OURS = ["nuclei mask 1", "nuclei mask 2"]


def test_rois_have_the_requested_color(make_run, session):
    run = make_run(roi_colour="#112233")
    run.stage_out()
    colours = {
        row[0] for row in session.rows("select s.strokeColor from Shape s where s.roi.image.id = :i", i=run.images[0])
    }
    assert colours == {colour_of("#112233")}


def test_existing_rois_are_deleted_only_on_request(make_run, session):
    run = make_run()
    draw(session, run.images[0], "by hand")
    run.stage_out()
    assert names(session, run.images[0]) == ["by hand", *OURS]


@pytest.mark.parametrize(("words", "left"), [("", []), ("old", ["by hand"])])
def test_existing_rois_are_deleted_once_and_neither_ours_nor_later_ones(make_run, session, words, left):
    run = make_run(clear_rois=True, clear_filter=words)
    for name in ("by hand", "an old one"):
        draw(session, run.images[0], name)
    first = run.stage_out()
    assert names(session, run.images[0]) == [*left, *OURS]
    draw(session, run.images[0], "an old name, drawn after")
    assert run.stage_out() == first, "an import that is repeated"
    assert names(session, run.images[0]) == sorted([*left, *OURS, "an old name, drawn after"])


def test_existing_rois_are_not_deleted_for_a_result_without_rois(make_run, session):
    run = make_run(clear_rois=True, label_pattern="*nothing*")
    draw(session, run.images[0], "by hand")
    run.stage_out()
    assert names(session, run.images[0]) == ["by hand"]


def test_label_images_that_became_rois_can_be_deleted(make_run):
    run = make_run(label_images=False)
    kinds = [one.kind for one in run.stage_out()]
    assert kinds.count("Roi") == 2
    assert "Image" not in kinds
    assert "Dataset" not in kinds
    before = run.counts()
    run.stage_out()
    assert run.counts() == before


def test_result_images_without_rois_are_always_imported(make_run):
    run = make_run(label_images=False, label_pattern="*nothing*")
    assert [one.kind for one in run.stage_out()].count("Image") == 2


@pytest.mark.parametrize("duplicates", [False, True])
def test_a_dataset_of_that_name_is_used_or_a_duplicate_is_created(make_run, session, duplicates):
    there = make_dataset(session, "results")
    run = make_run(dataset="results", duplicates=duplicates)
    (made,) = [one for one in run.stage_out() if one.kind == "Dataset"]
    assert (made.reference == f"Dataset:{there}") is not duplicates
    before = run.counts()
    run.stage_out()
    assert run.counts() == before
