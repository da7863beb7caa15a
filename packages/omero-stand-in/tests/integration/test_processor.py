"""Which processors the server offers a job to, which one gets it, and what happens to a job whose processor stops."""

import contextlib
import threading
import time
import uuid

import Ice
import omero
import omero.clients  # before other parts of omero
import omero.model
import pytest
import scripts_kit as kit
from omero.grid import ProcessorCallbackPrx, ProcessorPrx, ProcessPrx
from omero.rtypes import rbool, rint, rstring

from omero_stand_in import testing

PASSWORD = "secret"


class Process(omero.grid.Process):
    """A process of the test that has ended with code 0 and records the calls that it gets."""

    def __init__(self):
        self.calls = []

    def poll(self, current=None):
        self.calls.append("poll")
        return rint(0)

    def shutdown(self, current=None):
        self.calls.append("shutdown")

    def registerCallback(self, callback, current=None):
        self.calls.append("registerCallback")


class Processor(omero.grid.Processor):
    """A processor that gives a configured answer after a delay."""

    def __init__(self, client, accepts=True, delay=0.0):
        self.client, self.accepts, self.delay = client, accepts, delay
        self.calls, self.process = [], Process()
        identity = Ice.Identity(f"test-{uuid.uuid4()}", client.getCategory())
        self.proxy = ProcessorPrx.uncheckedCast(client.adapter.add(self, identity))

    def willAccept(self, user, group, job, callback, current=None):
        self.calls.append("willAccept")
        threading.Timer(self.delay, self._answer, [callback]).start()

    def _answer(self, callback):
        with contextlib.suppress(Ice.CommunicatorDestroyedException):  # the test is over
            callback = ProcessorCallbackPrx.uncheckedCast(callback.ice_oneway())
            callback.isProxyAccepted(self.accepts, self.client.getSessionId(), self.proxy)

    def parseJob(self, session, job, current=None):
        self.calls.append("parseJob")
        params = omero.grid.JobParams()
        params.name, params.inputs, params.outputs = "Invented", {}, {}
        return params

    def processJob(self, session, params, job, current=None):
        self.calls.append("processJob")
        identity = Ice.Identity(str(uuid.uuid4()), self.client.getCategory())
        return ProcessPrx.uncheckedCast(self.client.adapter.add(self.process, identity))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with testing.running(tmp_path_factory.mktemp("omero") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def users(server):
    """Names of two users of one group; both have the same password."""
    with kit.connected(server) as root:
        admin = root.sf.getAdminService()
        group = omero.model.ExperimenterGroupI()
        group.name, group.ldap = rstring("lab"), rbool(False)
        group.details.permissions = omero.model.PermissionsI("rwrw--")
        group = omero.model.ExperimenterGroupI(admin.createGroup(group), False)
        everybody = omero.model.ExperimenterGroupI(admin.getSecurityRoles().userGroupId, False)
        for name in ("ada", "grace"):
            user = omero.model.ExperimenterI()
            user.omeName = user.firstName = user.lastName = rstring(name)
            user.ldap = rbool(False)
            admin.createExperimenterWithPassword(user, rstring(PASSWORD), group, [everybody])
    return "ada", "grace"


@pytest.fixture
def ada(server, users):
    with kit.connected(server, "ada", PASSWORD) as client:
        yield client


@pytest.fixture
def script(ada):
    """A script of Ada's that is not parsed yet."""
    file = omero.model.OriginalFileI()
    file.name, file.path, file.mimetype = rstring("x.py"), rstring("/"), rstring("text/x-python")
    file.size = omero.rtypes.rlong(0)
    return ada.sf.getUpdateService().saveAndReturnObject(file).id.val


@contextlib.contextmanager
def registered(server, user="ada", password=PASSWORD, **manner):
    with kit.connected(server, user, password) as client:
        processor = Processor(client, **manner)
        resources = client.sf.sharedResources()
        resources.addProcessor(processor.proxy)
        try:
            yield processor
        finally:
            with contextlib.suppress(Ice.Exception):
                resources.removeProcessor(processor.proxy)


def run(client, script, seconds=3):
    return client.sf.getScriptService().runScript(script, {}, rint(seconds))


def test_a_processor_that_accepts_parses_and_runs(server, ada, script):
    with registered(server) as processor:
        process = run(ada, script)
        assert process.poll().val == 0
        process.close(False)
        assert processor.calls == ["willAccept", "willAccept", "parseJob", "processJob"]


def test_the_first_yes_wins_though_a_no_came_before(server, ada, script):
    with (
        registered(server, accepts=False) as no,
        registered(server, delay=0.3) as first,
        registered(server, delay=1.5) as second,
    ):
        run(ada, script).close(False)
        assert "processJob" in first.calls
        assert "processJob" not in second.calls
        assert set(no.calls) == {"willAccept"}


def test_a_yes_in_the_session_of_a_colleague_does_not_count(server, ada, script):
    with registered(server, "grace"), pytest.raises(omero.NoProcessorAvailable) as raised:
        run(ada, script, 1)
    assert raised.value.processorCount == 1


def test_a_yes_in_the_session_of_an_administrator_counts(server, ada, script):
    with registered(server, "root", server.root_password) as processor:
        run(ada, script).close(False)
        assert "processJob" in processor.calls


def test_refusals_are_counted_and_the_error_comes_at_the_time_limit(server, ada, script):
    started = time.monotonic()
    with registered(server, accepts=False), pytest.raises(omero.NoProcessorAvailable) as raised:
        run(ada, script, 2)
    assert 1.9 < time.monotonic() - started < 4
    assert raised.value.message == "No processor available! [1 response(s)]"


def test_a_job_that_found_no_processor_has_an_error_status(ada, script):
    with pytest.raises(omero.NoProcessorAvailable):
        run(ada, script, 0)
    query = "select j from ScriptJob j join fetch j.status order by j.id"
    job = ada.sf.getQueryService().findAllByQuery(query, None)[-1]
    assert (job.status.value.val, job.message.val) == ("Error", "No processor available! [0 response(s)]")


def test_a_processor_that_is_gone_gets_no_more_jobs_and_does_not_disturb_others(server, ada, script):
    with kit.connected(server, "ada", PASSWORD) as client:
        gone = Processor(client)
        client.sf.sharedResources().addProcessor(gone.proxy)
    with pytest.raises(omero.NoProcessorAvailable):
        run(ada, script, 1)
    with registered(server) as processor:
        run(ada, script).close(False)
        assert "processJob" in processor.calls


def test_a_processor_added_twice_gets_each_offer_once(server, ada):
    with registered(server) as processor:
        ada.sf.sharedResources().addProcessor(processor.proxy)
        assert ada.sf.getScriptService().canRunScript(12345)
        assert processor.calls == ["willAccept"]


def test_close_ends_a_process_that_is_not_detached(server, ada, script):
    with registered(server) as processor:
        run(ada, script).close(False)
        time.sleep(0.5)
        assert processor.process.calls == ["registerCallback", "shutdown"]
        run(ada, script).close(True)
        time.sleep(0.5)
        assert processor.process.calls == ["registerCallback", "shutdown", "registerCallback"]


def test_a_closed_process_does_not_exist_any_more(server, ada, script):
    with registered(server):
        process = run(ada, script)
        process.close(False)
        with pytest.raises(Ice.ObjectNotExistException):
            process.poll()


def test_results_are_had_once(server, ada, script):
    with registered(server):
        process = run(ada, script)
        assert process.getResults(0) == {}
        with pytest.raises(omero.ApiUsageException, match="No current process"):
            process.getResults(0)
        process.close(False)


def test_more_than_three_minutes_are_not_waited(ada, script):
    with pytest.raises(omero.ApiUsageException, match="Delay is too long"):
        run(ada, script, 181)


def test_an_unknown_script_is_named_in_the_refusal(ada):
    with pytest.raises(omero.ValidationException, match="No row with the given identifier exists"):
        run(ada, 999999999)
