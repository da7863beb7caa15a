"""Parameters of scripts from the cache: what they are valid for, how they are refreshed, what is not cached."""

import contextlib
import threading
import time

import omero.clients
import omero.scripts
import pytest
from omero.constants.namespaces import NSDYNAMIC
from omero.rtypes import rlist, rmap, rstring

from biomeroworker.config import Settings
from biomeroworker.domain.constants import LIVE_CHOICES
from biomeroworker.node import parameters
from biomeroworker.node.parameter_files import ParameterFiles, decode, encode
from biomeroworker.node.parameters import ParameterCache, cache_key, config_state


def job_params(name="a script"):
    """What a script sends: made by omero-py's own code."""
    kinds = omero.scripts
    declared = [
        kinds.String("Data_Type", optional=False, grouping="1", values=[rstring("Image"), rstring("Dataset")]),
        kinds.List("IDs", optional=False, grouping="2").ofType(omero.rtypes.rlong(0)),
        kinds.Int("Channel", default=1, min=0, max=9),
        kinds.Float("Sigma", default=0.5),
        kinds.Bool("Save", default=True),
    ]
    params = omero.grid.JobParams()
    params.name, params.version, params.description = name, "1.0", "does µ things"
    params.inputs = {param.name(): param for param in declared}
    params.outputs, params.authors, params.institutions = {}, ["A"], ["B"]
    params.authorsInstitutions, params.namespaces, params.contact = [[1]], ["ns"], "c"
    params.stdoutFormat, params.stderrFormat = "text/plain", "text/plain"
    for param in declared:  # over the wire, only the fields of omero.grid.Param arrive
        plain = omero.grid.Param()
        for field in vars(plain):
            setattr(plain, field, getattr(param, field))
        params.inputs[param.name()] = plain
    return params


@pytest.fixture
def files(tmp_path):
    return ParameterFiles(tmp_path / "dialogs", 3)


def test_parameters_survive_a_restart_with_their_types(files):
    files.write("key", 12.5, job_params())
    stored, found = files.read("key")
    assert stored == 12.5
    assert encode(found) == encode(job_params())
    ids = found.inputs["IDs"]
    assert type(ids.prototype) is type(rlist([]))
    assert type(ids.prototype.val[0]).__name__ == "RLongI"
    assert [one.val for one in found.inputs["Data_Type"].values.val] == ["Image", "Dataset"]
    assert (found.inputs["Channel"].min.val, found.inputs["Sigma"].prototype.val) == (0, 0.5)
    assert decode(encode(rmap({"a": rstring("b")}))).val["a"].val == "b"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stored": 1}', '{"stored": 1, "params": {"object": "os.system"}}'])
def test_a_broken_file_is_no_entry_and_is_removed(files, tmp_path, text):
    files.write("key", 1.0, job_params())
    (file,) = (tmp_path / "dialogs").iterdir()
    file.write_text(text)
    assert files.read("key") is None
    assert not file.exists()


def test_the_oldest_files_go_when_there_are_too_many(files, tmp_path):
    for number in range(6):
        files.write(f"key{number}", 1.0, job_params())
        time.sleep(0.01)
    assert sorted(file.name for file in (tmp_path / "dialogs").iterdir()) == ["key3.json", "key4.json", "key5.json"]


def test_what_cannot_be_written_is_not_stored_and_not_an_error(files):
    files.write("key", 1.0, omero.rtypes.robject(None))
    assert files.read("key") is None


@pytest.fixture
def cache(files, monkeypatch):
    monkeypatch.setattr(parameters, "REFRESH_DELAY_SECONDS", 0.05)
    return ParameterCache(files)


def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_a_second_question_is_answered_without_a_parse_also_after_a_restart(cache, files):
    assert cache.get("key", job_params).source == "parsed"
    assert cache.get("key", lambda: pytest.fail("parsed again")).source == "cache"
    again = ParameterCache(files).get("key", lambda: pytest.fail("parsed again"))
    assert (again.source, again.params.name) == ("cache", "a script")


@pytest.mark.parametrize(
    ("namespaces", "author", "sources"),
    [
        ([NSDYNAMIC], "A", ["parsed", "parsed"]),
        ([NSDYNAMIC], "biomeroworker", ["parsed", "cache"]),
        ([], "A", ["parsed", "cache"]),
    ],
)
def test_dynamic_choices_of_another_program_are_parsed_each_time(cache, namespaces, author, sources):
    def parse():
        made = job_params()
        made.namespaces, made.authors = namespaces, [author]
        return made

    assert [cache.get("key", parse).source for _ in range(2)] == sources


