"""Import of results into OMERO: complete, to the right targets, and once even if repeated."""

import contextlib
from uuid import uuid4

import numpy as np
import omero.clients
import omero.gateway
import pytest
import tifffile

from biomeroworker.domain.manifest import ResultFile, ResultManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Provenance
from biomeroworker.errors import BiomeroWorkerError, Permanent, RequestRejected, Transient
from biomeroworker.eventlog.store.fence import LeaseLost
from biomeroworker.omero.connection import session as sessions
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.exporting.describe import describe_images
from biomeroworker.omero.importing import images
from biomeroworker.omero.source import OmeroSource
from tests.fakes.guards import UNGUARDED, FakeGuard
from tests.integration.omero.import_run import Run, quiet
from tests.integration.omero.omero_objects import (
    make_dataset,
    make_group,
    make_image,
    make_person,
    make_plate,
    noise,
)


@pytest.fixture
def run(server, person, session, tmp_path):
    return Run(server, person, session, tmp_path)


def test_all_results_are_imported_to_the_right_targets(run):
    made = run.stage_out()
    kinds = {}
    for one in made:
        kinds[one.kind] = kinds.get(one.kind, 0) + one.count
    assert kinds == {"Dataset": 1, "Image": 2, "Roi": 4, "Table": 1, "File": 1}

    session = run.session
    (dataset,) = [int(one.reference.partition(":")[2]) for one in made if one.kind == "Dataset"]
    rows = session.rows("select d.name, d.details.owner.id from Dataset d where d.id = :id", id=dataset)
    assert rows == [[f"nuclei results {run.id[:8]}", run.person.id]]
    assert session.rows("select l.parent.id from ProjectDatasetLink l where l.child.id = :id", id=dataset) == [
        [run.project]
    ]

    for image in run.images:
        (result,) = [one for one in made if one.kind == "Image" and one.result == f"image-{image}_mask.tif"]
        number = int(result.reference.partition(":")[2])
        gateway = omero.gateway.BlitzGateway(client_obj=session.client)
        label = gateway.getObject("Image", number)
        assert label.getName() == "nuclei µ_mask"
        assert label.getPixelsType() == "uint32"
        assert label.getPixelSizeX() == 0.5
        stored = np.array([label.getPrimaryPixels().getPlane(z, 0, 0) for z in range(3)])
        assert np.array_equal(stored, run.labels[image])
        (annotation,) = [a for a in label.listAnnotations() if a.getNs() == "biomero/workflow"]
        values = dict(annotation.getValue())
        assert values["Workflow_ID"] == run.id
        assert values["Image_Digest"] == "sha256:abc"
        assert values["Param_d"] == "3"
        assert values["Job_ID"] == "77"
        assert "Param_off" not in values


def test_rois_are_on_the_source_image_with_the_area_of_their_labels(run):
    run.stage_out()
    for image in run.images:
        found = run.session.sf.getRoiService().findByImage(image, None).rois
        by_name = {roi.name.val: roi for roi in found}
        assert sorted(by_name) == ["nuclei mask 1", "nuclei mask 2"]
        second = by_name["nuclei mask 2"].copyShapes()
        assert [(shape.theZ.val, shape.theT.val) for shape in second] == [(1, 0)]
        points = [tuple(map(float, pair.split(","))) for pair in second[0].points.val.split()]
        assert {(40.0, 30.0), (60.0, 50.0)} <= set(points)
        assert sorted(shape.theZ.val for shape in by_name["nuclei mask 1"].copyShapes()) == [0, 1, 2]


def test_the_csv_is_a_typed_table_on_the_source_dataset(run):
    made = run.stage_out()
    (table,) = [one for one in made if one.kind == "Table"]
    number = int(table.reference.partition(":")[2])
    session = run.session
    rows = session.rows("select l.parent.id, a.file.id from DatasetAnnotationLink l, FileAnnotation a"
                        " where l.child.id = a.id and a.id = :id", id=number)  # fmt: skip
    assert rows[0][0] == run.dataset
    opened = session.sf.sharedResources().openTable(omero.model.OriginalFileI(rows[0][1], False))
    try:
        headers = {column.name: type(column).__name__ for column in opened.getHeaders()}
        assert headers == {
            "Image": "ImageColumn",
            "Image Name": "StringColumn",
            "label": "LongColumn",
            "area": "DoubleColumn",
        }
        data = opened.read(list(range(4)), 0, 4)
        assert list(data.columns[0].values) == [run.images[0]] * 2 + [run.images[1]] * 2
        assert list(data.columns[3].values) == [0.25, 0.5, 0.25, 0.5]
    finally:
        opened.close()


