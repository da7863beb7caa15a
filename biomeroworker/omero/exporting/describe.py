"""Read the metadata of images and plates from OMERO, with a few bulk queries, into plain values.

No pixels are read here. Objects are identified by id; names are data. HQL leaves out objects that the session may not
read, so "does not exist" and "no permission" look the same, which is OMERO's intention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.domain.summary import first_of
from biomeroworker.domain.units import LENGTHS
from biomeroworker.errors import RequestRejected
from biomeroworker.omero.connection.session import OmeroSession

ObjectType = Literal["Image", "Dataset", "Plate", "Project", "Screen"]
#: Objects that a message names.
_NAMED = 5
TYPES: tuple[ObjectType, ...] = ("Image", "Dataset", "Plate", "Project", "Screen")


@dataclass(frozen=True)
class ChannelInfo:
    """One channel: its name (never empty), its colour as ``RRGGBB``, and the range of its values if known."""

    name: str
    color: str = "FFFFFF"
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class ImageInfo:
    """The metadata of one image that export and import need."""

    id: int
    name: str
    pixels_id: int
    pixel_type: str  #: OMERO's name: int8 … uint32, float, double, bit
    shape: tuple[int, int, int, int, int]  #: TCZYX
    pixel_size: dict[Literal["x", "y", "z"], PhysicalSize] = field(default_factory=dict)
    channels: tuple[ChannelInfo, ...] = ()
    group_id: int = -1


@dataclass(frozen=True)
class Field:
    """One field of view in a well: its place on the plate and its image. Indices count from 0."""

    row: int
    column: int
    index: int
    image: ImageInfo
    acquisition: int | None = None


@dataclass(frozen=True)
class PlateInfo:
    """One plate and its fields, wells in reading order."""

    id: int
    name: str
    fields: tuple[Field, ...]
    #: id and name of each acquisition (a plate's run)
    acquisitions: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Selection:
    """The images and plates of a request's type and ids, in the order of the ids."""

    images: tuple[ImageInfo, ...] = ()
    plates: tuple[PlateInfo, ...] = ()


def wanted(inputs: dict[str, Any]) -> tuple[ObjectType, list[int]]:
    """Type and ids of a request's ``inputs``; raises `RequestRejected` if they are not valid."""
    kind, ids = inputs.get("type"), inputs.get("ids")
    if kind not in TYPES:
        raise RequestRejected(f"{kind!r} is not a type of input; there are {', '.join(TYPES)}")
    if not isinstance(ids, list | tuple) or not ids or not all(isinstance(i, int) and i > 0 for i in ids):
        raise RequestRejected(f"the ids of the {kind.lower()}s to work on must be whole numbers above 0, not {ids!r}")
    return kind, list(dict.fromkeys(ids))


def select(session: OmeroSession, kind: ObjectType, ids: Sequence[int]) -> Selection:
    """The images and plates of these objects; raises `RequestRejected` if an object is not found, or is empty."""
    _all_there(session, kind, ids)
    match kind:
        case "Image":
            images = describe_images(session, ids)
        case "Dataset":
            images = describe_images(session, _children(session, "DatasetImageLink", ids))
        case "Project":
            datasets = _children(session, "ProjectDatasetLink", ids)
            images = describe_images(session, _children(session, "DatasetImageLink", datasets))
        case "Plate":
            return Selection(plates=_plates(session, ids))
        case "Screen":
            plates = _children(session, "ScreenPlateLink", ids)
            if not plates:
                raise RequestRejected(f"there are no plates in screen {_list(ids)}")
            return Selection(plates=_plates(session, plates))
    if not images:
        raise RequestRejected(f"there are no images in {kind.lower()} {_list(ids)}")
    return Selection(images=tuple(images))


def _all_there(session: OmeroSession, kind: ObjectType, ids: Sequence[int]) -> None:
    there = {row[0] for row in session.rows_by_ids(f"select o.id from {kind} o where o.id in (:ids)", ids)}  # noqa: S608
    if missing := [i for i in ids if i not in there]:
        query = f"select o.id, o.name, o.details.group.name from {kind} o where o.id in (:ids)"  # noqa: S608
        elsewhere = {row[0]: (row[1], row[2]) for row in session.rows_by_ids(query, missing, everywhere=True)}
        raise RequestRejected(missing_message(kind, missing, elsewhere, session.user_name, mixed=bool(there)))


def missing_message(
    kind: str, missing: Sequence[int], elsewhere: Mapping[int, tuple[str, str]], user: str, *, mixed: bool
) -> str:
    """Why objects are not in the group of the run, and what to change.

    Parameters
    ----------
    elsewhere
        Name and group of those that the user can see in other groups.
    mixed
        Whether other objects of the request are in the group of the run.
    """
    word = kind.lower()
    problem = f"OMERO has no {word} {_list(missing)} that {user} can see in the group of this run"
    if not elsewhere:
        return problem
    places = [f"{word} {number} ({name}) is in group {group}" for number, (name, group) in sorted(elsewhere.items())]
    where = first_of(places, _NAMED, "; ")
    if mixed or len({group for _, group in elsewhere.values()}) > 1:
        return f"{problem}; {where}: choose {word}s of one group, and start the run from there"
    return f"{problem}; {where}: start the run from there"


