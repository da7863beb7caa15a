"""The OMERO model as data: classes, fields, references and collections, read from omero-py's generated stubs.

The stubs have everything that is needed: ``omero_model_Image_ice.py`` has the wire fields with their types,
``omero_model_ImageI.py`` which of them may be null, the server's own (Java) name of the class, and for a collection
the field of its members that points back. Nothing of the model is written down here a second time, except what the
stubs do not have (see `GLOBAL_PACKAGES` and `ORDERED`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import omero.clients
import omero_model_ImageI

SCALARS = {"RString": str, "RInt": int, "RLong": int, "RDouble": float, "RBool": bool, "RTime": int}
UNITS = {"Length", "Time", "Temperature", "Pressure", "Power", "Frequency", "ElectricPotential"}
#: Fields that are lists of plain values on the wire.
LISTS = {"NamedValueList": "map", "StringArray": "strings", "StringSet": "strings", "ByteSeq": "bytes"}
#: Classes of these packages have no owner, no group and no events.
GLOBAL_PACKAGES = ("ome.model.enums", "ome.model.meta")
GLOBAL_CLASSES = {"JobStatus"}
OWNED_META = {"ExternalInfo"}
#: Collections that the server keeps in order (Hibernate lists); all others are sets, served by id.
ORDERED = {
    ("Image", "pixels"),
    ("Pixels", "channels"),
    ("Roi", "shapes"),
    ("Well", "wellSamples"),
    ("PlateAcquisition", "wellSample"),
    ("RenderingDef", "waveRendering"),
    ("ChannelBinding", "spatialDomainEnhancement"),
    ("Fileset", "usedFiles"),
    ("Fileset", "jobLinks"),
    ("Experimenter", "groupExperimenterMap"),
    ("LightPath", "excitationFilterLink"),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a class: a value, a reference to one object, or a collection seen from its inverse."""

    name: str
    #: ``value``, ``unit``, ``ref``, ``collection``, ``map``, ``strings`` or ``bytes``
    kind: str
    #: the class referred to or collected, the unit class, or the Ice type of a value (``RString``)
    type: str
    required: bool = False
    #: of a collection: the members' field that points back
    inverse: str = ""
    ordered: bool = False
    #: name of the attribute on the omero.model object
    slot: str = ""


@dataclass(slots=True, eq=False, repr=False)
class ModelClass:
    """One class of the model; ``fields`` includes the inherited ones."""

    name: str
    java: str
    parent: ModelClass | None
    fields: dict[str, Field] = field(default_factory=dict)
    children: list[ModelClass] = field(default_factory=list)
    factory: Any = None

    def __repr__(self) -> str:
        return f"<{self.java}>"

    @property
    def root(self) -> ModelClass:
        """The top of the hierarchy; ids are unique below it (all annotations share one sequence)."""
        return self if self.parent is None else self.parent.root

    @property
    def abstract(self) -> bool:
        """Whether there are objects of its subclasses only (Annotation, Shape, Job, ...)."""
        return self.factory is None

    @property
    def owned(self) -> bool:
        """Whether objects of it have owner, group and events."""
        if self.name in OWNED_META or "AnnotationLink" in self.name:
            return True
        return not self.java.startswith(GLOBAL_PACKAGES) and self.name not in GLOBAL_CLASSES

    @property
    def is_link(self) -> bool:
        """Whether it joins a ``parent`` with a ``child``."""
        return self.name.endswith("Link") and "parent" in self.fields and "child" in self.fields

    @property
    def is_enum(self) -> bool:
        """Whether it is an enumeration: found by ``value``."""
        return self.java.startswith("ome.model.enums.") or self.name == "JobStatus"

    def is_a(self, name: str) -> bool:
        """Whether it is the class of that name or inherits from it."""
        return self.name == name or (self.parent is not None and self.parent.is_a(name))

    def concrete(self) -> list[ModelClass]:
        """Itself and all classes below it that can have objects."""
        own = [] if self.abstract else [self]
        return own + [one for child in self.children for one in child.concrete()]

    def new(self, identifier: int | None = None, loaded: bool = True) -> Any:
        """An omero.model object of this class."""
        return self.factory(identifier, loaded)


