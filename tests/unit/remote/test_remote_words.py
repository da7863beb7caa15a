"""Command lines in files: written by the worker, read by bash on the cluster."""

import os
import subprocess
from pathlib import Path

from biomeroworker import remote

WORDS = ["", " ", "a b", "'", '"', "$(id)", "`id`", "*", "-n", "a\nb", "\\", "µ", "!"]


def test_a_job_script_reads_the_words_that_were_written_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(remote.encode_words(WORDS) + b"caf\xe9\0")
    script = f'set -eu\n{remote.shell_function("read_words")}\nread_words "$1"\nprintf \'%s\\0\' "${{words[@]}}"\n'
    for locale in ("C", "C.UTF-8"):
        done = subprocess.run(
            ["bash", "-c", script, "job", tmp_path / "words"],
            capture_output=True, check=True, env={**os.environ, "LC_ALL": locale},
        )  # fmt: skip
        assert done.stdout == (tmp_path / "words").read_bytes()
