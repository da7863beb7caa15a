"""Settings that are read again when their files change, for processes that run for months."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from biomeroworker.config import Settings
from biomeroworker.config.files import config_files
from biomeroworker.errors import ConfigError

log = logging.getLogger(__name__)


class LiveSettings:
    """The settings in force. An invalid change is logged once, and the previous settings stay in force.

    Parameters
    ----------
    check
        Called with new settings before they come into force; raises ConfigError to reject them.
    default
        The settings to use if the files are invalid at the start. None: raise ConfigError.
    """

    def __init__(
        self,
        path: Path | None = None,
        environ: Mapping[str, str] = os.environ,
        *,
        check: Callable[[Settings], object] = lambda settings: None,
        default: Settings | None = None,
    ) -> None:
        self.check = check
        self._path, self._environ = path, environ
        self.files = config_files(environ, path)
        self._stamp = self.files.stamp()
        self._digest = self.files.digest()
        try:
            self.settings = Settings.load(path, environ)
        except ConfigError as error:
            if default is None:
                raise
            log.error("the configuration is invalid, the defaults are used: %s", _one_line(error))
            self.settings = default

    def refresh(self) -> bool:
        """Read the files again if one has changed. Returns whether the settings in force have changed."""
        stamp = self.files.stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        digest = self.files.digest()
        if digest == self._digest:
            return False
        self._digest = digest
        try:
            loaded = Settings.load(self._path, self._environ)
            self.check(loaded)
        except ConfigError as error:
            log.error("the changed configuration is invalid, the previous settings stay in force: %s", _one_line(error))
            return False
        if loaded == self.settings:
            return False
        self.settings = loaded
        return True


def _one_line(error: ConfigError) -> str:
    return "; ".join(str(error).splitlines())
