import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.startup.startup_kit import Box


@pytest.fixture
def box() -> Iterator[Box]:
    # not tmp_path: other accounts must be able to enter it
    folder = Path(tempfile.mkdtemp(prefix="startup-"))
    folder.chmod(0o755)
    yield Box(folder)
    shutil.rmtree(folder)
