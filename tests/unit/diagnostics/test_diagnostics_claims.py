"""Who serves scripts, decided from what IceGrid and IceStorm print."""

from biomeroworker.diagnostics.claims import Server, findings, parse_server, parse_subscribers

DESCRIPTION = """server `Processor-0'
{
    application = `OMERO'
    node = `biomeroworker'
    exe = `/opt/biomeroworker/bin/python'
    pwd = `/opt/omero/server/OMERO.server'
    options = `-m runProcessor'
    adapter `ProcessorAdapter'
    {
        id = `Processor-0.ProcessorAdapter'
        well-known object
        {
            identity = `Processor-0'
            type = `::omero::grid::Processor'
        }
    }
}
"""
ENABLED = "active (pid = 7, enabled)"
ADAPTERS = {"Processor-0.ProcessorAdapter": "dummy -t -e 1.1:tcp -h 10.0.0.5 -p 4065 -t 60000"}
OBJECTS = [
    "Processor-0 -t -e 1.1 @ Processor-0.ProcessorAdapter",
    "biomeroworker-Processor-0 -t -e 1.1:tcp -h 10.0.0.5 -p 4065 -t 60000",
]


def server(name="Processor-0", node="biomeroworker", state=ENABLED):
    return Server(name, node, "/opt/biomeroworker/bin/python", "-m runProcessor", state, is_processor=True)


def text_of(*servers, objects=OBJECTS, nodes=None, subscribers=None):
    up = {"biomeroworker": True, "master": True} if nodes is None else nodes
    return "\n".join(findings(servers, objects, ADAPTERS, up, subscribers))


def test_a_server_is_read_from_its_description():
    assert parse_server("Processor-0", DESCRIPTION, ENABLED) == server()
    tables = DESCRIPTION.replace("grid::Processor", "grid::Tables").replace("runProcessor", "runTables")
    assert not parse_server("Tables-0", tables, ENABLED).is_processor


def test_a_grid_as_it_should_be_gives_one_line():
    line = "Processor-0 on node biomeroworker: active (pid = 7, enabled); /opt/biomeroworker/bin/python -m runProcessor"
    assert text_of(server()) == line


def test_a_second_server_is_named_with_its_node_and_the_commands_that_end_it():
    text = text_of(server(), server("Processor-1", "master"))
    assert "2 servers serve scripts: Processor-0 on biomeroworker, Processor-1 on master" in text
    assert 'icegridadmin -e "server disable Processor-1"' in text


def test_a_disabled_second_server_is_no_trouble():
    assert "servers serve scripts" not in text_of(server(), server("Processor-1", "master", "inactive (disabled)"))


def test_a_missing_and_a_disabled_processor_are_named():
    assert "no server Processor-0 in this grid" in text_of(server("Processor-1"))
    assert 'server enable Processor-0"' in text_of(server(state="inactive (disabled)"))


def test_a_node_that_is_away_or_silent_is_named():
    assert "its node biomeroworker does not answer" in text_of(server(), nodes={"master": True})
    assert "its node biomeroworker does not answer" in text_of(server(), nodes={"biomeroworker": False})


def test_a_registered_processor_of_no_server_is_named():
    text = text_of(
        server(), objects=[*OBJECTS, "Processor -t -e 1.1:tcp -h 10.0.0.9 -p 1 -t 60000", "P @ Gone.Adapter"]
    )
    assert 'object remove Processor"' in text
    assert 'object remove P"' in text
    assert "object remove biomeroworker-Processor-0" not in text


def test_subscribers_are_read_and_a_wrong_number_is_reported():
    answer = "/internal/ProcessorAccept: subscribers:\n\tProcessor-0\n\tBiomeroWorker-1/cat\n"
    assert parse_subscribers(answer) == ["Processor-0", "BiomeroWorker-1/cat"]
    assert "2 Processors are subscribed" in text_of(server(), subscribers=parse_subscribers(answer))
    assert "every script fails" in text_of(server(), subscribers=[])