def test_a_second_import_creates_nothing_and_reports_the_same(run):
    first = run.stage_out()
    before = run.counts()
    assert run.stage_out() == first
    assert run.counts() == before


@pytest.mark.parametrize("point", [pytest.param(n, marks=() if n % 3 == 2 else pytest.mark.slow) for n in range(12)])
def test_an_import_killed_at_any_point_is_completed_by_the_next(run, monkeypatch, point):
    """The process is killed at the n-th call that changes something; then the import is repeated."""
    whole = _counts_of_a_whole_import(run)
    calls = 0

    def cut(original):
        def method(self, *arguments, **settings):
            nonlocal calls
            calls += 1
            if calls > point:
                raise Transient("cut")
            return original(self, *arguments, **settings)

        return method

    with monkeypatch.context() as patched:
        patched.setattr(OmeroSession, "save", cut(OmeroSession.save))
        patched.setattr(OmeroSession, "save_and_return", cut(OmeroSession.save_and_return))
        write = images._write_plane
        planes = 0

        def cut_plane(*arguments):
            nonlocal planes
            planes += 1
            if point % 3 == 2 and planes > 4:
                raise Transient("cut between planes")
            write(*arguments)

        patched.setattr(images, "_write_plane", cut_plane)
        with contextlib.suppress(Transient):
            run.stage_out()
    before = run.stage_out()
    assert run.counts() == whole
    assert run.stage_out() == before
    assert run.counts() == whole


@pytest.mark.parametrize("point", [pytest.param(n, marks=() if n % 3 == 1 else pytest.mark.slow) for n in range(9)])
def test_two_concurrent_imports_of_one_attempt_create_one_set_of_objects(run, monkeypatch, point):
    """One process stalls between its query and its save; another process takes the run over and imports all."""
    whole = _counts_of_a_whole_import(run)
    calls, meanwhile = 0, []

    def stalled(original):
        def method(self, *arguments):
            nonlocal calls
            calls += 1
            if calls == point + 1:
                meanwhile.append(run.stage_out())
            return original(self, *arguments)

        return method

    with monkeypatch.context() as patched:
        patched.setattr(OmeroSession, "save", stalled(OmeroSession.save))
        patched.setattr(OmeroSession, "save_and_return", stalled(OmeroSession.save_and_return))
        with contextlib.suppress(BiomeroWorkerError):  # what it works on was taken for a dead process's and deleted
            run.stage_out()
    assert meanwhile
    assert run.counts() == whole
    assert run.stage_out() == meanwhile[0]
    assert run.counts() == whole


def test_an_importer_that_lost_its_lease_while_writing_pixels_links_nothing(run, monkeypatch):
    lost, write = [], images._write_plane

    def slow(*arguments):
        lost.append(True)
        write(*arguments)

    def check():
        if lost:
            raise LeaseLost("another process executes the run")

    monkeypatch.setattr(images, "_write_plane", slow)
    with pytest.raises(LeaseLost):
        run.source.stage_out(run.request, run.inputs, run.results(), run.folder, run.by, quiet, FakeGuard(check))
    assert (
        run.session.rows("select l.id from ImageAnnotationLink l where l.details.owner.id = :u", u=run.person.id) == []
    )


def test_objects_that_a_user_linked_to_the_provenance_are_neither_adopted_nor_deleted(run):
    first = run.stage_out()
    (mark,) = run.session.rows(
        "select l.child.id from ImageAnnotationLink l where l.child.description like :m",
        m=f"%{run.id}%image-{run.images[0]}_mask.tif",
    )
    link = omero.model.ImageAnnotationLinkI()
    link.parent, link.child = omero.model.ImageI(run.images[0], False), omero.model.MapAnnotationI(mark[0], False)
    run.session.save([link])
    before = run.counts()
    assert run.stage_out() == first
    assert run.counts() == before


def test_queries_for_many_results_are_split_into_batches(run, monkeypatch):
    monkeypatch.setattr(sessions, "IDS_PER_QUERY", 1)
    sizes, query_rows = [], OmeroSession.rows
    monkeypatch.setattr(
        OmeroSession,
        "rows",
        lambda self, hql, **values: (
            sizes.extend(len(value) for value in values.values() if isinstance(value, list)),
            query_rows(self, hql, **values),
        )[1],
    )
    first = run.stage_out()
    assert run.stage_out() == first
    assert set(sizes) == {1}


def _counts_of_a_whole_import(run):
    """The counts for two images, four ROIs, a table and a file, in addition to the previous counts."""
    there = run.counts()
    # provenance: the run, four results, the table
    made = {"Image": 2, "Dataset": 1, "Roi": 4, "Shape": 8, "FileAnnotation": 2, "MapAnnotation": 6, "OriginalFile": 2}
    return {kind: there[kind] + made[kind] for kind in there}