class Schema:
    """All classes, found by any name that clients use for them."""

    def __init__(self, classes: dict[str, ModelClass]) -> None:
        self.classes = classes
        self._by_java = {one.java: one for one in classes.values()}

    def __getitem__(self, name: str) -> ModelClass:
        return self.classes[name]

    def find(self, name: str) -> ModelClass | None:
        """By ``Image``, ``ImageI``, ``omero.model.Image`` or ``ome.model.core.Image``; None if there is no such."""
        if name in self._by_java:
            return self._by_java[name]
        short = name.removeprefix("::").replace("::", ".").removeprefix("omero.model.")
        return self.classes.get(short) or (self.classes.get(short[:-1]) if short.endswith("I") else None)

    def of(self, thing: Any) -> ModelClass:
        """The class of an omero.model object."""
        return self.classes[type(thing).ice_staticId().removeprefix("::omero::model::")]


def _wire_fields(text: str, name: str) -> tuple[str, list[tuple[str, str]]]:
    """(name of the parent class, [(attribute, Ice type)]) as the stub's ``defineClass`` declares them."""
    start = text.index(f"IcePy.defineClass('::omero::model::{name}',")
    body = text[start : text.index("_ice_type =", start)]
    parent = re.search(r"(?:True|False), (?:True|False), (?:_M_omero\.model\._t_(\w+)|None),", body)
    return (parent and parent[1]) or "", re.findall(r"\('(_\w+)', \(\), [\w.]*?_t_(\w+),", body)


def _inverse(source: str, slot: str) -> str:
    """The field of a collection's members that points back, as the class's ``add…`` method sets it."""
    found = re.search(rf"self\.{slot}\.append\( target \);\s+target\.set(\w+)\( self \)", source)
    return "parent" if found is None else found[1][0].lower() + found[1][1:]


def _fields(name: str, factory: Any, wire: list[tuple[str, str]], source: str, text: str) -> dict[str, Field]:
    answer: dict[str, Field] = {}
    information = getattr(factory, "_field_info", None)
    for slot, kind in wire:
        field_name = slot[1:]
        if slot.endswith(("Loaded", "CountPerOwner")) or field_name == "version":
            continue
        known = getattr(information, field_name.removesuffix("Seq"), None)
        required = known is not None and not known.nullable
        if slot.endswith("Seq") and f"_t_{kind} =" in text:
            member = re.search(rf"_t_{kind} = IcePy\.defineSequence\('[\w:]+', \(\), _M_omero\.model\._t_(\w+)\)", text)
            assert member is not None, (name, slot)
            field_name = field_name.removesuffix("Seq")
            inverse = _inverse(source, slot)
            answer[field_name] = Field(
                field_name, "collection", member[1], False, inverse, (name, field_name) in ORDERED, slot
            )
        elif kind in SCALARS:
            answer[field_name] = Field(field_name, "value", kind, required, slot=slot)
        elif kind in UNITS:
            answer[field_name] = Field(field_name, "unit", kind, required, slot=slot)
        elif kind in LISTS:
            answer[field_name] = Field(field_name, LISTS[kind], kind, required, slot=slot)
        else:
            answer[field_name] = Field(field_name, "ref", kind, required, slot=slot)
    return answer


@cache
def schema() -> Schema:
    """The whole model. Takes half a second, once."""
    folder = Path(omero_model_ImageI.__file__).parent
    parents: dict[str, str] = {}
    classes: dict[str, ModelClass] = {}
    for path in sorted(folder.glob("omero_model_*I.py")):
        name = path.name[len("omero_model_") : -len("I.py")]
        stub = folder / f"omero_model_{name}_ice.py"
        source = path.read_text()
        java = re.search(rf'"(ome\.model\.\w+\.{name})_\w+"', source)
        text = stub.read_text() if stub.exists() else ""
        if "'::omero::model::IObject'" not in text:
            continue  # Details, Permissions, units: not objects of their own
        factory = getattr(omero.model, name + "I", None)  # abstract classes are not offered
        parents[name], wire = _wire_fields(text, name)
        classes[name] = ModelClass(
            name, java[1] if java else "", None, _fields(name, factory, wire, source, text), factory=factory
        )
    for name, one in classes.items():
        parent = classes.get(parents[name])
        if parent is not None:
            one.parent = parent
            parent.children.append(one)

    def inherit(one: ModelClass) -> None:
        for child in one.children:
            information = getattr(child.factory, "_field_info", None)
            for name, known in one.fields.items():  # only subclasses show what may be null
                nullable = getattr(getattr(information, name, None), "nullable", True)
                child.fields[name] = replace(known, required=not nullable)
            inherit(child)

    for one in classes.values():
        if one.parent is None:
            inherit(one)
    for one in classes.values():
        if not one.java:  # an abstract class has the package of its subclasses
            heir = next(leaf for leaf in one.concrete() if leaf.java)
            one.java = f"{heir.java.rpartition('.')[0]}.{one.name}"
    return Schema(classes)
