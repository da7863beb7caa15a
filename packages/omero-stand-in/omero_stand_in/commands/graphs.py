"""Requests over graphs of objects: delete, move to another group or owner, permissions, searches, disk usage."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any

import omero
import omero.clients
import omero.cmd
import omero.cmd.graphs

from omero_stand_in.graph import Entity
from omero_stand_in.graph_walk import Options, Plan, Walk, counted, key

from . import registry
from .registry import Run, command, error, graph_error

log = logging.getLogger(__name__)

_CONTAINERS = {
    "Annotation", "Dataset", "Experiment", "Fileset", "Folder", "Image", "Instrument", "Job", "OriginalFile", "Plate",
    "PlateAcquisition", "Project", "Reagent", "Roi", "Screen",
}  # fmt: skip
_PARTS = {
    "Channel", "ChannelBinding", "CodomainMapContext", "LogicalChannel", "Pixels", "PlaneInfo", "QuantumDef",
    "StatsInfo", "WellSample",
}  # fmt: skip
_LINKS = {
    "DatasetImageLink", "FolderImageLink", "FolderRoiLink", "ProjectDatasetLink", "ScreenPlateLink", "WellReagentLink",
}  # fmt: skip
_SETTINGS = {"ProjectionDef", "RenderingDef", "Shape", "Thumbnail", "Well"}
#: The classes that each kind of request may name; their subclasses with them.
TARGETS = {
    omero.cmd.Delete2: _CONTAINERS | _LINKS | _SETTINGS,
    omero.cmd.Chgrp2: _CONTAINERS,
    omero.cmd.Chown2: _CONTAINERS | _LINKS,
    omero.cmd.Chmod2: {"ExperimenterGroup"},
    omero.cmd.DiskUsage2: _CONTAINERS | _LINKS | _SETTINGS | _PARTS | {"Experimenter", "ExperimenterGroup"},
    omero.cmd.Duplicate: _CONTAINERS | _LINKS,
    omero.cmd.FindChildren: _CONTAINERS | _LINKS | _SETTINGS | _PARTS,
    omero.cmd.FindParents: _CONTAINERS | _LINKS | _SETTINGS | _PARTS,
}
_PERMISSIONS = re.compile(r"([Rr_-][AaWw_-]){3}")


def legal(run: Run, kind: type, name: str) -> bool:
    """Whether requests of the kind may name the class."""
    cls = run.tx.graph.schema.find(name)
    return cls is not None and any(cls.is_a(target) for target in TARGETS.get(kind, ()))


def targets(run: Run) -> list[Entity]:
    """The objects that the request names, all visible to the caller, in any of the caller's groups."""
    found, schema = [], run.tx.graph.schema
    everywhere = run.tx.graph.transaction(run.tx.context.in_group(-1))
    with everywhere as tx:
        for name, numbers in sorted((run.request.targetObjects or {}).items()):
            cls = schema.find(name)
            if cls is None:
                raise error(run.request, "graph-fail", "")
            if not legal(run, type(run.request), name):
                raise error(run.request, "bad-target", f"cannot target {cls.name}")
            for number in numbers:
                entity = tx.find(cls.name, number)
                if entity is None:
                    raise graph_error(run.request, f"cannot read {_place(cls.java, number)}")
                found.append(entity)
    return found


def _place(java: str, number: int) -> str:
    return f"{java}[{number}]"


def _options(run: Run) -> Options:
    schema = run.tx.graph.schema
    options = Options([one for one in run.request.childOptions or [] if one is not None])
    for option in options.options:
        for name in [*(option.includeType or ()), *(option.excludeType or ())]:
            if schema.find(name) is None:
                raise error(run.request, "bad-options", f"unknown model object class named: {name}")
    return options


def _planned(run: Run, action: str, verb: str, options: Options | None = None) -> Plan:
    """All that goes with the targets; raises unless the caller may do it to each."""
    named = targets(run)
    for entity in named:
        if not run.tx.can(entity, action):
            raise graph_error(run.request, f"not permitted to {verb} {_place(entity.cls.java, entity.id)}")
    options = _options(run) if options is None else options
    return Walk(run.tx).plan(named, options, lambda entity: run.tx.can(entity, action))


# -- delete -----------------------------------------------------------------------------------------------------------
@command(omero.cmd.Delete2, steps=6, dry_steps=4)
def delete(run: Run) -> Any:
    """Delete objects with what has no life without them, and what nothing else holds."""
    plan = _planned(run, "delete", "delete")
    for found, name, entity in plan.in_the_way:
        raise graph_error(
            run.request,
            f"cannot delete {_place(entity.cls.java, entity.id)} because "
            f"{_place(found.cls.java, found.id)} refers to it by {name}",
        )
    if not run.request.dryRun:
        for found, name in plan.freed:
            run.tx.change(run.tx.raw(found.cls.name, found.id) or found, **{name: None})
        for entity in plan.taken.values():
            run.tx.remove(entity)
        run.afterwards.append(lambda: remove_content(run.call.server.disk, plan.taken.values()))
    return omero.cmd.Delete2Response(plan.by_class())


