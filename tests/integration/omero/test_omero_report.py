"""The report of a run is attached once, to objects that its user can see."""

import contextlib

import pytest

from biomeroworker.errors import Permanent, Transient
from biomeroworker.omero.connection.session import OmeroSession
from tests.fakes.guards import UNGUARDED
from tests.integration.omero.import_run import Run
from tests.integration.omero.omero_objects import make_group, make_person

PAGE = "<!DOCTYPE html><title>nuclei µ</title>"


@pytest.fixture
def page(tmp_path):
    file = tmp_path / "run-report-1234abcd.html"
    file.write_text(PAGE, encoding="utf-8")
    return file


@pytest.fixture
def run(server, person, session, tmp_path):
    return Run(server, person, session, tmp_path)


def attach(run, page):
    return run.source.attach_report(run.request, page, run.by, UNGUARDED)


def attachments(session, dataset):
    """Name, type and namespace of the files on a dataset."""
    return session.rows(
        "select f.name, f.mimetype, a.ns from DatasetAnnotationLink l, FileAnnotation a join a.file f"
        " where l.child.id = a.id and l.parent.id = :id and a.ns like 'biomero/%'",
        id=dataset,
    )


def test_the_report_is_attached_to_the_inputs_and_can_be_read(run, page):
    reference = attach(run, page)
    (attached,) = attachments(run.session, run.dataset)
    assert attached == ["run-report-1234abcd.html", "text/html", "biomero/workflow/report"]
    assert run.source.read_report(run.request, reference).decode() == PAGE


def test_a_report_of_an_earlier_try_is_used(run, page):
    reference, before = attach(run, page), run.counts()
    page.write_text("another try writes other times")
    assert attach(run, page) == reference
    assert run.counts() == before
    assert run.source.read_report(run.request, reference).decode() == PAGE


@pytest.mark.parametrize("point", range(3))
def test_an_attachment_killed_at_any_point_is_completed_by_the_next(run, page, monkeypatch, point):
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
        with contextlib.suppress(Transient):
            attach(run, page)
    reference = attach(run, page)
    counts = run.counts()
    assert (counts["FileAnnotation"], counts["OriginalFile"]) == (1, 1)
    assert run.source.read_report(run.request, reference).decode() == PAGE


def test_the_report_on_read_only_inputs_is_on_the_dataset_of_the_results(server, tmp_path, page):
    group = make_group(server, "rwr---")
    owner, reader = make_person(server, group), make_person(server, group)
    with OmeroSession.login(server.host, server.port, owner.name, owner.password) as owners:
        run = Run(server, owner, owners, tmp_path)
        run.request = run.request.model_copy(update={"user": reader.id})
        made = run.stage_out()
        attach(run, page)
        (dataset,) = [int(one.reference.partition(":")[2]) for one in made if one.kind == "Dataset"]
        assert "biomero/workflow/report" in {namespace for _, _, namespace in attachments(owners, dataset)}
        assert attachments(owners, run.dataset) == []


def test_a_report_that_was_deleted_is_named(run, page):
    reference = attach(run, page)
    run.session.delete("Annotation", [int(reference.partition(":")[2])])
    with pytest.raises(Permanent, match=f"{reference} is not in OMERO any more"):
        run.source.read_report(run.request, reference)
