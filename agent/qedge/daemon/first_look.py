"""The configuration as a start finds it: what the fleet gave must not keep the box from coming back."""

from __future__ import annotations

from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.system_clock import SystemClock
from qedge.config import LoadedConfig, load, state_folder
from qedge.fleet.configuration.files import ConfigurationFiles
from qedge.fleet.configuration.guard import StartGuard

_LOG: Final = get_logger("configuration")


class FirstLook:
    """Loads the configuration; `undo` after a failure says whether to try again."""

    def __init__(self, path: str, state_dir: str) -> None:
        self._path = path
        self._state_dir = state_dir
        self._files: ConfigurationFiles | None = None
        self._counted = False

    def load(self) -> LoadedConfig:
        """Count the start where a change is under way, then read everything; raises `config.*`."""
        if self._files is None:
            self._files = ConfigurationFiles(state_folder(self._path, state_dir=self._state_dir))
        if not self._counted:
            try:
                StartGuard(self._files, SystemClock()).begin()
            except OSError as error:
                # The disk is full or cannot be written: what follows tells, and the file of the layer is as it was.
                _LOG.error("configuration.not_kept", error=str(error))
            self._counted = True
        return load(self._path, state_dir=self._state_dir)

    def undo(self, error: QedgeError) -> bool:
        """Go back where a trial failed to start, or set a layer aside without which the configuration has no faults."""
        files = self._files
        if files is None:
            return False
        try:
            if StartGuard(files, SystemClock()).undo(error):
                return True
            if error.code != "config.invalid" or not files.layer_sha256():
                return False
            load(self._path, state_dir=self._state_dir, fleet_layer="")
            files.set_layer_aside()
        except (OSError, QedgeError):
            return False
        _LOG.error("configuration.set_aside", code=error.code, error=str(error))
        return True