def test_another_attempt_creates_another_set_of_objects(run):
    run.stage_out()
    before = run.counts()
    run.by = Provenance(run.id, 2, "nuclei", "v1", "lab/nuclei:v1", "sha256:abc", {}, 78)
    run.stage_out()
    assert run.counts()["Image"] == before["Image"] + 2


def test_options_are_followed(server, person, session, tmp_path):
    run = Run(
        server, person, session, tmp_path,
        dataset="mine", rename="{original_file} seg", roi_shape="mask", tables=False, zip=True, attach_images=True,
    )  # fmt: skip
    made = run.stage_out()
    names = [row[0] for row in session.rows("select f.name from FileAnnotation a join a.file f where f.name like '%'")]
    assert sorted(names) == sorted(
        ["notes.txt", "nuclei.csv", "nuclei µ_mask.tif", "nuclei µ_mask.tif", f"nuclei results {run.id[:8]}.zip"]
    )
    assert {row[0] for row in session.rows("select i.name from Image i where i.id in (:ids)", ids=[
        int(one.reference.partition(":")[2]) for one in made if one.kind == "Image"])} == {"nuclei µ seg"}  # fmt: skip
    assert session.rows("select count(m.id) from Mask m") == [[8]]


def test_results_of_single_images_are_in_a_dataset_of_the_same_project(run):
    run.request = run.request.model_copy(update={"inputs": {"type": "Image", "ids": run.images[:1]}})
    made = run.stage_out()
    (dataset,) = [int(one.reference.partition(":")[2]) for one in made if one.kind == "Dataset"]
    rows = run.session.rows("select l.parent.id from ProjectDatasetLink l where l.child.id = :id", id=dataset)
    assert rows == [[run.project]]


def test_nothing_is_written_to_read_only_images_of_a_colleague(server, session, person, tmp_path):
    group = make_group(server, "rwr---")
    owner, reader = make_person(server, group), make_person(server, group)
    with OmeroSession.login(server.host, server.port, owner.name, owner.password) as owners:
        run = Run(server, owner, owners, tmp_path)
        run.request = run.request.model_copy(update={"user": reader.id})
        made = run.stage_out()
        assert {one.kind for one in made} == {"Dataset", "Image", "Roi", "Table", "File"}
        rows = owners.rows("select r.image.details.owner.id, r.details.owner.id from Roi r")
        assert rows == [[reader.id, reader.id]] * 4
        assert owners.rows("select l.id from DatasetAnnotationLink l where l.parent.id = :id", id=run.dataset) == []
        # nothing hangs in the air: the table and the file are on the dataset of the results, which is the reader's
        (dataset,) = [int(one.reference.partition(":")[2]) for one in made if one.kind == "Dataset"]
        query = (
            "select l.child.id from DatasetAnnotationLink l where l.parent.id = :id and l.child.class = FileAnnotation"
        )
        hanging = {f"FileAnnotation:{row[0]}" for row in owners.rows(query, id=dataset)}
        assert hanging == {one.reference for one in made if one.kind in ("Table", "File")}
        assert run.stage_out() == made


def test_results_of_read_only_images_have_a_dataset_even_without_result_images(server, tmp_path):
    group = make_group(server, "rwr---")
    owner, reader = make_person(server, group), make_person(server, group)
    with OmeroSession.login(server.host, server.port, owner.name, owner.password) as owners:
        run = Run(server, owner, owners, tmp_path, images=False)
        run.request = run.request.model_copy(update={"user": reader.id})
        made = run.stage_out()
        assert sorted({one.kind for one in made}) == ["Dataset", "File", "RoiReadOnly", "Table"]
        (dataset,) = [int(one.reference.partition(":")[2]) for one in made if one.kind == "Dataset"]
        assert owners.rows("select d.details.owner.id from Dataset d where d.id = :id", id=dataset) == [[reader.id]]
        assert run.stage_out() == made


def test_a_result_stored_as_a_pyramid_is_written_by_tiles(session):
    values = np.zeros((1, 1, 1, 3200, 3300), np.uint32)  # as label images often are
    values[0, 0, 0, 3199, 3299] = 7
    values[0, 0, 0, 255:257, 255:257] = 60_000
    image = make_image(session, "a whole slide", values)
    ((number, kind),) = session.rows("select p.id, p.pixelsType.value from Pixels p where p.image.id = :id", id=image)
    assert kind == "uint16"
    with images.pixels_store(session.sf, number) as store:
        assert store.requiresPixelsPyramid()
        for x, y in ((3100, 3000), (200, 200)):
            tile = np.frombuffer(store.getTile(0, 0, 0, x, y, 200, 200), ">u2").reshape(200, 200)
            assert np.array_equal(tile, values[0, 0, 0, y : y + 200, x : x + 200])


