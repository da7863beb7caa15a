"""Official scripts on the stand-in server, with unmodified clients and omero-py's own processor."""

import time
import uuid

import omero
import omero.clients  # before other parts of omero
import pytest
import scripts_kit as kit
from omero.rtypes import rint, rlong, rstring

from omero_stand_in import testing


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with testing.running(tmp_path_factory.mktemp("omero") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def node(server, tmp_path_factory):
    with kit.processor(server, tmp_path_factory.mktemp("node")) as processor:
        yield processor


@pytest.fixture
def client(server):
    with kit.connected(server) as client:
        yield client


@pytest.fixture
def scripts(client):
    return client.sf.getScriptService()


@pytest.fixture(scope="module")
def echo(server, node):
    with kit.connected(server) as client:
        return client.sf.getScriptService().uploadOfficialScript("/tests/Echo.py", kit.ECHO)


def test_an_official_script_is_listed_and_read_by_path(scripts, echo):
    assert echo in [file.id.val for file in scripts.getScripts()]
    assert scripts.getScriptID("/tests/Echo.py") == echo
    assert scripts.getScriptText(echo) == kit.ECHO


def test_its_parameters_are_those_that_it_declares(scripts, echo):
    params = scripts.getParams(echo)
    assert params.name == "Echo"
    assert params.inputs["Number"].max.val == 100
    assert not params.inputs["Word"].optional


def test_a_process_is_a_process_callback_by_which_omero_web_recognizes_scripts(scripts, echo):
    process = scripts.runScript(echo, {"Word": rstring("x")}, None)
    assert str(process).startswith("ProcessCallback/")
    assert kit.finished(process) == 0


def test_a_run_gives_outputs_and_the_stream_that_it_printed(client, scripts, echo, tmp_path):
    process = scripts.runScript(echo, {"Word": rstring("größer")}, None)
    assert kit.finished(process) == 0
    results = process.getResults(0)
    assert (results["Word"].val, results["Number"].val, results["Message"].val) == ("größer", 7, "Count finished.")
    client.download(results["stdout"].val, str(tmp_path / "stdout"))
    assert (tmp_path / "stdout").read_text() == "Word = größer\n"
    process.close(False)


def test_the_row_of_a_run_ends_finished_with_its_times(client, scripts, echo):
    process = scripts.runScript(echo, {"Word": rstring("x")}, None)
    kit.finished(process)
    handle = client.sf.createJobHandle()
    handle.attach(process.getJob().id.val)
    assert handle.jobStatus().value.val == "Finished"
    assert handle.getJob().started.val <= handle.jobFinished().val
    handle.close()
    process.close(False)


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [({}, 'MISSING INPUT for "Word"'), ({"Word": rstring("x"), "Number": rlong(101)}, "OUT OF BOUNDS")],
)
def test_inputs_that_the_script_does_not_allow_start_nothing(scripts, echo, inputs, complaint):
    with pytest.raises(omero.ValidationException) as raised:
        scripts.runScript(echo, inputs, None)
    assert raised.value.message.startswith("Invalid parameters:")
    assert complaint in raised.value.message


def test_a_cancelled_run_ends_by_the_signal(client, scripts, node):
    script = scripts.uploadOfficialScript("/tests/Sleep.py", kit.SLEEP)
    process = scripts.runScript(script, {"Seconds": rint(30)}, None)
    process.cancel()
    assert kit.finished(process, 20) == -15
    handle = client.sf.createJobHandle()
    handle.attach(process.getJob().id.val)
    assert handle.jobStatus().value.val == "Cancelled"
    handle.close()
    process.close(False)


def test_the_same_path_cannot_be_uploaded_twice(scripts, echo):
    with pytest.raises(omero.ApiUsageException, match="Path already exists"):
        scripts.uploadOfficialScript("/tests/Echo.py", kit.ECHO)


def test_a_script_that_does_not_parse_is_refused_with_the_error(scripts, node):
    with pytest.raises(omero.ValidationException, match="SyntaxError"):
        scripts.uploadOfficialScript("/tests/Broken.py", "import omero.scripts as s\ns.client('Broken'\n")


def test_the_omero_command_uploads_lists_and_launches(server, node, tmp_path):
    (tmp_path / "Hello.py").write_text(kit.ECHO)
    logged_in = kit.omero_command(
        tmp_path, "login", "-s", server.host, "-p", server.port, "-u", "root", "-w", server.root_password
    )
    assert logged_in.returncode == 0, logged_in.stderr
    uploaded = kit.omero_command(tmp_path, "script", "upload", "Hello.py", "--official")
    assert uploaded.returncode == 0, uploaded.stderr
    number = uploaded.stdout.strip().removeprefix("OriginalFile:")
    listed = kit.omero_command(tmp_path, "script", "list")
    assert "/Hello.py" in listed.stdout
    launched = kit.omero_command(tmp_path, "script", "launch", number, "Word=hello")
    assert launched.returncode == 0, launched.stderr
    assert "* Word = hello" in launched.stdout
    assert "* Message=Count finished." in launched.stdout


def test_without_a_processor_the_run_is_refused_in_time(tmp_path):
    with testing.running(tmp_path / "data") as server, kit.connected(server) as client:
        service = client.sf.getScriptService()
        (tmp_path / "data" / "scripts" / "Echo.py").write_text(kit.ECHO)
        script = service.getScriptID("/Echo.py")
        with pytest.raises(omero.NoProcessorAvailable) as raised:
            service.runScript(script, {"Word": rstring("x")}, rint(1))
        assert raised.value.processorCount == 0


def test_a_look_up_table_is_stored_with_the_scripts_and_never_parsed(root):
    service = root.sf.getScriptService()
    before = time.monotonic()
    number = service.uploadOfficialScript(f"/test/{uuid.uuid4().hex}.lut", "0 0 0\n")
    assert time.monotonic() - before < 5  # no processor was called to parse it
    assert number in {file.id.val for file in service.getScriptsByMimetype("text/x-lut")}
    assert number not in {file.id.val for file in service.getScripts()}


def test_the_text_of_an_official_script_is_a_file_that_can_be_read(root, ada):
    service = root.sf.getScriptService()
    number = service.uploadOfficialScript(f"/test/{uuid.uuid4().hex}.lut", "0 0 0\n")
    for reader in (ada, root):
        store = reader.sf.createRawFileStore()
        store.setFileId(number)
        assert bytes(store.read(0, store.size())) == b"0 0 0\n"
        store.close()
    assert number in {file.id.val for file in service.getScriptsByMimetype("text/x-lut")}
