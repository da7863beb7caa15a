"""Import the results of a run into OMERO, exactly once even if the import is repeated.

The annotation of each object names the run, the attempt and the result that it comes from (`annotations`). Before an
object is created, an existing one is looked up and used; what a crash left incomplete is deleted and created again.
Results are matched to inputs by id. The steps are in `Import._run`.
"""

from __future__ import annotations

import fnmatch
import logging
import zipfile
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from biomeroworker.domain.manifest import InputImage, InputManifest, ResultManifest
from biomeroworker.domain.source import Guard, Output, ProgressCallback, Provenance
from biomeroworker.imaging.results import Kind, Result, sort, stem_of
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.importing import files, tables
from biomeroworker.omero.importing.annotations import RUN, ProvenanceAnnotations, provenance_text
from biomeroworker.omero.importing.destinations import Destinations
from biomeroworker.omero.importing.images import ResultImage, add_images
from biomeroworker.omero.importing.options import Options
from biomeroworker.omero.importing.results import image_name, read_image
from biomeroworker.omero.importing.rois import add_rois, clear_rois, colour_of, planes_of

log = logging.getLogger(__name__)

#: Kinds of outputs that report that a label image has no ROIs: it is of a whole plate, which cannot have ROIs;
NO_ROIS = "RoiLeftOut"
#: or its original image is read-only for the user, and there is no result image either.
READ_ONLY = "RoiReadOnly"
ARCHIVE = "everything, as one zip"