def test_results_go_into_a_new_dataset_if_the_named_one_was_deleted(server, person, session, tmp_path):
    named = make_dataset(session, "mine")
    run = Run(server, person, session, tmp_path, dataset_id=named)
    session.delete("Dataset", [named])
    made = run.stage_out()
    (dataset,) = [int(one.reference.partition(":")[2]) for one in made if one.kind == "Dataset"]
    assert session.rows("select count(l.id) from DatasetImageLink l where l.parent.id = :id", id=dataset) == [[2]]
    assert [one.reference for one in made if one.kind == "DatasetGone"] == [f"Dataset:{named}"]
    assert run.stage_out() == made


def test_nan_values_do_not_affect_the_display_range(session):
    values = np.array([[[[[np.nan, -2.5], [np.inf, 7]]]]], np.float32)
    image = make_image(session, "ratio", values)
    (found,) = describe_images(session, [image])
    assert found.channels[0].range == (-2.5, 7.0)
    assert images.limits(np.full((2, 2), np.nan)) == (0.0, 1.0)


def test_a_plane_too_large_for_one_message_is_written_by_rows(session, monkeypatch):
    monkeypatch.setattr(images, "LARGEST_READ_BYTES", 5_000)
    values = noise(1, 1, 2, 70, 90)
    image = make_image(session, "large", values)
    gateway = omero.gateway.BlitzGateway(client_obj=session.client)
    pixels = gateway.getObject("Image", image).getPrimaryPixels()
    assert np.array_equal([pixels.getPlane(z, 0, 0) for z in range(2)], values[0, 0])


def test_an_object_that_the_server_does_not_delete_is_reported(session):
    with pytest.raises(Permanent, match="could not delete Image"):
        session.delete("Image", [999999999])


def test_an_image_without_labels_gets_no_rois(run):
    for image in run.images:
        tifffile.imwrite(run.folder / f"image-{image}_mask.tif", noise(60, 80))
    made = run.stage_out()
    assert not [one for one in made if one.kind == "Roi"]
    assert len([one for one in made if one.kind == "Image"]) == 2


def test_a_read_only_dataset_is_refused_for_results(server, tmp_path):
    group = make_group(server, "rwr---")
    owner, reader = make_person(server, group), make_person(server, group)
    with OmeroSession.login(server.host, server.port, owner.name, owner.password) as owners:
        dataset = make_dataset(owners)
        make_image(owners, "i", noise(1, 1, 1, 9, 9), dataset=dataset)
        wanted = RunRequest(
            workflow="w",
            source="omero",
            inputs={"type": "Dataset", "ids": [dataset]},
            outputs={"dataset_id": dataset},
            user=owner.id,
            group=group,
        )
        source = OmeroSource(server.provider())
        source.check(wanted)
        with pytest.raises(RequestRejected, match=f"may not put the results into dataset {dataset}"):
            source.check(wanted.model_copy(update={"user": reader.id}))
        with pytest.raises(RequestRejected, match="no dataset 999999999"):
            source.check(wanted.model_copy(update={"outputs": {"dataset_id": 999999999}}))


def test_label_images_of_a_plate_are_imported_and_missing_rois_are_reported(server, person, session, tmp_path):
    plate = make_plate(session, {(0, 0): [make_image(session, "f", noise(1, 1, 1, 20, 30))]})
    wanted = RunRequest(
        workflow="w", source="omero", inputs={"type": "Plate", "ids": [plate]}, user=person.id, group=person.group
    )
    source = OmeroSource(server.provider())
    inputs = source.list_inputs("r", wanted)
    source.stage_in("r", wanted, inputs.portions(), tmp_path / "in", quiet, UNGUARDED)
    labels = np.zeros((20, 30), np.uint16)
    labels[2:9, 3:9] = 1
    name = f"plate-{plate}_mask.tif"
    tifffile.imwrite(tmp_path / name, labels)
    results = ResultManifest(run="r", attempt=1, files=(ResultFile(path=name, size=1, sha256="0"),))
    by = Provenance(str(uuid4()), 1, "w", "v1", "lab/w:v1", "", {}, 5)
    made = source.stage_out(wanted, inputs, results, tmp_path, by, quiet, UNGUARDED)
    assert [one.result for one in made if one.kind == "Image"] == [name]
    (left_out,) = [one for one in made if one.kind == "RoiLeftOut"]
    assert (left_out.reference, left_out.result) == (f"Plate:{plate}", name)
    assert not [one for one in made if one.kind == "Roi"]
