"""A run's results into OMERO: once, however often it is asked.

Every object that is made carries the run, the attempt and the result that it comes from (`annotations`). Before
anything is made, what is there already is looked up and adopted; what a crash left half done is deleted and made again.
Results are matched to inputs by id. The steps, in this order, each its own few calls: provenance, dataset, images,
ROIs, tables, files.
"""

from __future__ import annotations

import fnmatch
import logging
import zipfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal

import omero.model
from omero.rtypes import rstring
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from biomeroworker.domain.manifest import InputManifest, ResultManifest
from biomeroworker.domain.source import Guard, Output, ProgressCallback, Provenance
from biomeroworker.errors import RequestRejected
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.importing import files, tables
from biomeroworker.omero.importing.annotations import RUN, ProvenanceAnnotations, provenance_text
from biomeroworker.omero.importing.images import ResultImage, add_images
from biomeroworker.omero.importing.results import Result, image_name, read_image, sort, stem_of
from biomeroworker.omero.importing.rois import add_rois, clear_rois, colour_of, planes_of

log = logging.getLogger(__name__)

#: What is said in place of ROIs of a label image that is of a whole plate: they have no single image to lie on.
NO_ROIS = "RoiLeftOut"
#: The same where the original image may only be read, and there is no result image to lay them on either.
READ_ONLY = "RoiReadOnly"
#: What is said when the dataset that was named for the results cannot take them any more.
DATASET_GONE = "DatasetGone"


class Options(BaseModel):
    """What to do with results: the ``outputs`` of a request from OMERO. All have defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = ""  #: name of the new dataset for result images; empty: "<workflow> results <run>"
    duplicates: bool = True  #: make it though there is one of that name; else results go into the one that is there
    dataset_id: int | None = None  #: put them into this dataset that exists, instead
    images: bool = True  #: import result images
    rename: str = ""  #: pattern for their names: {original_file}, {original_ext}, {file}, {ext}
    rois: bool = True  #: make ROIs on the source images from label images
    roi_shape: Literal["polygon", "mask"] = "polygon"
    roi_colour: str = "yellow"  #: of their lines: #RRGGBB, or a name
    clear_rois: bool = False  #: before, delete ROIs of the source images
    clear_filter: str = ""  #: only those whose names contain this
    label_images: bool = True  #: import label images too that became ROIs
    label_pattern: str = "*"  #: which result files may be label images (shell pattern on their names)
    tables: bool = True  #: CSV files become OMERO.tables
    files: bool = True  #: other files become attachments
    attach_images: bool = False  #: attach result images to their source image, as files
    zip: bool = False  #: attach everything as one zip

    @field_validator("roi_colour")
    @classmethod
    def _a_colour(cls, text: str) -> str:
        colour_of(text)
        return text

    @classmethod
    def of(cls, outputs: dict[str, Any]) -> Options:
        """Check a request's outputs; raises `RequestRejected` that names what is wrong."""
        try:
            return cls.model_validate(outputs)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise RequestRejected(f"what to do with the results is not clear: {wrong}") from None


