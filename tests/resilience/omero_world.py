"""A deployment whose runs have their inputs and results in OMERO, with a fake SLURM."""

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

#: The container: writes a label image for each input, one table, and a note.
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
#: What one run makes, whatever happens on the way: the provenance is of the run, its four results, the table, and the
#: report.
ONE_SET = {
    "Dataset": 1, "Image": IMAGES, "Roi": 2 * IMAGES, "FileAnnotation": 3, "MapAnnotation": 2 + IMAGES + 3,
    "OriginalFile": 3,
}  # fmt: skip

_context = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class How:
    """Options of a supervisor for the steps of ``stage``; see `omero_calls.Moments`."""

    stage: str = ""
    kill_at: int = 0
    hold_at: str = ""
    term_at: int = 0
    only: str = ""
    answer: int = 0  #: milliseconds until a call to OMERO times out
    encrypted: bool = False  #: pixels use the same connection as all other calls
    alive: int = 0  #: seconds between keep-alive calls
    idle: int = 0  #: milliseconds until the server drops an idle session of a run
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class OmeroWorld(World):
    """One deployment of one OMERO user."""

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
        """The file in which supervisors record their calls to OMERO."""
        return self.folder / "moments"

    def session(self) -> OmeroSession:
        """A session of the user."""
        assert self.server
        assert self.person
        return OmeroSession.login(self.server.host, self.server.port, self.person.name, self.person.password)

    def environment(self, port: int = 0) -> dict[str, str]:
        """The variables with which a supervisor logs in, through another port if one is given."""
        assert self.server
        return {
            "OMERO_HOST": self.server.host,
            "OMERO_PORT": str(port or self.server.port),
            "OMERO_USER": "root",
            "OMERO_PASSWORD": self.server.password,
        }

    def request(self, **parameters: Any) -> RunRequest:
        """The request of a run on the user's dataset."""
        assert self.person
        return RunRequest(
            workflow="obedient", parameters=parameters, source="omero", user=self.person.id, group=self.person.group,
            inputs={"type": "Dataset", "ids": [self.dataset]},
        )  # fmt: skip

    def submit(self, **parameters: Any) -> UUID:
        """Accept such a run."""
        request = self.request(**parameters)
        with self.log() as log:
            return log.accept(request.model_dump(mode="json"), name="w", description="d", user=1, group=1)

    # -- what must be true --------------------------------------------------------------------------------------------

    def counts(self) -> Counter[str]:
        """The number of objects of the user, by class."""
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
        """The number of objects that were made since the start, by class."""
        counts = self.counts()
        return {kind: counts[kind] - self.before[kind] for kind in ONE_SET}

    def open_sessions(self) -> list[str]:
        """The user's open sessions on the server, without the one of this query."""
        assert self.server
        assert self.person
        with self.server.root() as root:
            rows = root.rows(
                "select s.uuid from Session s where s.owner.id = :u and s.closed is null", u=self.person.id
            )
        return [uuid for (uuid,) in rows]

    @staticmethod
    def _check_results(run: WorkflowRun, story: str) -> None:
        """The results are in OMERO: see `made`."""


def start(made: OmeroWorld, **how: Any) -> BaseProcess:
    """Start a supervisor."""
    _context.set_forkserver_preload(["tests.resilience.omero_world", "biomeroworker.omero.source"])
    given = How(**{"environment": made.environment(), **how})
    process = _context.Process(target=_serve, args=(replace(made, server=None), given), daemon=True)
    process.start()
    return process


@contextlib.contextmanager
def running(made: OmeroWorld, **how: Any) -> Iterator[BaseProcess]:
    """Run a supervisor during the block."""
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
        with graceful_shutdown() as shutdown:  # as the command does it
            shutdown.add_callback(supervisor.stop)
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
    """A TCP relay to the server that can be cut, or made silent: no byte passes, and no error is reported."""

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
        """Relay again; connections that were silent are reset."""
        self.cut()
        self.dumb.clear()
        self.closed.clear()

    def close(self) -> None:
        """Stop the relay."""
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
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.dumb.is_set():
                    target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