def _children(session: OmeroSession, link: str, parents: Sequence[int]) -> list[int]:
    """Ids of the children, in the order of their parents and then by id, each once."""
    query = f"select l.parent.id, l.child.id from {link} l where l.parent.id in (:ids)"  # noqa: S608
    rank = {parent: position for position, parent in enumerate(parents)}
    rows = sorted(session.rows_by_ids(query, parents), key=lambda row: (rank[row[0]], row[1]))
    return list(dict.fromkeys(row[1] for row in rows))


def describe_images(session: OmeroSession, ids: Sequence[int]) -> list[ImageInfo]:
    """The images with these ids, in their order; raises `RequestRejected` for an image without pixels."""
    found = session.query_by_ids(
        "select p from Pixels p join fetch p.image as i join fetch p.pixelsType as t"
        " left outer join fetch p.channels as c left outer join fetch c.logicalChannel as lc"
        " left outer join fetch c.statsInfo as s where i.id in (:ids)",
        ids,
    )
    by_image: dict[int, ImageInfo] = {}
    for pixels in sorted(found, key=lambda p: int(p.id.val)):
        info = image_info(pixels)
        by_image.setdefault(info.id, info)  # an image may have several pixels; the first is the primary one
    if missing := [i for i in dict.fromkeys(ids) if i not in by_image]:
        names = session.rows_by_ids("select i.id, i.name from Image i where i.id in (:ids)", missing[:_NAMED])
        named = ", ".join(f"{number} ({name})" for number, name in sorted(names)) or _list(missing[:_NAMED])
        raise RequestRejected(f"image {named} has no pixels: its import did not finish; choose other images")
    return [by_image[i] for i in dict.fromkeys(ids)]


def image_info(pixels: Any) -> ImageInfo:
    """The plain values of a loaded Pixels object."""
    shape = tuple(int(getattr(pixels, f"size{axis}").val) for axis in "TCZYX")
    sizes: dict[Literal["x", "y", "z"], PhysicalSize] = {}
    axes: tuple[Literal["x", "y", "z"], ...] = ("x", "y", "z")
    for axis in axes:
        if (size := physical_size(getattr(pixels, f"physicalSize{axis.upper()}"))) is not None:
            sizes[axis] = size
    return ImageInfo(
        id=pixels.image.id.val,
        name=_text(pixels.image.name),
        pixels_id=pixels.id.val,
        pixel_type=pixels.pixelsType.value.val,
        shape=shape,  # type: ignore[arg-type]
        pixel_size=sizes,
        channels=tuple(_channel(channel, number) for number, channel in enumerate(pixels.copyChannels())),
        group_id=pixels.details.group.id.val if pixels.details and pixels.details.group else -1,
    )


def physical_size(length: Any) -> PhysicalSize | None:
    """An OMERO length with its unit in NGFF; None for units without a physical length (``PIXEL``) and for 0."""
    if length is None or length.getValue() is None or not length.getValue() > 0:
        return None
    unit = str(length.getUnit()).lower()
    return PhysicalSize(value=length.getValue(), unit=unit) if unit in LENGTHS else None


def _channel(channel: Any, number: int) -> ChannelInfo:
    logical, stats = channel.logicalChannel, channel.statsInfo
    name = _text(logical.name) if logical is not None and logical.isLoaded() else ""
    wave = logical.emissionWave if logical is not None and logical.isLoaded() else None
    if not name and wave is not None:
        name = f"{wave.getValue():g}"
    color = "FFFFFF"
    if None not in (channel.red, channel.green, channel.blue):
        color = "".join(f"{max(0, min(255, part.val)):02X}" for part in (channel.red, channel.green, channel.blue))
    limits = None
    if stats is not None and stats.isLoaded():
        limits = (float(stats.globalMin.val), float(stats.globalMax.val))
    return ChannelInfo(name or str(number), color, limits)


def _plates(session: OmeroSession, ids: Sequence[int]) -> tuple[PlateInfo, ...]:
    names = dict(session.rows_by_ids("select p.id, p.name from Plate p where p.id in (:ids)", ids))
    samples = session.query_by_ids(
        "select s from WellSample s join fetch s.well as w join fetch s.image as i"
        " left outer join fetch s.plateAcquisition as a where w.plate.id in (:ids)",
        ids,
    )
    runs = session.rows_by_ids(
        "select a.plate.id, a.id, a.name from PlateAcquisition a where a.plate.id in (:ids)", ids
    )
    infos = {i.id: i for i in describe_images(session, [s.image.id.val for s in samples])} if samples else {}
    plates = []
    for plate in ids:
        mine = [s for s in samples if s.well.plate.id.val == plate]
        if not mine:
            raise RequestRejected(f"there are no images in plate {plate}")
        acquisitions = tuple(sorted((row[1], row[2] or f"Run {row[1]}") for row in runs if row[0] == plate))
        plates.append(PlateInfo(plate, names.get(plate) or "", _fields(mine, infos), acquisitions))
    return tuple(plates)


def _fields(samples: Sequence[Any], infos: dict[int, ImageInfo]) -> tuple[Field, ...]:
    """Fields numbered within their well by id, which is the order in which they were imported."""
    ordered = sorted(samples, key=lambda s: (s.well.row.val, s.well.column.val, s.id.val))
    count: dict[tuple[int, int], int] = {}
    fields = []
    for sample in ordered:
        place = (sample.well.row.val, sample.well.column.val)
        index = count[place] = count.get(place, -1) + 1
        run = sample.plateAcquisition.id.val if sample.plateAcquisition is not None else None
        fields.append(Field(*place, index, infos[sample.image.id.val], run))
    return tuple(fields)


def _text(value: Any) -> str:
    return value.val if value is not None and value.val else ""


def _list(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))
