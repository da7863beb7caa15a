"""The services of a session, by the name that clients use.

Each line names the class that answers; it is imported when it is first requested. A service that is not listed is
refused by name.
"""

from __future__ import annotations

import importlib

from omero_stand_in.servant import Service

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
    "omero.api.ThumbnailStore": "thumbnails:ThumbnailStoreService",
}


def find(name: str) -> type[Service] | None:
    """The class that answers for a service, or None if this server has none."""
    where = TABLE.get(name)
    if where is None:
        return None
    module, _, cls = where.partition(":")
    found: type[Service] = getattr(importlib.import_module(f"{__name__}.{module}"), cls)
    return found
