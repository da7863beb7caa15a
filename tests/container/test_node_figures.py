"""What a node costs: the time until it is registered, its memory, and fifty scripts at once."""

from __future__ import annotations

import time

from tests.container.stack import ACCOUNT, NODES, Stack

SCRIPTS = 50
IDLE_MIB = 250

SCRIPT = """
import omero.scripts as scripts
from omero.rtypes import rstring
client = scripts.client("hello", "prints hello", scripts.String("Message").out())
client.setOutput("Message", rstring("hello"))
client.closeSession()
"""

LAUNCH = """
from concurrent.futures import ThreadPoolExecutor
import time
service = connection.getScriptService()
started = time.time()
def launch(number):
    process = service.runScript({script}, {{}}, None)
    while process.poll() is None:
        time.sleep(0.2)
    message = process.getResults(0)["Message"].val
    process.close(False)
    return message
with ThreadPoolExecutor({count}) as pool:
    printed = list(pool.map(launch, range({count})))
print("done", sum(one == "hello" for one in printed), round(time.time() - started, 1))
"""


def test_a_node_is_registered_soon_after_its_start(stack: Stack, figures: dict[str, str]) -> None:
    stack.engine.run("stop", "-t", "30", stack.container("biomeroworker"))
    moment = time.time()
    stack.start("biomeroworker")
    stack.await_registered("biomeroworker", moment)
    seconds = time.time() - moment
    figures["seconds from docker start to the Processor's registration"] = f"{seconds:.1f}"
    assert seconds < 60


def test_an_idle_node_needs_little_memory(stack: Stack, figures: dict[str, str]) -> None:
    """The proportional share of all processes but that of the look itself."""
    script = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ { sum += $2 } END { print sum }'"
    found = []
    for node in NODES:
        kib = stack.engine.run("exec", "-u", ACCOUNT, stack.container(node), "sh", "-c", script)
        found.append(int(kib) / 1024)
    figures["MiB (PSS) of an idle node, supervisor included"] = ", ".join(f"{one:.0f}" for one in found)
    assert max(found) < IDLE_MIB


def test_fifty_scripts_at_once_all_end(stack: Stack, figures: dict[str, str]) -> None:
    client = stack.container("client")
    write = f"mkdir -p /tmp/upload/hello && cat > /tmp/upload/hello/hello.py <<'END'\n{SCRIPT}END\n"
    stack.engine.run("exec", client, "sh", "-c", write)
    printed = stack.engine.run(
        "exec", "-w", "/tmp/upload", client, "omero", "script", "upload", "hello/hello.py", "--official"
    )
    number = int(printed.split("OriginalFile:")[1].split()[0])
    done = stack.gateway(LAUNCH.format(script=number, count=SCRIPTS)).split("done ")[1].split()
    figures[f"seconds of {SCRIPTS} scripts launched at once, two nodes"] = done[1]
    assert int(done[0]) == SCRIPTS
    stack.omero("script", "delete", str(number))
