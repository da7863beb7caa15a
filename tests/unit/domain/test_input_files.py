"""The names and paths of the files of file parameters."""

import pytest

from biomeroworker.domain.input_files import NAME_CHARACTERS, FoundFile, lay_out, safe_name, values
from biomeroworker.domain.manifest import InputManifest


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("model.npz", "model.npz"),
        ("a b;$(touch x).h5", "a_b_touch_x_.h5"),
        ("../../etc/passwd", "passwd"),
        ("C:\\models\\m.pt", "m.pt"),
        ("..", "file"),
        ("", "file"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("modèle.pt", "mod_le.pt"),
    ],
)
def test_a_name_is_safe_in_any_folder_and_any_shell(given, name):
    assert safe_name(given) == name


def test_the_suffix_of_a_long_name_remains():
    assert len(safe_name("x" * 500 + ".ome.tiff")) == NAME_CHARACTERS
    assert safe_name("x" * 500 + ".ome.tiff").endswith(".ome.tiff")


def manifest(**files):
    found = {parameter: [FoundFile(name, 1) for name in names] for parameter, names in files.items()}
    return InputManifest(run="r", images=(), files=lay_out(found))


def test_each_parameter_has_a_folder_of_its_own_and_no_two_files_have_one_path():
    paths = [file.path for file in manifest(a=["m.pt", "M.PT", "x/m.pt"], b=["m.pt"]).files]
    assert paths == ["files/p1/m.pt", "files/p1/2_M.PT", "files/p1/3_m.pt", "files/p2/m.pt"]


def test_one_file_is_given_as_its_path_and_several_as_their_folder():
    found = manifest(a=["m.pt"], b=["x.txt", "y.txt"], c=["z.txt"])
    assert values(found, "/run", folders=["c"]) == {
        "a": "/run/files/p1/m.pt",
        "b": "/run/files/p2",
        "c": "/run/files/p3",
    }
    assert values(manifest(), "/run") == {}