class Import:
    """The import of one attempt's results.

    Parameters
    ----------
    session
        Of the run's user, in the run's group.
    kind, ids
        The run's inputs as they were requested: new datasets go beside them, tables are attached to them.
    folder
        Where the result files are (``out/``).
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
        self.session, self.folder, self.provenance, self.options = session, folder, provenance, options
        self.results = sort(results, inputs)
        self.marks = ProvenanceAnnotations(session, provenance)
        self.destinations = Destinations(session, kind, ids, self.marks, provenance, options, self._record_once)
        self._keys = {
            image.key: tables.ImageOfKey(int(image.origin["id"]), image.name)
            for image in inputs.images
            if image.origin.get("type") == "Image"
        }
        self.made: list[Output] = []
        self._tables: dict[str, list[tuple[Result, tables.Sheet]]] = {}
        self._images: dict[str, int] = {}  #: ids of the imported images, by result
        self._drawn: set[str] = set()  #: label images that have ROIs

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
        """Each step decides by the options whether there is anything to do."""
        steps = (
            self._annotate_provenance,
            self._draw_rois_instead_of_images,
            self._import_images,
            self._draw_rois,
            self._ensure_target,
            self._import_tables,
            self._attach_files,
            self._attach_archive,
        )
        for step in steps:
            step(report)
        report(1.0, f"{len(self.made)} kinds of objects")
        return self.made

    def _of_kind(self, kind: Kind) -> list[Result]:
        return [result for result in self.results if result.kind == kind]

    def _record_once(self, output: Output) -> None:
        if output not in self.made:
            self.made.append(output)

    # -- steps ------------------------------------------------------------------------------------------------------

    def _annotate_provenance(self, report: ProgressCallback) -> None:
        self._tables = self._group_tables() if self.options.tables else {}
        self.marks.make([RUN, *(result.path for result in self.results), *self._tables])
        report(0.05, "provenance")

    def _draw_rois_instead_of_images(self, report: ProgressCallback) -> None:
        """Before the images: a label image that has ROIs is not imported, if the user does not want label images."""
        if self.options.rois and not self.options.label_images:
            self._draw_rois(report)

    def _import_images(self, report: ProgressCallback) -> None:
        images = [image for image in self._of_kind("image") if image.path not in self._drawn]
        if not images or not self.options.images:
            return
        wanted = [
            ResultImage(
                result.path,
                image_name(result, self.options.rename),
                provenance_text(self.provenance, result.path),
                partial(read_image, self.folder / result.path, result.input),
            )
            for result in images
        ]
        self._images = add_images(
            self.session,
            wanted,
            self.destinations.dataset(),
            self.marks,
            lambda count: report(0.05 + 0.5 * count / len(images), "images"),
        )
        self.made += [Output("Image", f"Image:{self._images[result.path]}", result.path) for result in images]

    def _draw_rois(self, report: ProgressCallback) -> None:
        if not self.options.rois:
            return
        images = [image for image in self._of_kind("image") if image.path not in self._drawn]
        for number, result in enumerate(images, start=1):
            if result.input is not None and self._may_hold_labels(result.path):
                self._draw_rois_of(result, result.input)
            report(0.55 + 0.25 * number / len(images), "ROIs")

    def _ensure_target(self, report: ProgressCallback) -> None:
        """Create the dataset of the results if files have nothing else to be attached to."""
        anything = self._tables or self._files_to_attach() or (self.options.zip and self.results)
        if anything and not self.destinations.annotatable_inputs():
            self.destinations.dataset()

    def _import_tables(self, report: ProgressCallback) -> None:
        for mark, members in self._tables.items():
            number = self._import_table(mark, members)
            self.made += [
                Output("Table", f"FileAnnotation:{number}", result.path, 1 if position == 0 else 0)
                for position, (result, _) in enumerate(members)
            ]
        report(0.9, "tables")

    def _attach_files(self, report: ProgressCallback) -> None:
        results = self._files_to_attach()
        existing = files.find_existing(self.session, self.provenance, [result.path for result in results], self.marks)
        for result in results:
            number = existing.get(result.path)
            if number is None:
                name = image_name(result) + PurePosixPath(result.path).suffix
                number = files.upload(self.session, self.folder / result.path, name, self.provenance, result.path)
                targets = self.destinations.for_result(result)
                number = files.link(self.session, number, targets, result.path, self.marks)
            self.made.append(Output("File", f"FileAnnotation:{number}", result.path))

    def _attach_archive(self, report: ProgressCallback) -> None:
        """Attach all results as one zip to the inputs."""
        if not self.options.zip or not self.results:
            return
        self.marks.make([ARCHIVE])
        number = files.find_existing(self.session, self.provenance, [ARCHIVE], self.marks).get(ARCHIVE)
        if number is None:
            with TemporaryDirectory(prefix="biomeroworker-") as folder:
                archive = Path(folder) / "results.zip"
                with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
                    for path in (path for result in self.results for path in result.files):
                        packed.write(self.folder / path, path)
                name = f"{self.provenance.workflow} results {self.provenance.run[:8]}.zip"
                number = files.upload(self.session, archive, name, self.provenance, ARCHIVE)
            number = files.link(self.session, number, self.destinations.for_run(), ARCHIVE, self.marks)
        self.made.append(Output("File", f"FileAnnotation:{number}", ARCHIVE))

    # -- ROIs -------------------------------------------------------------------------------------------------------

    def _may_hold_labels(self, path: str) -> bool:
        """An image among the labels of an OME-Zarr holds labels, whatever its name is (OME-NGFF § labels)."""
        return "/labels/" in path or fnmatch.fnmatch(PurePosixPath(path).name, self.options.label_pattern)

    def _draw_rois_of(self, result: Result, source: InputImage) -> None:
        image = self._image_for_rois(result, source)
        if image is None:
            return
        count = add_rois(
            self.session,
            read_image(self.folder / result.path, source).values,
            source,
            image,
            result.path,
            self.marks,
            name=f"{self.provenance.workflow} {result.suffix}".strip(),
            shape=self.options.roi_shape,
            colour=colour_of(self.options.roi_colour),
            before=partial(self._clear_rois, image),
        )
        if count:
            self._drawn.add(result.path)
            self.made.append(Output("Roi", f"Image:{image}", result.path, count))

    def _image_for_rois(self, result: Result, source: InputImage) -> int | None:
        """The original image, or the result image if that one is read-only; None if there is neither."""
        if source.origin.get("type") != "Image":
            place = f"{source.origin.get('type')}:{source.origin.get('id')}"
            if self._is_label_image(result, source):
                log.warning(
                    "no ROIs are made from %s: it is of the whole %s, which cannot have ROIs", result.path, place
                )
                self._record_once(Output(NO_ROIS, place, result.path))
            return None
        image = int(source.origin["id"])
        if self.destinations.permitted("Image", [image], "canAnnotate"):
            return image
        result_image = self._images.get(result.path)
        if result_image is None and not self.options.images and self._is_label_image(result, source):
            log.warning("no ROIs are made from %s: image %s is read-only for the user", result.path, image)
            self._record_once(Output(READ_ONLY, f"Image:{image}", result.path))
        return result_image

    def _is_label_image(self, result: Result, source: InputImage) -> bool:
        return bool(planes_of(read_image(self.folder / result.path, source).values, source))

    def _clear_rois(self, image: int) -> None:
        if self.options.clear_rois:
            clear_rois(self.session, image, self.marks.id(RUN), self.options.clear_filter)

    # -- tables and files -------------------------------------------------------------------------------------------

    def _files_to_attach(self) -> list[Result]:
        """Files, tables that became no OMERO.table, and images if the user wants them as files too."""
        wanted: list[Result] = []
        if self.options.files:
            imported = {result.path for members in self._tables.values() for result, _ in members}
            wanted += self._of_kind("file")
            wanted += [result for result in self._of_kind("table") if result.path not in imported]
        if self.options.attach_images:
            wanted += [image for image in self._of_kind("image") if not image.members]
        return wanted

    def _group_tables(self) -> dict[str, list[tuple[Result, tables.Sheet]]]:
        """Tables by their marks: files of the same name and the same header, for different images, are one table."""
        groups: dict[tuple[str, tuple[str, ...]], list[tuple[Result, tables.Sheet]]] = {}
        for result in self._of_kind("table"):
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

    def _import_table(self, mark: str, members: list[tuple[Result, tables.Sheet]]) -> int:
        """Write one table, unless an earlier try did; returns the id of its annotation."""
        number = files.find_existing(self.session, self.provenance, [mark], self.marks).get(mark)
        if number is not None:
            return number
        name = f"{mark.removeprefix('table ')} (run {self.provenance.run[:8]}, attempt {self.provenance.attempt})"
        tables.delete_incomplete(self.session, name)
        columns = tables.columns_of([sheet for _, sheet in members], self._keys)
        original = tables.add_table(self.session, name, columns)
        number = files.annotate(self.session, original, self.provenance, mark, files.TABLE_NAMESPACE)
        return files.link(self.session, number, self.destinations.for_run(), mark, self.marks)
