"""What the database refuses: fields that may not be null, rows that exist already, text that it cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omero_stand_in import errors

from .entity import Entity
from .schema import ModelClass

if TYPE_CHECKING:
    from .transaction import Transaction

#: (class, fields that together are unique, constraint)
UNIQUE = (
    ("Well", ("plate", "column", "row"), "well_col_row"),
    ("Experimenter", ("omeName",), "experimenter_omename_key"),
    ("ExperimenterGroup", ("name",), "experimentergroup_name_key"),
    ("GroupExperimenterMap", ("parent", "child"), "groupexperimentermap_parent_key"),
)
#: Columns of ``details`` in the order of an insert.
MARKS = ("creation_id", "external_id", "group_id", "owner_id", "permissions", "update_id")
#: Numbers that must be above zero, by class.
POSITIVE = {
    "Pixels": ("physicalSizeX", "physicalSizeY", "physicalSizeZ", "sizeC", "sizeT", "sizeX", "sizeY", "sizeZ"),
}


def check(transaction: Transaction, entity: Entity, is_new: bool) -> None:
    """Raise what the server's database would raise for this row."""
    _not_null(transaction, entity)
    for name in POSITIVE.get(entity.cls.name, ()):
        value = entity.values.get(name)
        if value is not None and (value[0] if isinstance(value, list) else value) <= 0:
            raise errors.internal(f"values of {entity.cls.name}.{name} must be strictly positive")
    verb = "insert" if is_new else "update"
    if any(isinstance(value, str) and "\0" in value for value in entity.values.values()):
        raise errors.validation(_refused(entity, verb))
    for constraint in _broken(transaction, entity):
        raise errors.validation(_refused(entity, verb, constraint))


def _not_null(transaction: Transaction, entity: Entity) -> None:
    missing = [
        _column(transaction, entity.cls, field.name)
        for field in entity.cls.fields.values()
        if field.required and field.kind != "collection" and field.name not in entity.values
    ]
    if missing:
        message = f"not-null property references a null or transient value: {entity.cls.java}.{min(missing)}"
        raise errors.validation(f"{message}; nested exception is org.hibernate.PropertyValueException: {message}")


def _column(transaction: Transaction, cls: ModelClass, name: str) -> str:
    """The field's name in messages: members of ordered collections know their owner by a back reference."""
    field = cls.fields[name]
    if field.kind == "ref" and cls.root.name != "Pixels":
        for collection in transaction.graph.schema[field.type].fields.values():
            if collection.ordered and collection.inverse == name and collection.type == cls.root.name:
                return f"_{collection.name}Backref"
    return name


def _broken(transaction: Transaction, entity: Entity) -> list[str]:
    cls = entity.cls
    if cls.is_link:
        found = _same(transaction, entity, ("parent", "child"))
        if any(one.owner == entity.owner for one in found):
            return [f"{cls.name.lower()}_parent_child_owner_id_key"]
    return [
        constraint for name, fields, constraint in UNIQUE if cls.name == name and _same(transaction, entity, fields)
    ]


def _same(transaction: Transaction, entity: Entity, fields: tuple[str, ...]) -> list[Entity]:
    """Other objects, visible or not, with the same values in these fields."""
    root = entity.cls.root.name
    table = transaction.graph.tables[root]
    referring = [
        transaction.graph.referring(root, name, entity.values[name])
        for name in fields
        if entity.cls.fields[name].kind == "ref"
    ]
    if referring:
        candidates = [table[one] for one in min(referring, key=len)]
    else:
        candidates = list(transaction.graph.by_class[entity.cls.name].values())
    return [
        one
        for one in candidates
        if one.id != entity.id and all(one.values.get(name) == entity.values.get(name) for name in fields)
    ]


def _refused(entity: Entity, verb: str, constraint: str = "") -> str:
    columns = sorted(field.name for field in entity.cls.fields.values() if field.kind != "collection")
    if entity.cls.owned:
        place = next((i for i, name in enumerate(columns) if name > "details"), len(columns))
        columns[place:place] = MARKS
    columns += ["version", "id"]
    marks = ", ".join("?" for _ in columns)
    sql = f"insert into {entity.cls.name.lower()} ({', '.join(columns)}) values ({marks})"
    what = f"could not {verb}: [{entity.cls.java}{'' if verb == 'insert' else f'#{entity.id}'}]"
    if not constraint:
        return f"{what}; SQL [{sql}]; nested exception is org.hibernate.exception.DataException: {what}"
    kind = "org.hibernate.exception.ConstraintViolationException"
    return f"{what}; SQL [{sql}]; constraint [{constraint}]; nested exception is {kind}: {what}"
