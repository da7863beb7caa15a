"""Files of file parameters on this machine."""

import pytest

from biomeroworker.deployment import folder_files
from biomeroworker.errors import Permanent, RequestRejected
from tests.fakes.guards import UNGUARDED


def staged(files, folder):
    folder_files.copy(files, folder, lambda fraction, text: None, UNGUARDED)


def test_a_file_is_copied_complete_to_its_path(tmp_path):
    (tmp_path / "my model.txt").write_bytes(b"weights")
    (found,) = folder_files.describe_files({"model": (str(tmp_path / "my model.txt"),)})
    assert (found.name, found.size) == ("my model.txt", 7)
    staged([found], tmp_path / "work")
    assert (tmp_path / "work/files/p1/my_model.txt").read_bytes() == b"weights"
    assert len(list((tmp_path / "work/files/p1").iterdir())) == 1


def test_a_folder_and_a_missing_file_are_refused_by_the_name_of_their_parameter(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RequestRejected, match=f"^model: {path} does not exist or is not a file"):
            folder_files.describe_files({"model": (str(path),)})


def test_a_file_that_changed_or_vanished_after_acceptance_fails_the_run(tmp_path):
    file = tmp_path / "m.txt"
    file.write_text("old")
    found = folder_files.describe_files({"model": (str(file),)})
    file.write_text("newer")
    with pytest.raises(Permanent, match=r"model: m\.txt has changed"):
        staged(found, tmp_path / "work")
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    file.unlink()
    with pytest.raises(Permanent, match="does not exist any more"):
        staged(found, tmp_path / "work")
