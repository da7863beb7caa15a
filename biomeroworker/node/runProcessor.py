"""What OMERO's grid starts as Processor-0: ``${PYTHON} -m runProcessor``.

Put this folder first on PYTHONPATH; the module of the same name that comes with omero-py then is not found.
"""

# ruff: noqa: N999  OMERO gives it its name

import sys
from pathlib import Path

# Nothing else in this folder may be found by its bare name, neither by us nor by the scripts that we start.
_HERE = str(Path(__file__).resolve().parent)
sys.path[:] = [entry for entry in sys.path if str(Path(entry or ".").resolve()) != _HERE]

if __name__ == "__main__":
    from biomeroworker.node.server import main

    sys.exit(main(sys.argv))
