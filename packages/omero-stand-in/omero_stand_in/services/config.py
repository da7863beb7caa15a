"""IConfig and ILdap: the server's settings as clients read and change them."""

from __future__ import annotations

import re
import time
from typing import Any

import omero
import omero.clients
from omero.rtypes import rtime

from omero_stand_in import errors
from omero_stand_in.config import DEFAULTS, VERSION, is_public
from omero_stand_in.context import Call
from omero_stand_in.servant import Service


class ConfigService(Service):
    """Settings: those of clients are everybody's to read, the others an administrator's."""

    interface = omero.api.IConfig

    def getVersion(self, call: Call) -> str:
        """The server's version."""
        return VERSION

    def getConfigValue(self, call: Call, key: str) -> str:
        """One setting, empty if it is unknown."""
        if not key:
            return ""
        if not call.is_admin and not is_public(key):
            raise errors.security(f"Cannot read configuration: {key}")
        return self.server.config.values().get(key, "")

    def getConfigValues(self, call: Call, pattern: str) -> dict[str, str]:
        """The settings whose name contains a match and that the caller may read."""
        return {
            key: value
            for key, value in self.server.config.values().items()
            if re.search(pattern, key) and (call.is_admin or is_public(key))
        }

    def getConfigDefaults(self, call: Call) -> dict[str, str]:
        """What holds where nothing was set, for administrators."""
        self._admin(call)
        return dict(DEFAULTS)

    def getClientConfigValues(self, call: Call) -> dict[str, str]:
        """Settings for clients, as they stand."""
        return {key: value for key, value in self.server.config.values().items() if key.startswith("omero.client.")}

    def getClientConfigDefaults(self, call: Call) -> dict[str, str]:
        """Settings for clients where nothing was set."""
        return {key: value for key, value in DEFAULTS.items() if key.startswith("omero.client.")}

    def setConfigValue(self, call: Call, key: str, value: str) -> None:
        """Change a setting, as an administrator."""
        self._admin(call)
        self.server.config.set(key, value)

    def setConfigValueIfEquals(self, call: Call, key: str, value: str, test: str) -> bool:
        """Change a setting if it has the value expected."""
        self._admin(call)
        if self.server.config.values().get(key, "") != (test or ""):
            return False
        self.server.config.set(key, value)
        return True

    def getDatabaseUuid(self, call: Call) -> str:
        """The identity of the server's data."""
        return str(self.server.config.database_uuid)

    def getDatabaseTime(self, call: Call) -> Any:
        """The clock."""
        return rtime(int(time.time() * 1000))

    def getServerTime(self, call: Call) -> Any:
        """The same clock."""
        return self.getDatabaseTime(call)

    def _admin(self, call: Call) -> None:
        if not call.is_admin:
            raise errors.security("You are not authorized to invoke this method.")


class LdapService(Service):
    """There is no directory: it is off."""

    interface = omero.api.ILdap

    def getSetting(self, call: Call) -> bool:
        """Whether logins are checked against a directory."""
        return False
