"""IRoi: the regions of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import omero
import omero.api
import omero.clients

from omero_stand_in.context import Call
from omero_stand_in.graph.entity import Entity

from .graph_service import GraphService

if TYPE_CHECKING:
    from omero_stand_in.graph.transaction import Transaction


class RoiService(GraphService):
    """Regions with their shapes."""

    interface = omero.api.IRoi

    def findByRoi(self, call: Call, identifier: int, options: Any) -> Any:
        with self.transaction(call) as tx:
            found = tx.find("Roi", identifier)
            return _result(tx, [] if found is None else [found], options, folders=False)

    def findByImage(self, call: Call, image: int, options: Any) -> Any:
        with self.transaction(call) as tx:
            return _result(tx, _with_shapes(tx, tx.where("Roi", image=image)), options)

    def findByPlane(self, call: Call, image: int, z: int, t: int, options: Any) -> Any:
        def on_plane(shape: Entity) -> bool:
            return shape.get("theZ") in (None, z) and shape.get("theT") in (None, t)

        with self.transaction(call) as tx:
            rois = [one for one in tx.where("Roi", image=image) if any(map(on_plane, tx.members(one, "shapes")))]
            return _result(tx, rois, options)


def _with_shapes(tx: Transaction, rois: list[Entity]) -> list[Entity]:
    return [one for one in rois if tx.members(one, "shapes")]


def _result(tx: Transaction, rois: list[Entity], options: Any, folders: bool = True) -> Any:
    """The rois that the options leave, loaded, and their shapes by plane."""
    answer = omero.api.RoiResult()
    answer.opts = options
    loader = tx.loader()
    for roi in _chosen(rois, options):
        loader.fetch(roi)
        loader.collect(roi, "shapes")
        if folders:
            loader.collect(roi, "folderLinks")
        for shape in tx.members(roi, "shapes"):
            loader.fetch(shape)
            loader.fetch(tx.target(shape, "transform"))
    answer.rois = [loader.map(roi) for roi in _chosen(rois, options)]
    answer.byZ, answer.byT = {}, {}
    for roi in answer.rois:
        for shape in roi.copyShapes():
            answer.byZ.setdefault(-1 if shape.theZ is None else shape.theZ.val, []).append(shape)
            answer.byT.setdefault(-1 if shape.theT is None else shape.theT.val, []).append(shape)
    return answer


def _chosen(rois: list[Entity], options: Any) -> list[Entity]:
    if options is None:
        return rois
    if options.userId is not None and options.userId.val >= 0:
        rois = [one for one in rois if one.owner == options.userId.val]
    if options.groupId is not None and options.groupId.val >= 0:
        rois = [one for one in rois if one.group == options.groupId.val]
    begin = options.offset.val if options.offset is not None else 0
    return rois[begin:] if options.limit is None else rois[begin : begin + options.limit.val]
