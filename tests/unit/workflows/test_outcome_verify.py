import hashlib

import pytest

from biomeroworker.domain.manifest import ResultFile, ResultManifest
from biomeroworker.errors import Transient
from biomeroworker.workflows.outcome import verify


def manifest(**content: bytes) -> ResultManifest:
    files = [
        ResultFile(path=name, size=len(text), sha256=hashlib.sha256(text).hexdigest()) for name, text in content.items()
    ]
    return ResultManifest(run="r", attempt=1, files=tuple(files))


def test_what_came_back_whole_is_good(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    verify(manifest(a=b"one"), tmp_path)


def test_a_file_that_has_not_come_back_is_waited_for(tmp_path):
    with pytest.raises(Transient, match="a is in the job's manifest"):
        verify(manifest(a=b"one"), tmp_path)


@pytest.mark.parametrize("content", [b"onf", b"on", b"one more"])
def test_another_file_is_not_taken_for_the_result_and_is_fetched_anew(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(Transient, match="differs from the file"):
        verify(manifest(a=b"one"), tmp_path)
    assert not (tmp_path / "a").exists()
