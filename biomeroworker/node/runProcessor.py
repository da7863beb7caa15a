"""The module that OMERO's grid starts as Processor-0: ``${PYTHON} -m runProcessor``.

This folder must be first in PYTHONPATH: omero-py has a module of the same name.
"""

# ruff: noqa: N999  OMERO requires this name

import sys
from pathlib import Path

# The other modules in this folder must not be importable by their bare names, neither here nor in scripts.
_HERE = str(Path(__file__).resolve().parent)
sys.path[:] = [entry for entry in sys.path if str(Path(entry or ".").resolve()) != _HERE]

if __name__ == "__main__":
    from biomeroworker.node.server import main

    sys.exit(main(sys.argv))