def test_a_dynamic_script_without_choices_is_cached(cache):
    def parse():
        made = job_params()
        made.namespaces = [NSDYNAMIC]
        del made.inputs["Data_Type"]
        return made

    assert [cache.get("key", parse).source for _ in range(2)] == ["parsed", "cache"]


def test_a_change_is_seen_at_the_next_opening(cache):
    cache.get("key", lambda: job_params("old"))
    assert cache.get("key", job_params).params.name == "old"
    cache.refresh_later("key", lambda: job_params("new"))
    until(lambda: cache.get("key", job_params).params.name == "new")


def test_many_openings_in_a_row_are_one_parse_in_the_background(cache):
    parsed = []
    cache.get("key", job_params)
    for _ in range(50):
        cache.refresh_later("key", lambda: parsed.append(1) or job_params())
    until(lambda: parsed)
    time.sleep(0.2)
    assert len(parsed) == 1


def test_concurrent_first_questions_share_one_parse(cache):
    parsed, answers = [], []
    gate = threading.Event()

    def parse():
        parsed.append(1)
        gate.wait(5)
        return job_params()

    threads = [threading.Thread(target=lambda: answers.append(cache.get("key", parse))) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: parsed)
    time.sleep(0.1)
    gate.set()
    for thread in threads:
        thread.join(5)
    assert len(parsed) == 1
    assert sorted(answer.source for answer in answers) == ["parsed", *["shared"] * 7]
    assert {answer.params.name for answer in answers} == {"a script"}


@pytest.mark.parametrize("failure", [lambda: None, lambda: 1 / 0])
def test_failures_are_not_cached(cache, failure):
    with contextlib.suppress(ZeroDivisionError):
        assert cache.get("key", failure).params is None
    assert cache.get("key", job_params).source == "parsed"
    cache.refresh_later("key", failure)
    until(lambda: cache.get("key", job_params).source == "parsed")


def test_an_old_entry_is_parsed_before_it_is_shown(cache, monkeypatch):
    cache.get("key", lambda: job_params("old"))
    monkeypatch.setattr(parameters, "MAX_AGE_SECONDS", 0.01)
    time.sleep(0.05)
    assert cache.get("key", lambda: job_params("new")).params.name == "new"


def test_choices_that_change_often_are_parsed_before_they_are_shown_after_a_short_time(cache, monkeypatch):
    live, other = job_params("live"), job_params("other")
    live.namespaces = [LIVE_CHOICES]
    for key, params in (("live", live), ("other", other)):
        cache.get(key, lambda params=params: params)
        assert cache.get(key, lambda: pytest.fail("parsed again")).source == "cache"
    monkeypatch.setattr(parameters, "LIVE_AGE_SECONDS", 0.01)
    time.sleep(0.05)
    assert cache.get("live", job_params).source == "parsed"
    assert cache.get("other", lambda: pytest.fail("parsed again")).source == "cache"


def test_memory_is_bounded(cache, monkeypatch):
    monkeypatch.setattr(parameters, "ENTRIES", 2)
    for key in "abc":
        cache.get(key, job_params)
    assert list(cache._entries) == ["b", "c"]


def test_the_key_changes_with_script_user_group_and_configuration(tmp_path):
    settings = Settings.load(None, {"HOME": str(tmp_path)}, standard=[])
    descriptors = settings.worker.work_folder / "descriptors"
    state = config_state("digest", {"A": "1"}, settings)
    keys = {cache_key("sha", 1, 2, "python", state)}
    for changed in (("other", 1, 2), ("sha", 7, 2), ("sha", 1, 7)):
        keys.add(cache_key(*changed, "python", state))
    states = {state, config_state("other", {"A": "1"}, settings), config_state("digest", {"A": "2"}, settings)}
    descriptors.mkdir(parents=True)
    (descriptors / "versions.json").write_text("{}")
    states.add(config_state("digest", {"A": "1"}, settings))
    (descriptors / "versions.json").write_text('{"a": ["v1"]}')
    states.add(config_state("digest", {"A": "1"}, settings))
    assert len(keys) == 4
    assert len(states) == 5
    assert config_state("digest", {"A": "1"}, settings) in states
