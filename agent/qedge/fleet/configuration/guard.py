"""What is looked at before the daemon reads its configuration: a box comes back, whatever the fleet sent it.

It runs before everything else of the daemon, so it needs nothing but the files and the wall clock.
"""

from __future__ import annotations

from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.fleet.configuration.files import ConfigurationFiles
from qedge.fleet.configuration.model import ConfigurationBook
from qedge.fleet.configuration.stages import restored, started, unwell, written
from qedge.wire.configuration import ConfigurationStep

_LOG: Final = get_logger("configuration")


class StartGuard:
    """Counts starts during a trial and goes back to the layer before where there were too many."""

    def __init__(self, files: ConfigurationFiles, clock: Clock) -> None:
        self._files = files
        self._clock = clock

    def begin(self) -> None:
        """Note a start and bring the file of the layer to where the book says; raises `OSError`."""
        book = self._files.read()
        if book.change is None:
            return
        counted = started(book)
        if counted != book:
            self._files.write(counted)
        self._go_on(counted)

    def undo(self, error: QedgeError) -> bool:
        """Go back where a start failed during a trial; False: there is nothing to go back from. Raises `OSError`."""
        book = self._files.read()
        change = book.change
        if change is None or change.step is not ConfigurationStep.TRIAL:
            return False
        book = unwell(book, error.code, str(error))
        self._files.write(book)
        self._go_on(book)
        return True

    def _go_on(self, book: ConfigurationBook) -> None:
        change = book.change
        if change is None:
            return
        self._files.write_layer(book.wanted)
        if change.step is ConfigurationStep.WRITING:
            self._files.write(written(book))
        elif change.step is ConfigurationStep.RESTORING:
            over = restored(book, self._clock.utc_ns())
            self._files.write(over)
            _LOG.warning("configuration.rolled_back", serial=change.asked, code=change.code, reason=change.reason)
