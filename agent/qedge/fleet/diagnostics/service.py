"""A look at the box for an operator elsewhere: the command `doctor`, and bundles for the command `diagnostics`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from qedge.base.clock import Clock
from qedge.fleet.commands.kinds.kind import Kind
from qedge.fleet.commands.ports import Progress
from qedge.fleet.diagnostics.bundle import write_bundle
from qedge.fleet.diagnostics.checks import examine
from qedge.fleet.diagnostics.collection import gather, secrets_of, service_log
from qedge.fleet.diagnostics.inspection import inspect
from qedge.fleet.diagnostics.model import BoxSettings
from qedge.wire.commands import CommandRequest, OperatorRole
from qedge.wire.diagnostics import DoctorReport
from qedge.wire.node import NodeStatus
from qedge.wire.trust import IdentityView

_FOLDER: Final = "diagnostics"
_KEPT: Final = 5


class BoxLook:
    """Looks at the box that the daemon runs on.

    `settings` says where the box keeps its things, `told` what the daemon says of itself, by file name. Bundles stay in
    the folder `diagnostics` of the state folder, the newest few of them.
    """

    def __init__(
        self,
        version: str,
        clock: Clock,
        *,
        settings: Callable[[], BoxSettings],
        status: Callable[[], NodeStatus],
        identity: Callable[[], IdentityView],
        told: Callable[[], Awaitable[Mapping[str, str]]],
    ) -> None:
        self._version = version
        self._clock = clock
        self._settings = settings
        self._status = status
        self._identity = identity
        self._told = told

    async def examine(self) -> DoctorReport:
        """Look, and say what is wrong."""
        return await asyncio.to_thread(self._examine, self._status(), self._identity())

    async def collect(self) -> bytes:
        """Write a bundle and return it (tar.gz); raises `diagnostics.unwritable`."""
        report, told = await self.examine(), await self._told()
        return await asyncio.to_thread(self._collect, report, told)

    def _examine(self, status: NodeStatus, identity: IdentityView) -> DoctorReport:
        settings, utc_ns = self._settings(), self._clock.utc_ns()
        facts = inspect(settings, utc_ns, status, identity, "")
        return DoctorReport(status.node, self._version, utc_ns, True, examine(settings, facts))

    def _collect(self, report: DoctorReport, told: Mapping[str, str]) -> bytes:
        settings = self._settings()
        folder = Path(settings.state_dir) / _FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / f"{report.utc_ns}.tar.gz"
        files = gather(settings, report, told, service_log())
        write_bundle(target, files, secrets_of(settings), report.utc_ns)
        for old in sorted(folder.glob("*.tar.gz"))[:-_KEPT]:
            old.unlink(missing_ok=True)
        return target.read_bytes()


class Doctor(Kind):
    """`doctor`: what is wrong with the box, and how to mend it."""

    kind = "doctor"
    lane = "looking"
    role = OperatorRole.VIEWER
    time_limit_s = 60.0
    answers = DoctorReport

    def __init__(self, look: BoxLook) -> None:
        self._look = look

    async def run(self, _request: CommandRequest, _progress: Progress) -> DoctorReport:
        """Look."""
        return await self._look.examine()
