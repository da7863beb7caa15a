"""A run in OMERO whose results are ready for the import."""

from uuid import uuid4

import numpy as np
import tifffile

from biomeroworker.domain.manifest import ResultFile, ResultManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Provenance
from biomeroworker.omero.source import OmeroSource
from tests.fakes.guards import UNGUARDED
from tests.integration.omero.omero_objects import make_dataset, make_image, make_project, noise


def quiet(fraction, word):
    """Ignore progress."""


class Run:
    """A run on a dataset of two images, with the results that a workflow could write."""

    def __init__(self, server, person, session, folder, **outputs):
        self.server, self.person, self.session = server, person, session
        self.project = make_project(session)
        self.dataset = make_dataset(session, project=self.project)
        self.images = [
            make_image(session, name, noise(1, 2, 3, 60, 80, seed=n), sizes={"x": 0.5, "y": 0.5}, dataset=self.dataset)
            for n, name in enumerate(("nuclei µ.tif", "nuclei µ.tif"))
        ]
        self.id = str(uuid4())
        self.source = OmeroSource(server.provider())
        self.request = RunRequest(
            workflow="nuclei",
            source="omero",
            inputs={"type": "Dataset", "ids": [self.dataset]},
            outputs=outputs,
            user=person.id,
            group=person.group,
        )
        self.by = Provenance(self.id, 1, "nuclei", "v1", "lab/nuclei:v1", "sha256:abc", {"d": 3, "off": None}, 77)
        self.inputs = self.source.list_inputs(self.id, self.request)
        self.source.stage_in(self.id, self.request, self.inputs.portions(), folder / "in", quiet, UNGUARDED)
        self.folder = folder / "out"
        self.folder.mkdir()
        self.labels = {}
        for image in self.images:
            labels = np.zeros((3, 60, 80), np.int64)
            labels[:, 5:15, 5:25] = 1
            labels[1, 30:50, 40:60] = 2
            self.labels[image] = labels
            # three planes: without these options tifffile treats them as colours
            tifffile.imwrite(
                self.folder / f"image-{image}_mask.tif", labels, photometric="rgb", planarconfig="separate"
            )
        rows = [f"image-{image},{label},{label / 4}" for image in self.images for label in (1, 2)]
        (self.folder / "nuclei.csv").write_text("\n".join(["image,label,area", *rows]) + "\n")
        (self.folder / "notes.txt").write_text("some words\n" * 1000)

    def results(self):
        files = tuple(
            ResultFile(path=str(path.relative_to(self.folder)), size=path.stat().st_size, sha256="0")
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        )
        return ResultManifest(run=self.id, attempt=1, files=files)

    def stage_out(self):
        return self.source.stage_out(self.request, self.inputs, self.results(), self.folder, self.by, quiet, UNGUARDED)

    def counts(self):
        """How many objects the user has, by class."""
        kinds = ("Image", "Dataset", "Roi", "Shape", "FileAnnotation", "MapAnnotation", "OriginalFile")
        return {
            kind: len(self.session.rows(f"select o.id from {kind} o where o.details.owner.id = :u", u=self.person.id))
            for kind in kinds
        }
