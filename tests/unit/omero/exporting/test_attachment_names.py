"""Names of attached files on this machine and on the cluster."""

import pytest

from biomeroworker.errors import RequestRejected
from biomeroworker.omero.exporting.attachments import file_name


@pytest.mark.parametrize("name", ["/data/../model.pt", "C:\\data\\model.pt", "model.pt"])
def test_only_the_last_part_of_a_name_is_used(name):
    assert file_name(name, []) == "model.pt"


@pytest.mark.parametrize("name", ["", "..", "a/..", "x" * 300, "a\0b"])
def test_a_name_that_is_no_file_is_refused(name):
    with pytest.raises(RequestRejected, match="rename the file"):
        file_name(name, [])


def test_the_type_of_a_file_is_checked():
    assert file_name("A.CSV", ["csv", " .txt "]) == "A.CSV"
    assert file_name("a.pt", ["", " "]) == "a.pt"
    with pytest.raises(RequestRejected, match=r"accepted file types: \.csv"):
        file_name("a.pt", ["csv"])
