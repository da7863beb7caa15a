"""A deployment whose runs come from a real OMERO and go back there, with a SLURM that does what it is told."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import tifffile

from biomeroworker.cli.shutdown import graceful_shutdown
from biomeroworker.domain.request import RunRequest
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import WorkflowRun
from biomeroworker.omero.connection.session import OmeroSession
from tests.integration.omero.omero_objects import Person, Server, make_dataset, make_image
from tests.resilience.world import World

#: The container: a label image for each input, a table of all, and a note.
CONTAINER = """#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in --infolder) in=$2 ;; --outfolder) out=$2 ;; --sleep=*) sleep=${1#*=} ;; esac
    shift
done
sleep "$sleep"
echo image,label,area >"$out/objects.csv"
for image in "$in"/image-*; do
    name=${image##*/}
    cp "$HOME/labels.tif" "$out/${name%.ome.zarr}_mask.tif"
    echo "${name%.ome.zarr},1,16" >>"$out/objects.csv"
done
echo done >"$out/note.txt"
"""
IMAGES = 2
#: What one run makes, whatever happens on the way: the provenance is of the run, its four results, and the table.
ONE_SET = {
    "Dataset": 1, "Image": IMAGES, "Roi": 2 * IMAGES, "FileAnnotation": 2, "MapAnnotation": 2 + IMAGES + 2,
    "OriginalFile": 2,
}  # fmt: skip

_context = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class How:
    """What is special about a supervisor: see `omero_calls.Moments`; it is so in the steps of ``stage``."""

    stage: str = ""
    kill_at: int = 0
    hold_at: str = ""
    term_at: int = 0
    only: str = ""
    answer: int = 0  #: milliseconds that OMERO has for an answer
    encrypted: bool = False  #: pixels travel over the same way as all else
    alive: int = 0  #: seconds between signs of life
    idle: int = 0  #: milliseconds that the session of a run lives without a sign
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class OmeroWorld(World):
    """One deployment, of one person."""

    server: Server | None = None
    person: Person | None = None

    def make(self) -> OmeroWorld:
        super().make()
        (self.home / "images/obedient/obedient_v1.0.0.sif").write_text(CONTAINER)
        labels = np.zeros((16, 16), "uint16")
        labels[2:6, 2:6], labels[9:12, 9:12] = 1, 2
        tifffile.imwrite(self.home / "labels.tif", labels)
        assert self.person
        with self.session() as session:
            self.dataset = make_dataset(session)
            for number in range(IMAGES):
                make_image(session, f"image {number}", np.zeros((1, 2, 1, 16, 16), "uint16"), dataset=self.dataset)
        self.before = self.counts()
        return self

    @property
    def moments(self) -> Path:
        """Where supervisors write what they ask of OMERO."""
        return self.folder / "moments"

    def session(self) -> OmeroSession:
        """The person's own."""
        assert self.server
        assert self.person
        return OmeroSession.login(self.server.host, self.server.port, self.person.name, self.person.password)

    def environment(self, port: int = 0) -> dict[str, str]:
        """How a supervisor logs in; by another port, when there is something in the way."""
        assert self.server
        return {
            "OMERO_HOST": self.server.host,
            "OMERO_PORT": str(port or self.server.port),
            "OMERO_USER": "root",
            "OMERO_PASSWORD": self.server.password,
        }

    def request(self, **parameters: Any) -> RunRequest:
        """A run over the person's dataset."""
        assert self.person
        return RunRequest(
            workflow="obedient", parameters=parameters, source="omero", user=self.person.id, group=self.person.group,
            inputs={"type": "Dataset", "ids": [self.dataset]},
        )  # fmt: skip

    def hand_in(self, **parameters: Any) -> UUID:
        """Accept such a run."""
        request = self.request(**parameters)
        with self.log() as log:
            return log.accept(request.model_dump(mode="json"), name="w", description="d", user=1, group=1)

    # -- what must be true --------------------------------------------------------------------------------------------

    def counts(self) -> Counter[str]:
        """How many objects the person has, by class."""
        with self.session() as session:
            return Counter(
                {
                    kind: session.rows(
                        f"select count(o.id) from {kind} o where o.details.owner.id = :u", u=session.user_id
                    )[0][0]
                    for kind in ONE_SET
                }
            )

    def made(self) -> dict[str, int]:
        """What there is now that there was not."""
        counts = self.counts()
        return {kind: counts[kind] - self.before[kind] for kind in ONE_SET}

    def open_sessions(self) -> list[str]:
        """Sessions of the person's that the server has open, but for the one that asks."""
        assert self.server
        assert self.person
        with self.server.root() as root:
            rows = root.rows(
                "select s.uuid from Session s where s.owner.id = :u and s.closed is null", u=self.person.id
            )
        return [uuid for (uuid,) in rows]

    @staticmethod
    def _check_results(run: WorkflowRun, story: str) -> None:
        """What has come of it is in OMERO: see `made`."""


def start(made: OmeroWorld, **how: Any) -> BaseProcess:
    """Start a supervisor."""
    _context.set_forkserver_preload(["tests.resilience.omero_world", "biomeroworker.omero.source"])
    given = How(**{"environment": made.environment(), **how})
    process = _context.Process(target=_serve, args=(replace(made, server=None), given), daemon=True)
    process.start()
    return process


@contextlib.contextmanager
def running(made: OmeroWorld, **how: Any) -> Iterator[BaseProcess]:
    """A supervisor for a while."""
    process = start(made, **how)
    try:
        yield process
    finally:
        if process.is_alive():
            process.terminate()
            process.join(8)
        if process.is_alive():
            process.kill()
        process.join(5)


def _serve(made: OmeroWorld, how: How) -> None:
    from biomeroworker.omero.connection import credentials
    from biomeroworker.omero.connection import session as sessions
    from tests.resilience import omero_calls

    os.environ.update(how.environment)
    if how.answer:
        sessions.ANSWER_TIMEOUT_MS, sessions.LONG_TIMEOUT_MS, sessions.CLOSE_TIMEOUT_MS = how.answer, how.answer, 500
    if how.encrypted:
        sessions.OmeroSession._insecure = property(lambda self: False, lambda self, value: None)  # type: ignore
    if how.alive:
        sessions.KEEP_ALIVE_SECONDS = how.alive
    if how.idle:
        credentials.IDLE_TIMEOUT_MS = how.idle
    with made.log() as log:
        supervisor = made.supervisor(log)
        if how.stage:
            moments = omero_calls.Moments(made.moments, kill_at=how.kill_at, hold_at=how.hold_at, term_at=how.term_at)
            omero_calls.listen(moments)
            _in_step(supervisor, RunState(how.stage), moments)
        with graceful_shutdown() as told:  # as the command does it
            told.add_callback(supervisor.stop)
            if how.only:
                supervisor.run_until_end(UUID(how.only))
            else:
                supervisor.serve()


def _in_step(supervisor: Any, stage: RunState, moments: Any) -> None:
    steps = supervisor._executor._steps
    step = steps[stage]

    def taken(*arguments: Any) -> Any:
        moments.on = True
        try:
            return step(*arguments)
        finally:
            moments.on = False

    steps[stage] = taken


class Relay:
    """A line to the server that can be cut, or made dumb: no byte passes, and nobody is told."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.dumb, self.closed = threading.Event(), threading.Event()
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection; new ones are not taken until `restore`."""
        self.closed.set()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def restore(self) -> None:
        """All is well; what a silent line held connected is reset."""
        self.cut()
        self.dumb.clear()
        self.closed.clear()

    def close(self) -> None:
        """Stop for good."""
        self.cut()
        self._listener.close()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                if self.closed.is_set():
                    near.close()
                    continue
                far = socket.create_connection(self._to)
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.dumb.is_set():
                    target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
