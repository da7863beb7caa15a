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


def test_complete_results_are_accepted(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    verify(manifest(a=b"one"), tmp_path)


def test_a_file_that_was_not_fetched_is_transient(tmp_path):
    with pytest.raises(Transient, match="a is in the job's manifest"):
        verify(manifest(a=b"one"), tmp_path)


@pytest.mark.parametrize("content", [b"onf", b"on", b"one more"])
def test_a_file_that_differs_from_the_manifest_is_removed_and_fetched_again(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(Transient, match="differs from the file"):
        verify(manifest(a=b"one"), tmp_path)
    assert not (tmp_path / "a").exists()
