"""The doctor's queries to a cluster's front-end. Pure: builds one remote command and parses its output.

Which queries an account may run differs between sites. Therefore each query is a section with its own time limit and
exit code, and the next section runs also when one fails.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from biomeroworker.cluster.transport import remote_scripts

#: Defines ``section NAME COMMAND…``: prints ``[NAME]``, the output of the command, and ``[end EXIT-CODE]``. A section
#: ends after 20 s where the front-end has ``timeout``.
_HEAD = r"""
export LC_ALL=C TZ=UTC
limit=$(command -v timeout) && limit="$limit 20"
section() { printf '[%s]\n' "$1"; shift; $limit "$@" 2>&1 </dev/null; printf '\n[end %s]\n' "$?"; }
cd
section clock date +%s
section user id -un
section home pwd
section environment sh -c 'env | sed -n "s/^\(\(SBATCH\|SQUEUE\|SACCT\|SINGULARITY\|APPTAINER\)_[A-Z_]*\)=.*/\1/p"'
section quota sh -c 'command -v quota >/dev/null && quota -w -p'
"""

#: $0: the folder. If it does not exist, free space and type are those of its nearest existing parent.
_FOLDER = r"""
at=$0
[ -d "$at" ] && echo folder; [ -e "$at" ] && echo exists; [ -w "$at" ] && [ -x "$at" ] && echo writable
while [ ! -e "$at" ]; do at=$(dirname -- "$at"); done
printf 'nearest %s\n' "$at"; [ -w "$at" ] && echo can-be-made
df -P -k -- "$at" | tail -n 1 | awk '{print "free", $4}'
df -P -i -- "$at" | tail -n 1 | awk '{print "inodes", $4}'
stat -f -c 'type %T' -- "$at"
"""

_SLURM = r"""
me=$(id -un)
section config scontrol show config
section partitions scontrol show partition -o
section nodes sinfo -h -N -o '%N|%P|%t|%G|%E'
section accounts sacctmgr -n -P show assoc where "user=$me" format=Account,Partition,QOS
section purge sh -c 'sacctmgr show config | sed -n "s/^PurgeJobAfter *= *//p"'
section queue squeue -h -u "$me" -t all -o '%A|%T'
section accounting sacct -n -X -P -u "$me" -S now-2hours -o JobIDRaw,State
"""

#: Commands that every run needs on the front-end.
PROGRAMS = ("sbatch", "squeue", "sacct", "scancel", "sinfo", "scontrol")
#: Further commands that pulling an image needs, by container program.
PULL_PROGRAMS: Mapping[str, Sequence[str]] = {"ch-run": ("ch-image", "mksquashfs", "python3")}


@dataclass(frozen=True)
class SectionOutput:
    """Output (stdout and stderr) and exit code of one section."""

    text: str
    code: int

    @property
    def lines(self) -> list[str]:
        """The lines that are not blank."""
        return [line for line in self.text.splitlines() if line.strip()]

    @property
    def last(self) -> str:
        """The last line that is not blank: in the output of a failed command usually the cause."""
        return self.lines[-1].strip() if self.lines else ""


NO_OUTPUT = SectionOutput("", 127)


class Answer:
    """The parsed output, by section. A section that is missing counts as one that failed."""

    def __init__(self, sections: Mapping[str, SectionOutput]) -> None:
        self._sections = sections

    def __getitem__(self, name: str) -> SectionOutput:
        return self._sections.get(name, NO_OUTPUT)

    def value(self, name: str) -> str:
        """The last line of a section; empty if its command failed."""
        output = self[name]
        return output.last if output.code == 0 else ""

    def values(self, name: str) -> dict[str, str]:
        """The ``key = value`` lines of a section."""
        pairs = (line.partition("=") for line in self[name].lines if "=" in line)
        return {key.strip(): value.strip() for key, _, value in pairs}

    def records(self, name: str) -> list[dict[str, str]]:
        """The ``key=value key=value`` lines of a section (the format of ``scontrol -o``)."""
        return [
            dict(re.findall(r"(\S+?)=(\S*)", line)) for line in self[name].lines if self[name].code == 0 and "=" in line
        ]

    def rows(self, name: str, columns: int) -> list[list[str]]:
        """The lines of a section, split at ``|``; lines with fewer columns are left out."""
        if self[name].code:
            return []
        return [cells for line in self[name].lines if len(cells := line.split("|")) >= columns]


def command(folders: Sequence[str], runtime: str, tests: Sequence[Mapping[str, str]]) -> list[str]:
    """Build the command that runs all sections.

    Parameters
    ----------
    folders
        Absolute paths, or paths relative to the home folder.
    runtime
        The container program.
    tests
        Sets of options for ``sbatch --test-only``, which checks a job without submitting it.
    """
    lines = [_HEAD, shlex.join(["section", "python", *remote_scripts.python_command()])]
    for program in (*PROGRAMS, runtime, *PULL_PROGRAMS.get(runtime, ())):
        lines.append(shlex.join(["section", f"program {program}", "sh", "-c", 'command -v -- "$0"', program]))
    for number, folder in enumerate(folders):
        lines.append(shlex.join(["section", f"folder {number}", "sh", "-c", _FOLDER, folder]))
    lines.append(shlex.join(["section", "runtime", runtime, "--version"]))
    lines.append("if command -v scontrol >/dev/null && command -v sbatch >/dev/null; then")
    lines.append(_SLURM)
    for number, options in enumerate(tests):
        words = [f"--{name}={value}" if value else f"--{name}" for name, value in options.items()]
        lines.append(shlex.join(["section", f"test {number}", "sbatch", "--test-only", *words, "--wrap=true"]))
    lines.append("fi")
    return ["sh", "-c", "\n".join(lines)]


_SECTION = re.compile(r"^\[([a-z]+(?: \S+)?)\]\n(.*?)^\[end (\d+)\]$", re.DOTALL | re.MULTILINE)


def parse(text: str) -> Answer:
    """Parse the output of `command`."""
    return Answer({name: SectionOutput(body.strip("\n"), int(code)) for name, body, code in _SECTION.findall(text)})
