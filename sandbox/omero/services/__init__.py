"""The services that a session can ask for, by the name under which clients ask.

Each line names the class that answers; it is imported when first asked for. A service that is not listed, or whose
module is not there, is refused by name.
"""

from __future__ import annotations

import importlib
import logging

from sandbox.omero.servant import Service

log = logging.getLogger(__name__)

TABLE = {
    # stateless
    "omero.api.IAdmin": "admin:AdminService",
    "omero.api.IConfig": "config:ConfigService",
    "omero.api.IContainer": "container:ContainerService",
    "omero.api.ILdap": "config:LdapService",
    "omero.api.IMetadata": "metadata:MetadataService",
    "omero.api.IPixels": "pixels_metadata:PixelsService",
    "omero.api.IProjection": "exporter:ProjectionService",
    "omero.api.IQuery": "query:QueryService",
    "omero.api.IRenderingSettings": "settings:RenderingSettingsService",
    "omero.api.IRepositoryInfo": "repository:RepositoryInfoService",
    "omero.api.IRoi": "roi:RoiService",
    "omero.api.IScript": "scripts:ScriptService",
    "omero.api.ISession": "session_service:SessionService",
    "omero.api.ITypes": "types:TypesService",
    "omero.api.IUpdate": "update:UpdateService",
    "omero.grid.SharedResources": "resources:SharedResourcesService",
    # stateful
    "omero.api.Exporter": "exporter:ExporterService",
    "omero.api.JobHandle": "jobs:JobHandleService",
    "omero.api.RawFileStore": "files:RawFileStoreService",
    "omero.api.RawPixelsStore": "pixels_raw:RawPixelsStoreService",
    "omero.api.RenderingEngine": "rendering:RenderingEngineService",
    "omero.api.Search": "search:SearchService",
    "omero.api.ThumbnailStore": "thumbnails:ThumbnailStoreService",
}


def find(name: str) -> type[Service] | None:
    """The class that answers for a service, or None if this server has none."""
    where = TABLE.get(name)
    if where is None:
        return None
    module, _, cls = where.partition(":")
    full = f"{__name__}.{module}"
    try:
        return getattr(importlib.import_module(full), cls)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
        log.warning("no module for %s", name)
        return None
    except AttributeError:
        log.warning("%s does not define %s", full, cls)
        return None
