"""The files of annotations, which are the values of file parameters."""

import pytest

from biomeroworker.errors import Permanent, RequestRejected
from biomeroworker.omero.exporting.file_parameters import describe_files, download
from biomeroworker.omero.importing.files import upload_text
from tests.fakes.guards import UNGUARDED

NAME = "my model;$(touch x).txt"


def staged(session, files, folder):
    download(session, files, folder, lambda fraction, text: None, UNGUARDED)


def test_files_are_read_under_safe_names_and_the_folder_has_nothing_else(session, tmp_path):
    first = upload_text(session, "weights", NAME, "a model", "")
    second = upload_text(session, "", NAME, "an empty one", "")
    files = describe_files(session, {"model": (first, second)})
    assert [(file.name, file.size) for file in files] == [(NAME, 7), (NAME, 0)]
    staged(session, files, tmp_path)
    found = {path.name: path.read_text() for path in (tmp_path / "files/p1").iterdir()}
    assert found == {"my_model_touch_x_.txt": "weights", "2_my_model_touch_x_.txt": ""}


def test_a_missing_annotation_is_refused_by_the_name_of_its_parameter(session):
    with pytest.raises(RequestRejected, match=r"^model: OMERO has no file annotation 1000000000 that"):
        describe_files(session, {"model": (10**9,)})
    with pytest.raises(RequestRejected, match=r"^model: 'a' is not the ID"):
        describe_files(session, {"model": ("a",)})


def test_the_private_file_of_another_user_is_refused(server, session, person):
    with server.root() as root:
        private = upload_text(root, "secret", "secret.txt", "", "")
    with pytest.raises(RequestRejected, match=rf"has no file annotation {private} that {person.name} can read"):
        describe_files(session, {"model": (private,)})


def test_a_file_that_is_not_what_its_checksum_says_fails_and_leaves_nothing(session, tmp_path):
    number = upload_text(session, "weights", "m.txt", "", "")
    (file,) = describe_files(session, {"model": (number,)})
    damaged = file.model_copy(update={"origin": {**file.origin, "hash": "0" * 40}})
    with pytest.raises(Permanent, match=rf"model: file annotation {number} \(m.txt\) is damaged"):
        staged(session, [damaged], tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
