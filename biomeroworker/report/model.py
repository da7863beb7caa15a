"""What the page shows, as plain values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from biomeroworker.domain.job_statistics import JobStatistics

#: Images that are shown; the page names the number of the others.
PICTURES = 24


@dataclass(frozen=True)
class Picture:
    """One input image, with the outlines of its label images drawn over it."""

    name: str
    key: str
    jpeg: bytes | None = None
    objects: Mapping[str, int] = field(default_factory=dict)  #: by label image
    note: str = ""


@dataclass(frozen=True)
class Figures:
    """The pictures of a run, and the objects of each image by label image."""

    pictures: tuple[Picture, ...] = ()
    total: int = 0  #: images of the run, with those that are not shown
    #: By label image: the name of each image, and the number of its objects.
    objects: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A time that the run spent in one state."""

    name: str
    start: datetime
    seconds: float
    paused: bool = False


@dataclass(frozen=True)
class Job:
    """One SLURM job of the run."""

    attempt: int
    name: str
    job_id: int
    statistics: JobStatistics | None = None  #: None: not recorded by the cluster


@dataclass(frozen=True)
class Notice:
    """Something that a reader must know: what happened, the details, and what to do."""

    text: str
    detail: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class RunReport:
    """All that the page shows."""

    run: str
    workflow: str
    version: str
    state: str
    outcome: str
    made: str
    user: str
    group: str
    accepted: datetime
    ended: datetime | None
    written: datetime
    program: str
    inputs: str  #: what was requested, in words: ``Dataset 12``
    input_names: tuple[tuple[str, str], ...] = ()  #: key and name of each input image
    parameters: tuple[tuple[str, str, bool], ...] = ()  #: name, value, and whether it is the default
    stages: tuple[Stage, ...] = ()
    jobs: tuple[Job, ...] = ()
    job_options: tuple[tuple[str, str], ...] = ()  #: options of sbatch
    figures: Figures = Figures()
    failure: Notice | None = None
    warnings: tuple[Notice, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    commands: tuple[tuple[str, str], ...] = ()  #: explanation and command
