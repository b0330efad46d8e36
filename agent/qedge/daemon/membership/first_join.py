"""A factory-new box joins its fleet by itself: a one-time invitation lies on its image."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from qedge.base.backoff import Backoff
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.service import Ready
from qedge.crypto.joining import MAX_LINE

_LOG: Final = get_logger("daemon")
_FILE: Final = "join.token"
_SYSTEM_FILE: Final = Path("/etc/qedge") / _FILE
_LEAST_S: Final = 0.5
_PAUSE: Final = Backoff(4.0, 120.0)
_FINAL: Final = ("fleet.bad_invitation", "fleet.expired", "fleet.join_refused", "fleet.name_taken", "auth.bad_request")
"""What trying again soon does not change; the clock or the file may still be put right later."""


def token_file(configured: str, environ: Mapping[str, str]) -> Path | None:
    """Return the file with the invitation, where there is one: as configured, systemd's credential, or the image's."""
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    places = [Path(configured)] if configured else [*([Path(folder) / _FILE] if folder else []), _SYSTEM_FILE]
    for place in places:
        try:
            if place.is_file():
                return place
        except OSError:
            continue
    return None


class FirstJoin:
    """Asks until the box is a member, then removes the file. A member never looks at it, so it counts once.

    Where the file cannot be removed (a credential, an image that is read-only) it stays without effect: the fleet
    takes an invitation once, and a box that has a fleet takes none.
    """

    name = "first-join"

    def __init__(
        self,
        file: Path | None,
        join: Callable[[str], Awaitable[object]],
        *,
        standalone: bool,
        uniform: Callable[[], float],
        pause: Backoff = _PAUSE,
        slow_s: float = 600.0,
    ) -> None:
        self._file = file
        self._join = join
        self._standalone = standalone
        self._uniform = uniform
        self._pause = pause
        self._slow_s = slow_s

    async def run(self, ready: Ready) -> None:
        """Join, or find that there is nothing to do."""
        ready()
        if self._file is None:
            return
        if not self._standalone:
            await asyncio.to_thread(_remove, self._file)
            return
        attempt = 0
        while True:
            try:
                line = await asyncio.to_thread(_read, self._file)
                if line is None:
                    return
                await self._join(line)
            except QedgeError as error:
                slow = error.code in _FINAL
                delay_s = self._slow_s if slow else _LEAST_S + self._pause.delay_s(attempt, self._uniform())
                _LOG.warning("daemon.not_joined", code=error.code, error=str(error), delay_s=round(delay_s, 1))
                attempt += 1
                await asyncio.sleep(delay_s)
                continue
            _LOG.info("daemon.joined")
            await asyncio.to_thread(_remove, self._file)
            return


def _read(file: Path) -> str | None:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_LINE + 1).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise QedgeError(
            "fleet.bad_invitation",
            f"The invitation in {file} cannot be read: {error.strerror or error}.",
            fix="Make it readable for the user of the service.",
        ) from error


def _remove(file: Path) -> None:
    """Remove the token; a file that cannot be removed has no effect any more."""
    try:
        file.unlink()
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        _LOG.warning("daemon.token_stays", file=str(file), error=error.strerror or str(error))
