"""What local tools (thin-edge.io, Home Assistant) may have this node do, put together with the daemon.

Nothing they say is signed. So they see no secrets, upload to one configured place, and install only what was put on the
box and is signed by a release key.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from qedge import __version__
from qedge.base.clock import Clock
from qedge.base.service import Service
from qedge.daemon.fleet.configuration import Running, rows_of
from qedge.daemon.fleet.doors import LogKeeper
from qedge.daemon.peers import Tools
from qedge.fleet.commands.kinds.looking import LogBuffer
from qedge.fleet.home_assistant.ports import SoftwareView
from qedge.fleet.thin_edge.commands import LocalCommand
from qedge.fleet.thin_edge.config import ThinEdgeConfig
from qedge.fleet.thin_edge.files import FileTransfer
from qedge.fleet.thin_edge.mapping import Json
from qedge.fleet.thin_edge.operations import (
    SoftwareList,
    SoftwareUpdateHere,
    Upload,
    select_lines,
    wanted_text,
)
from qedge.fleet.thin_edge.ports import LocalOperation
from qedge.fleet.update.disk import Disk
from qedge.fleet.update.machine import platform_name, python_version
from qedge.fleet.update.model import Layout
from qedge.fleet.update.offers import Offers
from qedge.fleet.update.service import KIND, SoftwareUpdateExecutor
from qedge.wire.command_kinds import LogAsk
from qedge.wire.commands import CommandRequest
from qedge.wire.update import SoftwareUpdate

_HOUR_NS: Final = 3600 * 10**9
_ALL_LINES: Final = 2000


class OfferedUpdate:
    """Installs bundles that are offered on the box; fills `Software` of the Home Assistant adapter."""

    def __init__(
        self,
        layout: Layout,
        fleet: str,
        node: str,
        *,
        clock: Clock,
        stopping: Callable[[], bool],
        version: str = __version__,
    ) -> None:
        """`stopping` says whether the daemon ends; the next one goes on with what this one began."""
        python, platform = python_version(), platform_name()
        self.executor = SoftwareUpdateExecutor(
            layout, version=version, python=python, platform=platform, clock=clock, stopping=stopping
        )
        self._offers = Offers(layout.offered, current=version, python=python, platform=platform)
        self._disk = Disk(layout)
        self._fleet = fleet
        self._node = node
        self._clock = clock
        self._version = version
        self._installing = False

    async def look(self) -> SoftwareView:
        """Look at what is offered and under way."""
        offers, journal = await asyncio.to_thread(lambda: (self._offers.all(), self._disk.read_journal()))
        latest = offers[-1].version if offers else self._version
        return SoftwareView(self._version, latest, self._installing or journal is not None)

    async def install(self) -> None:
        """Install the newest."""
        await self.install_version("", f"install {self._clock.utc_ns()}")

    async def install_version(self, version: str, mark: str) -> None:
        """Install a version (empty: the newest); after a restart, with the same mark, go on or say how it ended.

        Raises `update.*`.
        """
        request = self._request(mark, b"")
        found = await self.executor.recover(request)
        if not found.go_on:
            return
        order = await asyncio.to_thread(self._order, version, request.id)
        request = self._request(mark, msgspec.msgpack.encode(order))
        self.executor.check(request)
        self._installing = True
        try:
            await self.executor.run(request, _silent)
        finally:
            self._installing = False

    def _order(self, version: str, request_id: str) -> SoftwareUpdate:
        """Return what to install; of an update under way only that is known, and nothing more is needed."""
        journal = self._disk.read_journal()
        if journal is not None and journal.id == request_id:
            return SoftwareUpdate(journal.version or self._version, f"/{journal.bundle}", journal.sha256, 1)
        return self._offers.order(version)

    def _request(self, mark: str, arguments: bytes) -> CommandRequest:
        utc_ns = self._clock.utc_ns()
        return CommandRequest(
            _id_of(mark), self._fleet, self._node, KIND, 1, utc_ns, utc_ns + _HOUR_NS, arguments, note="by a local tool"
        )


class RestartHere:
    """Implements `LocalOperation`: local tools restart the service. To be here again is to have succeeded."""

    kind = "restart"
    about: Mapping[str, Json] = {}
    time_limit_s = 120.0

    def __init__(self, restart: Callable[[], None]) -> None:
        self._restart = restart

    async def run(self, command: LocalCommand) -> Mapping[str, Json]:
        """Ask for it; never returns."""
        self._restart()
        never: Awaitable[None] = asyncio.get_running_loop().create_future()
        await never
        return {}

    async def recover(self, command: LocalCommand) -> Mapping[str, Json] | None:
        """Say that it has restarted."""
        return {}


def offered_update(tools: Tools, stopping: Callable[[], bool]) -> OfferedUpdate:
    """Make what installs offered bundles on this box."""
    layout = Layout(state=Path(tools.config.node.state_dir))
    return OfferedUpdate(layout, tools.identity.fleet, tools.identity.node, clock=tools.clock, stopping=stopping)


def make_operations(
    config: ThinEdgeConfig, running: Running, update: OfferedUpdate
) -> tuple[list[LocalOperation], list[Service]]:
    """Make what thin-edge.io may have done, as far as the configuration permits, and the services that this takes."""
    keeper, transfer = LogKeeper(), FileTransfer(config.files)
    service = f"{config.device}-{config.service}"
    made: list[LocalOperation] = [
        RestartHere(running.restart),
        Upload("config_snapshot", service, transfer, partial(_settings, running)),
        Upload("log_upload", service, transfer, partial(_log, keeper.buffer)),
        SoftwareList(__version__),
        SoftwareUpdateHere(update.install_version, update.executor.time_limit_s),
    ]
    operations = [each for each in made if each.kind in config.commands]
    return operations, [keeper] if "log_upload" in config.commands else []


async def _settings(running: Running, _command: LocalCommand) -> bytes:
    """Write down all effective settings, without secrets, with where each was set."""
    loaded = running.loaded()
    document = {"files": loaded.files, "settings": rows_of(loaded)}
    return msgspec.json.format(msgspec.json.encode(document))


async def _log(buffer: LogBuffer, command: LocalCommand) -> bytes:
    """Write down the newest lines of the log that the command wants; they were scrubbed as they were written."""
    fields = command.fields
    # Dates choose among all lines that are kept, so the number that is wanted is applied after them.
    return select_lines(buffer.select(LogAsk(_ALL_LINES, contains=wanted_text(fields))).lines, fields)


def _id_of(mark: str) -> str:
    """Return an id of the form of a UUID of version 7 that is always the same for a mark."""
    number = int.from_bytes(hashlib.sha256(mark.encode()).digest()[:16], "big")
    number = number & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return str(uuid.UUID(int=number))


async def _silent(_step: str, _share: float) -> None:
    """Tell nobody of steps: local tools know none."""