def remove_content(disk: Any, entities: Iterable[Entity]) -> None:
    """Delete the files of deleted objects; one that cannot be deleted is only logged."""
    for entity in entities:
        path = disk.file(entity.id) if entity.cls.name == "OriginalFile" else None
        path = disk.pixels(entity.id) if entity.cls.name == "Pixels" else path
        try:
            if path is not None:
                path.unlink(missing_ok=True)
        except OSError as problem:
            log.warning("left behind: %s", problem)


# -- group, owner, permissions ----------------------------------------------------------------------------------------
@command(omero.cmd.Chgrp2, steps=6, dry_steps=4)
def chgrp(run: Run) -> Any:
    """Move objects to another group; links to other objects are deleted."""
    group = run.request.groupId
    if run.tx.raw("ExperimenterGroup", group) is None:
        raise error(run.request, "bad-group", f"No such group: {group}")
    if group not in run.call.member_of and not run.call.is_admin:
        raise error(run.request, "non-member", f"User {run.call.user_id} is not a member of group {group}")
    plan = _planned(run, "chgrp", "change group of")
    moved, cut = _split(run, plan)
    for found, name, entity in plan.in_the_way:
        raise graph_error(
            run.request,
            f"cannot move {_place(entity.cls.java, entity.id)} because "
            f"{_place(found.cls.java, found.id)} refers to it by {name}",
        )
    if not run.request.dryRun:
        for found, name in plan.freed:
            run.tx.change(found, **{name: None})
        for entity in cut:
            run.tx.remove(entity)
        for entity in moved:
            _mark(run, entity, group=group)
    return omero.cmd.Chgrp2Response(counted(moved), counted(cut))


@command(omero.cmd.Chown2, steps=7, dry_steps=5)
def chown(run: Run) -> Any:
    """Give objects to another user; annotations stay with who made them."""
    request = run.request
    if not run.call.is_admin and not run.call.leader_of:
        text = "ome.services.graphs.GraphException(message=not an owner of any group)"
        raise error(request, "steps-cancel", text, f"steps-cancel\nCaused by: {text}")
    if run.tx.raw("Experimenter", request.userId) is None:
        raise error(request, "bad-user", f"No such user: {request.userId}")
    if request.targetUsers:
        raise error(request, "unsupported", "all objects of a user at once is not implemented by this server")
    links = [one for one in run.tx.graph.schema.classes if one.endswith("AnnotationLink")]
    keep = omero.cmd.graphs.ChildOption(excludeType=["Annotation", *links])
    plan = _planned(run, "chown", "change owner of", Options([*_options(run).options, keep]))
    given, _ = _split(run, plan)
    if not request.dryRun:
        for entity in given:
            _mark(run, entity, owner=request.userId)
    return omero.cmd.Chown2Response(counted(given), {})


def _split(run: Run, plan: Plan) -> tuple[list[Entity], list[Entity]]:
    """The objects that move together, and the links to other objects."""
    along, cut = [], []
    for entity in plan.taken.values():
        ends = [run.tx.target(entity, name) for name in ("parent", "child")] if entity.cls.is_link else []
        outside = [end for end in ends if end is not None and end not in plan and end.cls.owned]
        (cut if outside else along).append(entity)
    return along, cut


def _mark(run: Run, entity: Entity, **marks: int) -> None:
    if entity.cls.owned:
        now = run.tx.raw(entity.cls.name, entity.id) or entity
        run.tx.graph.put(now.changed({}, {**marks, "updateEvent": run.tx.event().id}))


@command(omero.cmd.Chmod2, steps=6, dry_steps=4)
def chmod(run: Run) -> Any:
    """Change the permissions of groups, as an administrator or their owner."""
    from dataclasses import replace

    request = run.request
    if not _PERMISSIONS.fullmatch(request.permissions):
        raise error(request, "bad-permissions", "Permissions are of the form: ([Rr_-][AaWw_-]){3}")
    changed: list[Entity] = []
    for name, numbers in sorted((request.targetObjects or {}).items()):
        if not legal(run, omero.cmd.Chmod2, name):
            raise error(request, "bad-target", f"cannot target {name.rsplit('.', 1)[-1]}")
        for number in numbers:
            group = run.tx.raw("ExperimenterGroup", number)
            may = (run.call.is_admin and "ModifyGroup" in run.call.privileges) or number in run.call.leader_of
            if group is None or not may:
                place = _place("ome.model.meta.ExperimenterGroup", number)
                raise graph_error(request, f"not permitted to change permissions on {place}")
            changed.append(group)
    if not request.dryRun:
        for group in changed:
            run.tx.graph.put(replace(group, permissions=request.permissions.replace("_", "-").lower()))
    return omero.cmd.Chmod2Response(counted(changed), {})


