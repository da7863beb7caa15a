"""Write an attempt's folder: the fixed job script, and the files that it reads.

The script itself contains no values. Words are separated by NUL, settings are plain lines that no shell evaluates, so
no value needs quoting and none can become a command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from biomeroworker import remote
from biomeroworker.domain.manifest import folder_name
from biomeroworker.errors import Permanent
from biomeroworker.workflows.parameters import Folders

SCRIPT = "job.sh"
CONVERTER = "convert.py"
STDOUT = "slurm.out"  #: the output of the job script, written by SLURM
CONTAINER_STDOUT, CONTAINER_STDERR = "container.out", "container.err"
OUT = "out"  #: below the attempt's folder: the results of the workflow

#: Free space that the preflight requires in the data folder and in ``$TMPDIR``.
MIN_FREE_BYTES = 1 << 30
MIN_TEMPORARY_BYTES = 64 << 20


def task_name(task: int | str) -> str:
    """The folder of a task below that of its attempt; sbatch's ``%a`` stands for each task."""
    return f"task-{task}"


def folders(remote_attempt: str, *, tiff: bool, task: int | None = None) -> Folders:
    """The folders of a container: as input the converted TIFFs of this attempt, or the run's OME-Zarr.

    A ``task`` of an array works on the chunk with its number, and has its own folder in that of the attempt.
    """
    attempt = PurePosixPath(remote_attempt)
    number = attempt.name.rpartition("-")[2]
    if task is None:
        own, inputs, converted = attempt, attempt.parent / "in", f"tiff-{number}"
    else:
        own, inputs = attempt / task_name(task), attempt.parent / "in" / folder_name(task)
        converted = f"tiff-{number}-{task}"
    return Folders(
        input=str(attempt.parent / converted if tiff else inputs),
        output=str(own / OUT),
        ground_truth=str(own / "gt"),
    )


def prepare_attempt(
    attempt_folder: Path,
    *,
    remote_attempt: str,
    prefix: Sequence[str],
    converter_prefix: Sequence[str] | None,
    arguments: Sequence[str] | Mapping[int, Sequence[str]],
    image_path: str,
    data_folder: str,
    converter_image: str = "",
) -> None:
    """Write an attempt's folder, locally, as it will be on the cluster; may be repeated.

    Parameters
    ----------
    remote_attempt
        The folder's absolute path on the cluster.
    prefix
        Words that start the workflow's container through its entry point; its arguments follow.
    converter_prefix
        Words that start a program inside the converter's image; None when the workflow reads OME-Zarr itself.
    arguments
        Arguments of the container, from `parameters.arguments`; by task for an array.
    image_path, converter_image, data_folder
        Paths that the job's preflight checks on the node.

    Raises
    ------
    Permanent
        A value that cannot be written: an empty prefix, a word with a NUL byte, a path with a line break, a relative
        path for the attempt.
    """
    if not PurePosixPath(remote_attempt).is_absolute():
        raise Permanent(f"the attempt's folder must be an absolute path on the cluster, not {remote_attempt!r}")
    if not program(prefix):
        raise Permanent("there is no command that starts the container")
    settings = {
        "program": program(prefix),
        "image": image_path,
        "converter_image": converter_image,
        "data_folder": data_folder,
        "min_free_kib": str(MIN_FREE_BYTES >> 10),
        "min_temporary_kib": str(MIN_TEMPORARY_BYTES >> 10),
    }
    for key, value in settings.items():
        if any(character in value for character in "\n\r\0"):
            raise Permanent(f"{key} contains a line break or a NUL byte: {value!r}")
    attempt_folder.mkdir(parents=True, exist_ok=True)
    for name in (SCRIPT, CONVERTER):
        (attempt_folder / name).write_text(remote.read(name), encoding="utf-8")
    (attempt_folder / SCRIPT).chmod(0o755)
    (attempt_folder / "job.conf").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    _write_words(attempt_folder / "runtime", prefix)
    for task, words in arguments.items() if isinstance(arguments, Mapping) else [(None, arguments)]:
        folder = attempt_folder if task is None else attempt_folder / task_name(task)
        folder.mkdir(exist_ok=True)
        _write_words(folder / "arguments", words)
    if converter_prefix is None:
        (attempt_folder / "converter").unlink(missing_ok=True)
    else:
        _write_words(attempt_folder / "converter", converter_prefix)


def program(prefix: Sequence[str]) -> str:
    """The program that a prefix starts, after ``env`` with its options and variables."""
    words = list(prefix)
    if words and PurePosixPath(words[0]).name == "env":
        words = words[1:]
        while words and (words[0].startswith("-") or "=" in words[0]):
            words = words[2:] if words[0] in {"-u", "-C", "-S"} else words[1:]
    return words[0] if words else ""


def _write_words(file: Path, words: Sequence[str]) -> None:
    for word in words:
        if "\0" in word:
            raise Permanent(f"an argument must not contain a NUL byte: {word!r}")
    file.write_bytes(remote.encode_words(words))
