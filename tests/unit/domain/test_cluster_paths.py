import pytest

from biomeroworker.domain.cluster_paths import bind_problem, home_problem, is_below_home, split_binds, strip_home


@pytest.mark.parametrize(
    ("path", "below"),
    [("~", "."), ("$HOME", "."), ("", "."), ("~/a", "a"), ("$HOME//a", "a"), ("${HOME}/a", "a"), ("/a/~/b", "/a/~/b")],
)
def test_only_the_start_of_a_path_names_the_home_folder(path: str, below: str) -> None:
    assert strip_home(path) == below
    assert not home_problem(path)


@pytest.mark.parametrize("path", ["~ada/x", "$SCRATCH/x", "~/$USER", "$HOMES/x"])
def test_what_only_a_shell_expands_is_a_problem(path: str) -> None:
    assert home_problem(path)


@pytest.mark.parametrize("bind", ["/a", "/a:/b", "/a:/b:ro", "a/b", "~/a"])
def test_an_absolute_folder_with_target_and_mode_or_one_below_home_is_a_bind(bind: str) -> None:
    assert not bind_problem(bind)
    assert is_below_home(bind) == (not bind.startswith("/"))


@pytest.mark.parametrize("bind", ["/a:b", "a:/b", "/a:/b:exec", "/a:/b:ro:x", "-v", "/a\n/b", "/a,/b", "$X/a"])
def test_any_other_text_is_no_bind(bind: str) -> None:
    assert bind_problem(bind)


def test_commas_separate_binds() -> None:
    assert split_binds(" /a, ,~/b,") == ["/a", "~/b"]
