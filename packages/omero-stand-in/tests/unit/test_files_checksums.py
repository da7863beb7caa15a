"""Checksums as a real server wrote them for the three bytes ``abc``."""

import pytest

from omero_stand_in.files_on_disk import Disk
from omero_stand_in.services.checksums import checksum

OF_ABC = {
    "Adler-32": "27014d02",
    "CRC-32": "c2412435",
    "File-Size-64": "0300000000000000",
    "MD5-128": "900150983cd24fb0d6963f7d28e17f72",
    "Murmur3-128": "6778ad3f3f3f96b4522dca264174a23b",
    "Murmur3-32": "fa93ddb3",
    "SHA1-160": "a9993e364706816aba3e25717850c26c9cd0d89d",
}


@pytest.mark.parametrize(("algorithm", "expected"), sorted(OF_ABC.items()))
def test_each_algorithm_gives_what_the_server_gives(tmp_path, algorithm, expected):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert checksum(algorithm, path) == expected


def test_an_unknown_algorithm_is_an_error(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(KeyError):
        checksum("nonsense", tmp_path / "x")


def test_files_lie_a_thousand_to_a_folder(tmp_path):
    disk = Disk(tmp_path)
    assert disk.file(7) == tmp_path / "Files/7"
    assert disk.file(12_345) == tmp_path / "Files/Dir-012/12345"
    assert len({disk.pixels(number) for number in (1, 1001, 2001, 1_000_001, 1_001_001)}) == 5