# -- searches ---------------------------------------------------------------------------------------------------------
def _search(run: Run, wanted: list[str], word: str) -> dict[str, list[int]]:
    request, schema = run.request, run.tx.graph.schema
    if not wanted:
        raise error(request, "bad-options", f"no types of {word} specified to find")
    for name in [*wanted, *(request.stopBefore or ())]:
        if schema.find(name) is None:
            raise error(request, "steps-cancel", f"unknown model object class named: {name}")
    kinds = {schema.find(name).name for name in wanted}
    stops = {schema.find(name).name for name in request.stopBefore or ()}
    walk = Walk(run.tx)
    found = _reached(targets(run), walk.children if word == "children" else walk.parents, stops)
    return counted(entity for entity in found if any(entity.cls.is_a(kind) for kind in kinds))


def _reached(start: list[Entity], step: Any, stops: set[str]) -> Iterator[Entity]:
    seen, waiting = {key(entity) for entity in start}, list(start)
    while waiting:
        for entity in step(waiting.pop()):
            if key(entity) in seen or any(entity.cls.is_a(stop) for stop in stops):
                continue
            seen.add(key(entity))
            yield entity
            waiting.append(entity)


@command(omero.cmd.FindChildren, steps=4)
def find_children(run: Run) -> Any:
    """Objects of some classes below the targets."""
    return omero.cmd.FoundChildren(_search(run, list(run.request.typesOfChildren or []), "children"))


@command(omero.cmd.FindParents, steps=4)
def find_parents(run: Run) -> Any:
    """Objects of some classes above the targets."""
    return omero.cmd.FoundParents(_search(run, list(run.request.typesOfParents or []), "parents"))


@command(omero.cmd.SkipHead, steps=5)
def skip_head(run: Run) -> Any:
    """Run another request on what is found below the targets."""
    request = run.request
    inner = request.request
    known = registry.find(inner)
    if known is None or not isinstance(inner, omero.cmd.GraphModify2):
        raise error(request, "bad-request", "cannot skip the head of that request")
    search = omero.cmd.FindChildren(request.targetObjects, request.startFrom, request.startFrom)
    walk, schema = Walk(run.tx), run.tx.graph.schema
    kinds = [schema.find(name) for name in request.startFrom or []]
    if None in kinds:
        raise error(request, "bad-options", "unknown class to start from")
    reached = _reached(targets(run.within(search)), walk.children, set())
    inner.targetObjects = counted(entity for entity in reached if any(entity.cls.is_a(kind.name) for kind in kinds))
    inner.dryRun = request.dryRun
    inner.childOptions = inner.childOptions or request.childOptions
    return known.run(run.within(inner))


@command(omero.cmd.LegalGraphTargets)
def legal_targets(run: Run) -> Any:
    """The classes that a kind of request may name."""
    kind = type(run.request.request)
    if kind not in TARGETS:
        raise error(run.request, "bad-request", "not a request over graphs")
    names = [run.tx.graph.schema[name].java for name in TARGETS[kind]]
    return omero.cmd.LegalGraphTargetsResponse(sorted(names))


@command(omero.cmd.DiskUsage2, steps=4)
def disk_usage(run: Run) -> Any:
    """Files and bytes below the targets, by owner and group, and by what refers to them."""
    answer = omero.cmd.DiskUsage2Response({}, {}, {}, {})
    named, walk = targets(run), Walk(run.tx)
    disk, seen = run.call.server.disk, set()
    for entity in [*named, *_reached(named, walk.children, set())]:
        for kind, holder, size in _content(run, disk, entity):
            if (kind, holder.id) in seen:
                continue
            seen.add((kind, holder.id))
            place = omero.api.LongPair(holder.owner or 0, holder.group or 0)
            answer.totalFileCount[place] = answer.totalFileCount.get(place, 0) + 1
            answer.totalBytesUsed[place] = answer.totalBytesUsed.get(place, 0) + size
            counts, used = (
                table.setdefault(place, {}) for table in (answer.fileCountByReferer, answer.bytesUsedByReferer)
            )
            counts[kind], used[kind] = counts.get(kind, 0) + 1, used.get(kind, 0) + size
    return answer


def _content(run: Run, disk: Any, entity: Entity) -> Iterator[tuple[str, Entity, int]]:
    if entity.cls.name == "Pixels" and disk.pixels(entity.id).exists():
        yield "Pixels", entity, disk.pixels(entity.id).stat().st_size
    if entity.cls.name == "FileAnnotation":
        file = run.tx.target(entity, "file")
        if file is not None:
            yield "FileAnnotation", file, file.get("size") or 0
