"""Settings that follow their files: a process that runs for months takes up a change without a restart."""

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
    """The settings in force. A change that is invalid is logged once, and the old settings stay in force.

    Parameters
    ----------
    check
        Called with settings before they come into force; a ConfigError that it raises makes them invalid.
    default
        In force where the files are invalid from the start; without it that raises ConfigError.
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
            log.error("the configuration is invalid, so defaults are used: %s", _one_line(error))
            self.settings = default

    def refresh(self) -> bool:
        """Read the files again if one has changed; returns whether other settings are in force now."""
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
            log.error(
                "the changed configuration is invalid, so the settings before it stay in force: %s", _one_line(error)
            )
            return False
        if loaded == self.settings:
            return False
        self.settings = loaded
        return True


def _one_line(error: ConfigError) -> str:
    return "; ".join(str(error).splitlines())
