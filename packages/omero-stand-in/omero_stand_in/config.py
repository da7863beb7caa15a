"""The server's settings: defaults, what the command line set, what administrators changed."""

from __future__ import annotations

import uuid

from .context import ServerContext

#: The version that clients compare with their own; that of the server measured.
VERSION = "5.6.18"

DEFAULTS = {
    "omero.client.browser.thumb_default_size": "96",
    "omero.client.download_as.max_size": "144000000",
    "omero.client.icetransports": "ssl,tcp",
    "omero.client.scripts_to_ignore": (
        "/omero/figure_scripts/Movie_Figure.py,/omero/figure_scripts/Split_View_Figure.py,"
        "/omero/figure_scripts/Thumbnail_Figure.py,/omero/figure_scripts/ROI_Split_Figure.py,"
        "/omero/export_scripts/Make_Movie.py,/omero/import_scripts/Populate_ROI.py"
    ),
    "omero.client.ui.menu.dropdown.colleagues.enabled": "true",
    "omero.client.ui.menu.dropdown.colleagues.label": "Members",
    "omero.client.ui.menu.dropdown.everyone.enabled": "true",
    "omero.client.ui.menu.dropdown.everyone.label": "All Members",
    "omero.client.ui.menu.dropdown.leaders.enabled": "true",
    "omero.client.ui.menu.dropdown.leaders.label": "Owners",
    "omero.client.ui.tree.orphans.description": (
        "This is a virtual container with orphaned images. These images are not linked anywhere. Just drag them to the"
        " selected container."
    ),
    "omero.client.ui.tree.orphans.enabled": "true",
    "omero.client.ui.tree.orphans.name": "Orphaned Images",
    "omero.client.ui.tree.type_order": "tagset,tag,project,dataset,screen,plate,acquisition,image",
    "omero.client.viewer.initial_zoom_level": "0",
    "omero.client.viewer.interpolate_pixels": "true",
    "omero.client.viewer.roi_limit": "2000",
    "omero.client.web.host": "",
    "omero.db.name": "omero",
    "omero.db.pass": "omero",
    "omero.db.user": "omero",
    "omero.mail.config": "false",
    "omero.pixeldata.max_plane_height": "3192",
    "omero.pixeldata.max_plane_width": "3192",
    "omero.policy.binary_access": "+read,+write,+image",
    "omero.qa.feedback": "http://qa.openmicroscopy.org.uk",
    "omero.router.insecure": "",
    "omero.upgrades.url": "",
    "omero.version": VERSION,
}
#: Settings that any user may read.
_PUBLIC = {
    "omero.mail.config",
    "omero.pixeldata.max_plane_height",
    "omero.pixeldata.max_plane_width",
    "omero.policy.binary_access",
    "omero.qa.feedback",
    "omero.router.insecure",
    "omero.upgrades.url",
    "omero.version",
}


def is_public(key: str) -> bool:
    """Whether a plain user may read the setting."""
    return key in _PUBLIC or key.startswith("omero.client.")


class Config:
    """Look-up of settings by name."""

    def __init__(self, server: ServerContext) -> None:
        self.server = server
        given = server.communicator.getProperties().getPropertiesForPrefix("omero.")
        self.given = {key: value for key, value in given.items() if key in DEFAULTS}
        self.given["omero.data.dir"] = str(server.data)
        with server.graph.transaction(server.graph.server()) as tx:
            self.database_uuid = tx.load_value("server", "database uuid")
            if not self.database_uuid:
                self.database_uuid = str(uuid.uuid4())
                tx.store_value("server", "database uuid", self.database_uuid)

    def values(self) -> dict[str, str]:
        """Every setting as it stands."""
        graph = self.server.graph
        with graph.transaction(graph.server()) as tx:
            changed = tx.load_value("server", "config") or {}
        return {**DEFAULTS, **self.given, **changed}

    def set(self, key: str, value: str | None) -> None:
        """Change a setting, or with None or an empty text return to its default."""
        graph = self.server.graph
        with graph.transaction(graph.server()) as tx:
            changed = dict(tx.load_value("server", "config") or {})
            if value:
                changed[key] = value
            else:
                changed.pop(key, None)
            tx.store_value("server", "config", changed)
