"""Check a request from OMERO before anything is computed: the inputs, the user's rights, and where results go.

The script checks before the run is accepted, so that a refusal is the message of the dialog. The worker checks again at
admission, because a run may also come from another program, and rights may have changed. The number of calls to OMERO
does not depend on the number of images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biomeroworker.domain.manifest import InputFile, InputImage
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.summary import name_inputs
from biomeroworker.errors import Permanent, RequestRejected
from biomeroworker.omero.connection.errors import translate_errors
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.exporting.describe import Selection, select, wanted
from biomeroworker.omero.exporting.export import describe, describe_plate, refuse_strange_pixels
from biomeroworker.omero.exporting.file_parameters import describe_files
from biomeroworker.omero.importing.options import Options

#: The privilege of an administrator to write into groups without being a member.
_WRITE_OWNED = "WriteOwned"


@dataclass(frozen=True)
class Account:
    """The user of a session in the group of the session."""

    user_name: str
    group_id: int
    group_name: str
    member_of: frozenset[int]
    privileges: frozenset[str] = frozenset()  #: of an administrator; empty for other users

    def refusal(self) -> str:
        """Why the user cannot create results in the group; empty if the user can."""
        if self.group_id in self.member_of or _WRITE_OWNED in self.privileges:
            return ""
        return (
            f"{self.user_name} is not a member of the group {self.group_name} and cannot create results there; "
            f"ask an owner of the group to add {self.user_name}, or start the run in another group"
        )


def check_access(session: OmeroSession, request: RunRequest) -> tuple[Selection, tuple[InputFile, ...]]:
    """The metadata of the inputs and of the files, if the user may read them and may write the results.

    Raises
    ------
    RequestRejected
        An object is not found in the group of the session, the options are wrong, or a right is missing.
    Permanent
        An image has pixels that cannot be exported.
    """
    kind, ids = wanted(request.inputs)
    options = Options.of(request.outputs)
    if refusal := account_of(session).refusal():
        raise RequestRejected(refusal)
    selection = select(session, kind, ids)
    refuse_strange_pixels(selection)
    files = describe_files(session, request.files)
    if options.dataset_id is not None:
        _check_target_dataset(session, options.dataset_id)
    if only_rois(options):
        _check_rois(session, list(inputs_of(selection, request)))
    return selection, files


def account_of(session: OmeroSession) -> Account:
    """The user and the group of a session."""
    with translate_errors("read the rights of the session"):
        context = session.sf.getAdminService().getEventContext()
    return Account(
        context.userName,
        session.group_id,
        context.groupName,
        frozenset(context.memberOfGroups),
        _privileges(context),
    )


def _privileges(context: Any) -> frozenset[str]:
    if not context.isAdmin:
        return frozenset()
    if context.adminPrivileges is None:  # before OMERO 5.4, each administrator had all
        return frozenset({_WRITE_OWNED})
    return frozenset(context.adminPrivileges)


def inputs_of(selection: Selection, request: RunRequest) -> Iterator[InputImage]:
    """The images and plates of a request; only those of ``request.only`` if that is set.

    Raises
    ------
    Permanent
        One of ``request.only`` is not found any more.
    """
    images = [describe(f"image-{image.id}", image) for image in selection.images]
    images += [describe_plate(plate) for plate in selection.plates]
    return _only(images, request.only)


def _only(images: Sequence[InputImage], only: Mapping[str, str]) -> Iterator[InputImage]:
    """The inputs that ``only`` names, and of a plate its fields (``plate-5/A/1/0``); all if it is empty."""
    existing = {image.key for image in images} | {f"{image.key}/{field}" for image in images for field in image.fields}
    if gone := [key for key in only if key not in existing]:
        raise Permanent(
            f"{', '.join(gone)}: not among the inputs any more", hint="check whether it was deleted or moved"
        )
    for image in images:
        fields = [field for field in image.fields if f"{image.key}/{field}" in only]
        if fields:
            origin = {name: value for name, value in image.origin.items() if "/" not in name or name in fields}
            yield image.model_copy(update={"origin": origin})
        elif not only or image.key in only:
            yield image


# -- where results go -------------------------------------------------------------------------------------------------


def _check_target_dataset(session: OmeroSession, dataset: int) -> None:
    """Reject a dataset that is not found or is read-only for the user."""
    found = session.query("select d from Dataset d where d.id = :id", id=dataset)
    if not found:
        user = session.user_name
        problem = f"OMERO has no dataset {dataset} for the results that {user} can see in the group of this run"
        query = "select d.name, d.details.group.name from Dataset d where d.id = :id"
        for name, group in session.rows(query, everywhere=True, id=dataset):
            problem += f"; {name} (dataset {dataset}) is in group {group}: choose a dataset in the group of the images"
        raise RequestRejected(problem)
    if not found[0].details.permissions.canLink():
        raise RequestRejected(
            f"{session.user_name} may not put the results into dataset {dataset}: it belongs to another user and is"
            " read-only in this group; choose a dataset of your own, or none, and a new one is created"
        )


def only_rois(options: Options) -> bool:
    """Whether ROIs on the input images are the only results that are imported."""
    others = options.images or options.tables or options.files or options.attach_images or options.zip
    return options.rois and not others


def _check_rois(session: OmeroSession, inputs: Sequence[InputImage]) -> None:
    """Reject a run whose only results would be ROIs on objects that can have none."""
    ids = [int(image.origin["id"]) for image in inputs if not image.is_plate]
    found = session.query_by_ids("select i from Image i where i.id in (:ids)", ids) if ids else []
    allowed = {image.id.val for image in found if image.details.permissions.canAnnotate()}
    if refusal := roi_refusal(inputs, allowed, session.user_name):
        raise RequestRejected(refusal)


def roi_refusal(inputs: Iterable[InputImage], annotatable: Collection[int], user: str) -> str:
    """Why ROIs cannot be drawn on all inputs; empty if they can. ``annotatable`` has ids of images."""
    checked = list(inputs)
    advice = "import the result images too"
    if plates := {image.key: image.name for image in checked if image.is_plate}:
        return f"only ROIs are imported, but plates cannot have ROIs: {name_inputs(plates)}; {advice}"
    unfit = {image.key: image.name for image in checked if int(image.origin["id"]) not in annotatable}
    if unfit:
        return f"only ROIs are imported, but {user} may only view {name_inputs(unfit)}; {advice} or choose others"
    return ""
