"""Show the end of a log of the node, without secrets. For administrators of OMERO."""

import os

import omero.clients
import omero.scripts
from omero.rtypes import rlong

from biomeroworker.omero.scripts.script import Script, execute

LOG_PATH = "Log_Path"
TAIL_LINES = "Tail_Lines"


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then print the log."""
    execute(
        "Tail Biomero Log (Admin Only)",
        "Show the last lines of a log of the node that runs the scripts. Secrets are replaced by ***.",
        [
            omero.scripts.String(
                LOG_PATH,
                optional=True,
                grouping="01",
                default="Processor-0.log",
                description="The name of a log in the folder var/log of OMERO.server on the node. If it does not exist,"
                " the message lists the logs.",
            ),
            omero.scripts.Long(
                TAIL_LINES,
                optional=True,
                grouping="01.1",
                default=rlong(200),
                min=1,
                max=10000,
                description="Number of lines, at most 10000.",
            ),
        ],
        tail,
        admins_only=True,
    )


def tail(script: Script) -> str:
    """Print the log; the message has its last lines."""
    from biomeroworker.diagnostics import node_log

    name = str(script.inputs.get(LOG_PATH) or node_log.DEFAULT)
    file, lines = node_log.last_lines(os.environ, name, int(script.inputs.get(TAIL_LINES) or 200))
    print("\n".join(lines))
    return "\n".join(
        [f"The last {len(lines)} lines of {file} are in the output of this script (Info). The end:", *lines[-20:]]
    )


if __name__ == "__main__":
    main()
