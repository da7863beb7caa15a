"""IRepositoryInfo: how much room the data takes and has."""

from __future__ import annotations

import shutil

import omero
import omero.clients

from omero_stand_in.context import Call
from omero_stand_in.servant import Service


class RepositoryInfoService(Service):
    """Figures of the disk that holds the data folder."""

    interface = omero.api.IRepositoryInfo

    def getUsedSpaceInKilobytes(self, call: Call) -> int:
        """Used on that disk."""
        return shutil.disk_usage(self.server.data).used // 1024

    def getFreeSpaceInKilobytes(self, call: Call) -> int:
        """Free on that disk."""
        return shutil.disk_usage(self.server.data).free // 1024

    def getUsageFraction(self, call: Call) -> float:
        """Used as a part of the whole."""
        usage = shutil.disk_usage(self.server.data)
        return usage.used / usage.total

    def sanityCheckRepository(self, call: Call) -> None:
        """Nothing to check: every file is named by its row's id."""
