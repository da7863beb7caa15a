"""Copies of containers, with links to what they hold; images and files are referred to, never copied."""

from __future__ import annotations

from typing import Any

import omero
import omero.clients
import omero.cmd
import omero.cmd.graphs

from omero_stand_in.graph import Entity
from omero_stand_in.graph_walk import Options, Walk, counted, key

from .graphs import targets
from .registry import Run, command, error

#: What can be copied without copying bytes.
_COPIED = {"Dataset", "Folder", "Project", "Screen"}


@command(omero.cmd.Duplicate, steps=6, dry_steps=4)
def duplicate(run: Run) -> Any:
    """New objects like those named, owned by the caller."""
    request, schema = run.request, run.tx.graph.schema
    if request.typesToDuplicate:
        raise error(request, "not-implemented", "typesToDuplicate is not implemented by the stand-in OMERO server")
    ignored = list(request.typesToIgnore or [])
    left = [*(request.typesToReference or []), *ignored]
    for name in left:
        if schema.find(name) is None:
            raise error(request, "bad-options", f"unknown model object class named: {name}")
    options = Options([omero.cmd.graphs.ChildOption(excludeType=left)] if left else [])
    plan = Walk(run.tx).plan(targets(run), options, run.tx.readable)
    without = {schema.find(name).name for name in ignored}
    chosen = [one for one in plan.taken.values() if not one.cls.is_link or _links(run, one, plan, without)]
    for entity in chosen:
        if entity.cls.name not in _COPIED and not entity.cls.is_link:
            raise error(request, "not-implemented", f"copies of {entity.cls.name} are not implemented by this server")
    made = chosen if request.dryRun else _copies(run, sorted(chosen, key=lambda one: one.cls.is_link))
    return omero.cmd.DuplicateResponse(counted(made))


def _links(run: Run, link: Entity, plan: Any, without: set[str]) -> bool:
    """Whether a link is copied: its parent is, and its child is not of a class to be ignored."""
    parent, child = run.tx.target(link, "parent"), run.tx.target(link, "child")
    return parent in plan and child is not None and not any(child.cls.is_a(name) for name in without)


def _copies(run: Run, entities: list[Entity]) -> list[Entity]:
    made: dict[tuple[str, int], Entity] = {}
    with run.tx.graph.transaction(run.tx.context.as_server()) as tx:
        for entity in entities:
            values = dict(entity.values)
            for name, declared in entity.cls.fields.items():
                target = tx.target(entity, name) if declared.kind == "ref" else None
                if target is not None and key(target) in made:
                    values[name] = made[key(target)].id
            made[key(entity)] = tx.insert(entity.cls.name, group=entity.group, **values)
    return list(made.values())
