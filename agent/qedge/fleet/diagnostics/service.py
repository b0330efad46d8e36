"""The command `diag-collect`: a look at the box and a bundle of diagnostics, for an operator who is elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.fleet.commands.ports import AfterCrash, Progress, Recovered
from qedge.fleet.diagnostics.bundle import write_bundle
from qedge.fleet.diagnostics.checks import examine
from qedge.fleet.diagnostics.collection import gather, read_secrets, service_log
from qedge.fleet.diagnostics.inspection import inspect
from qedge.fleet.diagnostics.model import BoxSettings
from qedge.wire.commands import CommandRequest, OperatorRole
from qedge.wire.diagnostics import CollectDiagnostics, CollectedDiagnostics, DoctorReport
from qedge.wire.node import NodeStatus
from qedge.wire.trust import IdentityView

INLINE_BYTES: Final = 96 * 1024
"""A bundle of at most this size is in the report itself."""

_KEPT: Final = 5
_LIMIT_S: Final = 120.0
_FOLDER: Final = "diagnostics"


class DiagnosticsExecutor:
    """Carries out `diag-collect`.

    `settings` says where the box keeps its things, `told` what the daemon says of itself, by file name. Bundles stay in
    the folder `diagnostics` of the state folder, the newest few of them.
    """

    kind = "diag-collect"
    lane = "diagnostics"
    role = OperatorRole.VIEWER
    after_crash = AfterCrash.RERUN
    two_persons = False
    time_limit_s = _LIMIT_S

    def __init__(
        self,
        version: str,
        clock: Clock,
        *,
        settings: Callable[[], BoxSettings],
        status: Callable[[], NodeStatus],
        identity: Callable[[], Awaitable[IdentityView]],
        told: Callable[[], Awaitable[Mapping[str, str]]],
    ) -> None:
        self._version = version
        self._clock = clock
        self._settings = settings
        self._status = status
        self._identity = identity
        self._told = told

    def check(self, request: CommandRequest) -> None:
        """Raise `command.bad_arguments` where the arguments cannot be read."""
        if not request.arguments:
            return
        try:
            msgspec.msgpack.decode(request.arguments, type=CollectDiagnostics)
        except msgspec.DecodeError as error:
            raise QedgeError(
                "command.bad_arguments",
                f"The arguments of {self.kind} cannot be read: {error}.",
                fix="Send none, or an encoded `collect-diagnostics/1`.",
            ) from error

    async def run(self, request: CommandRequest, progress: Progress) -> CollectedDiagnostics:
        """Look, write the bundle, and return what was found; raises `diagnostics.unwritable`."""
        wanted = (
            msgspec.msgpack.decode(request.arguments, type=CollectDiagnostics)
            if request.arguments
            else CollectDiagnostics()
        )
        await progress("looking at the box", 0.1)
        status, identity, told = self._status(), await self._identity(), await self._told()
        return await asyncio.to_thread(self._collect, request.id, wanted, status, identity, told)

    async def recover(self, request: CommandRequest) -> Recovered:
        """Collect anew."""
        return Recovered(go_on=True)

    def _collect(
        self,
        command_id: str,
        wanted: CollectDiagnostics,
        status: NodeStatus,
        identity: IdentityView,
        told: Mapping[str, str],
    ) -> CollectedDiagnostics:
        settings, utc_ns = self._settings(), self._clock.utc_ns()
        facts = inspect(settings, utc_ns, status, identity, "")
        report = DoctorReport(status.node, self._version, utc_ns, True, examine(settings, facts))
        if wanted.report_only:
            return CollectedDiagnostics(report)
        folder = Path(settings.state_dir) / _FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / f"{command_id}.tar.gz"
        target.unlink(missing_ok=True)  # of a run that the daemon did not outlive
        files = gather(settings, report, told, service_log() if wanted.log else "")
        summary = write_bundle(target, files, read_secrets(settings.secret_files), utc_ns)
        for old in sorted(folder.glob("*.tar.gz"))[:-_KEPT]:
            old.unlink(missing_ok=True)
        content = target.read_bytes() if summary.bytes <= INLINE_BYTES else b""
        return CollectedDiagnostics(report, summary, content)