class Import:
    """One attempt's results on their way into OMERO.

    Parameters
    ----------
    session
        Of the run's user, in the run's group.
    kind, ids
        The run's inputs as they were asked for: new datasets go beside them, tables hang on them.
    folder
        Where the results lie (``out/``).
    """

    def __init__(
        self,
        session: OmeroSession,
        kind: str,
        ids: list[int],
        inputs: InputManifest,
        results: ResultManifest,
        folder: Path,
        provenance: Provenance,
        options: Options,
    ) -> None:
        self.session, self.kind, self.ids, self.folder, self.provenance, self.options = (
            session,
            kind,
            ids,
            folder,
            provenance,
            options,
        )
        self.results = sort(results, inputs)
        self.marks = ProvenanceAnnotations(session, provenance)
        self._keys = {
            image.key: tables.ImageOfKey(int(image.origin["id"]), image.name)
            for image in inputs.images
            if image.origin.get("type") == "Image"
        }
        self.made: list[Output] = []
        self._places: list[tuple[str, int]] = []

    def run(self, listener: ProgressCallback, guard: Guard) -> list[Output]:
        """Import everything; return what was made or found from an earlier try.

        The guard is checked at each progress report, and by the session before each change in OMERO: it raises when
        another process may execute the run, and may import as well.
        """

        def report(fraction: float, text: str) -> None:
            guard.check()
            listener(fraction, text)

        return self._run(report)

    def _run(self, report: ProgressCallback) -> list[Output]:
        images = [result for result in self.results if result.kind == "image"]
        sheets = [result for result in self.results if result.kind == "table"]
        rest = [result for result in self.results if result.kind == "file"]
        groups = self._table_groups(sheets) if self.options.tables else {}
        self.marks.make([RUN, *(result.path for result in self.results), *groups])
        report(0.05, "provenance")
        pictures: dict[str, int] = {}
        drawn: set[str] = set()
        if self.options.rois and not self.options.label_images:  # first, for what has become ROIs is no image any more
            drawn = self._all_rois(images, {}, report)
        wanted = [image for image in images if image.path not in drawn] if self.options.images else []
        if wanted:
            pictures = self._images(wanted, lambda count: report(0.05 + 0.5 * count / len(wanted), "images"))
        if self.options.rois:
            self._all_rois([image for image in images if image.path not in drawn], pictures, report)
        attached = list(rest) if self.options.files else []
        if self.options.files:
            tabled = {result.path for members in groups.values() for result, _ in members}
            attached += [result for result in sheets if result.path not in tabled]
        attached += [image for image in images if not image.members] if self.options.attach_images else []
        if (groups or attached or (self.options.zip and self.results)) and not self._annotatable():
            self._made_dataset()
        for name, members in groups.items():
            self._table(name, members)
        report(0.9, "tables")
        self._files(attached)
        if self.options.zip and self.results:
            self._zip()
        report(1.0, f"{len(self.made)} kinds of objects")
        return self.made

    # -- where things go --------------------------------------------------------------------------------------------

    def _made_dataset(self) -> int:
        """The dataset of the results, told of."""
        number = self._dataset()
        self._tell_of(Output("Dataset", f"Dataset:{number}", RUN))
        return number

    def _tell_of(self, made: Output) -> None:
        """Once, however often it comes up."""
        if made not in self.made:
            self.made.append(made)

    def _dataset(self) -> int:
        """The dataset for the images: the one asked for, the one made before, or a new one beside the source's."""
        asked = self.options.dataset_id
        if asked is not None:
            if self._allowed("Dataset", [asked], "canLink"):
                return asked
            # it was there when the run was accepted; what has been computed since is not given up for that
            log.warning("dataset %s, named for the results, is gone or read-only: they go into a new one", asked)
            self._tell_of(Output(DATASET_GONE, f"Dataset:{asked}", RUN))
        name = self.options.dataset or f"{self.provenance.workflow} results {self.provenance.run[:8]}"
        there = self.marks.deduplicate("Dataset", [RUN]).get(RUN)
        if there is not None:
            return there
        if self.options.dataset and not self.options.duplicates and (named := self._named(self.options.dataset)):
            return named
        dataset = omero.model.DatasetI()
        dataset.name = rstring(name[:255])
        dataset.description = rstring(provenance_text(self.provenance, RUN))
        dataset.linkAnnotation(self.marks.reference(RUN))
        for project in self._projects():
            dataset.linkProject(omero.model.ProjectI(project, False))
        number: int = self.session.save_and_return([dataset])[0].id.val
        return self.marks.deduplicate("Dataset", [RUN]).get(RUN, number)

    def _named(self, name: str) -> int | None:
        """The user's own dataset of that name in this group, the oldest of them."""
        rows = self.session.rows(
            "select d.id from Dataset d where d.name = :name and d.details.owner.id = :me"
            " and d.details.group.id = :group order by d.id",
            name=name[:255],
            me=self.session.user_id,
            group=self.session.group_id,
        )
        return int(rows[0][0]) if rows else None

    def _projects(self) -> list[int]:
        """Projects of the source that this user may add to: the first of each dataset of it."""
        match self.kind:
            case "Project":
                candidates = self.ids
            case "Dataset" | "Image":
                datasets = self._source_datasets()
                query = "select l.parent.id from ProjectDatasetLink l where l.child.id in (:ids)"
                candidates = [row[0] for row in self.session.rows_by_ids(query, datasets)] if datasets else []
            case _:
                return []
        return self._allowed("Project", candidates, "canLink")[:1]

    def _source_datasets(self) -> list[int]:
        if self.kind == "Dataset":
            return self.ids
        if self.kind != "Image":
            return []
        query = "select l.parent.id from DatasetImageLink l where l.child.id in (:ids)"
        return sorted({row[0] for row in self.session.rows_by_ids(query, self.ids)})

    def _targets(self) -> list[tuple[str, int]]:
        """What a result of the whole run hangs on: what was asked for, as far as it may be annotated.

        If all of that is a colleague's and may only be read, it is the dataset of the results, which is made for that
        if need be: what hangs on nothing is found by nobody.
        """
        if not self._places:  # asked once: there may be thousands of files
            self._places = self._annotatable() or [("Dataset", self._dataset())]
        return self._places

    def _annotatable(self) -> list[tuple[str, int]]:
        """Of the inputs asked for (of images, the datasets that they are in), those that the user may annotate."""
        if self.kind == "Image" and (datasets := self._allowed("Dataset", self._source_datasets(), "canAnnotate")):
            return [("Dataset", number) for number in datasets]
        return [(self.kind, number) for number in self._allowed(self.kind, self.ids, "canAnnotate")]

    def _targets_of(self, result: Result) -> list[tuple[str, int]]:
        if result.input is None:
            return self._targets()
        kind, number = str(result.input.origin["type"]), int(result.input.origin["id"])
        return [(kind, number)] if self._allowed(kind, [number], "canAnnotate") else self._targets()

    def _allowed(self, kind: str, ids: Iterable[int], right: str) -> list[int]:
        """Those of the objects on which the user has a right: a colleague's may be read-only in this group."""
        wanted = sorted(set(ids))
        if not wanted:
            return []
        found = self.session.query_by_ids(f"select o from {kind} o where o.id in (:ids)", wanted)  # noqa: S608
        return sorted(o.id.val for o in found if getattr(o.details.permissions, right)())

    # -- what is made -----------------------------------------------------------------------------------------------

    def _images(self, images: list[Result], report: Any) -> dict[str, int]:
        pictures = [
            ResultImage(
                result.path,
                image_name(result, self.options.rename),
                provenance_text(self.provenance, result.path),
                lambda result=result: read_image(self.folder / result.path, result.input),  # type: ignore[misc]
            )
            for result in images
        ]
        there = add_images(self.session, pictures, self._made_dataset(), self.marks, report)
        self.made += [Output("Image", f"Image:{there[result.path]}", result.path) for result in images]
        return there

    def _all_rois(self, images: list[Result], pictures: dict[str, int], report: Any) -> set[str]:
        """ROIs of all label images; which of them have any now."""
        before = len(self.made)
        for number, result in enumerate(images, start=1):
            self._rois(result, pictures.get(result.path))
            report(0.55 + 0.25 * number / len(images), "ROIs")
        return {one.result for one in self.made[before:] if one.kind == "Roi"}

    def _rois(self, result: Result, picture: int | None) -> None:
        source = result.input
        if source is None or not self._may_hold_labels(result.path):
            return
        if source.origin.get("type") != "Image":
            if planes_of(read_image(self.folder / result.path, source).values, source):
                place = f"{source.origin.get('type')}:{source.origin.get('id')}"
                log.warning("no ROIs are made from %s: it is of %s as a whole, ROIs lie on images", result.path, place)
                self.made.append(Output(NO_ROIS, place, result.path))
            return
        image = int(source.origin["id"])
        if not self._allowed("Image", [image], "canAnnotate"):
            if picture is None:
                if not self.options.images and planes_of(read_image(self.folder / result.path, source).values, source):
                    log.warning("no ROIs are made from %s: image %s may only be read", result.path, image)
                    self._tell_of(Output(READ_ONLY, f"Image:{image}", result.path))
                return
            image = picture  # a colleague's image that one may only read: the outlines lie on the result
        values = read_image(self.folder / result.path, source).values
        name = f"{self.provenance.workflow} {result.suffix}".strip()
        count = add_rois(
            self.session,
            values,
            source,
            image,
            result.path,
            self.marks,
            name=name,
            shape=self.options.roi_shape,
            colour=colour_of(self.options.roi_colour),
            before=partial(self._clear, image),
        )
        if count:
            self.made.append(Output("Roi", f"Image:{image}", result.path, count))

    def _may_hold_labels(self, path: str) -> bool:
        """What lies among the labels of an OME-Zarr holds labels, whatever it is called (OME-NGFF, "labels")."""
        return "/labels/" in path or fnmatch.fnmatch(PurePosixPath(path).name, self.options.label_pattern)

    def _clear(self, image: int) -> None:
        if self.options.clear_rois:
            clear_rois(self.session, image, self.marks.id(RUN), self.options.clear_filter)

    def _table_groups(self, results: list[Result]) -> dict[str, list[tuple[Result, tables.Sheet]]]:
        """Tables by the name that they get: the files that say the same of different images are one."""
        groups: dict[tuple[str, tuple[str, ...]], list[tuple[Result, tables.Sheet]]] = {}
        for result in results:
            origin = result.input.origin if result.input else {}
            image = int(origin["id"]) if origin.get("type") == "Image" else None
            sheet = tables.read_sheet(self.folder / result.path, image)
            if sheet.header and sheet.rows:
                name = (result.suffix if result.input else stem_of(result.path)) or "measurements"
                groups.setdefault((name, sheet.header), []).append((result, sheet))
        named: dict[str, list[tuple[Result, tables.Sheet]]] = {}
        for (name, _), members in groups.items():
            unique, count = name, 2
            while f"table {unique}" in named:
                unique, count = f"{name} {count}", count + 1
            named[f"table {unique}"] = members
        return named

    def _table(self, mark: str, members: list[tuple[Result, tables.Sheet]]) -> None:
        number = files.find_existing(self.session, self.provenance, [mark], self.marks).get(mark)
        if number is None:
            name = f"{mark.removeprefix('table ')} (run {self.provenance.run[:8]}, attempt {self.provenance.attempt})"
            tables.forget(self.session, name)
            original = tables.add_table(
                self.session, name, tables.columns_of([sheet for _, sheet in members], self._keys)
            )
            number = files.annotate(self.session, original, self.provenance, mark, files.TABLE_NAMESPACE)
            number = files.link(self.session, number, self._targets(), mark, self.marks)
        self.made += [
            Output("Table", f"FileAnnotation:{number}", result.path, 1 if place == 0 else 0)
            for place, (result, _) in enumerate(members)
        ]

    def _files(self, results: list[Result]) -> None:
        there = files.find_existing(self.session, self.provenance, [result.path for result in results], self.marks)
        for result in results:
            number = there.get(result.path)
            if number is None:
                name = image_name(result) + PurePosixPath(result.path).suffix
                number = files.upload(self.session, self.folder / result.path, name, self.provenance, result.path)
                number = files.link(self.session, number, self._targets_of(result), result.path, self.marks)
            self.made.append(Output("File", f"FileAnnotation:{number}", result.path))

    def _zip(self) -> None:
        """Everything as one archive, on the source."""
        mark = "everything, as one zip"
        self.marks.make([mark])
        number = files.find_existing(self.session, self.provenance, [mark], self.marks).get(mark)
        if number is None:
            with TemporaryDirectory(prefix="biomeroworker-") as place:
                archive = Path(place) / "results.zip"
                with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
                    for path in (path for result in self.results for path in result.files):
                        packed.write(self.folder / path, path)
                name = f"{self.provenance.workflow} results {self.provenance.run[:8]}.zip"
                number = files.upload(self.session, archive, name, self.provenance, mark)
            number = files.link(self.session, number, self._targets(), mark, self.marks)
        self.made.append(Output("File", f"FileAnnotation:{number}", mark))
