"""The command `software-update`: fetch the bundle, leave a request for the updater, and tell how it ended.

The daemon itself decides nothing: it may be the one that has to be replaced. It looks at the bundle first only to
refuse early what the updater would refuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import ERROR_CODES, QedgeError
from qedge.base.log import get_logger
from qedge.crypto.durable_file import write_durably
from qedge.fleet.commands.kinds.kind import KindOf
from qedge.fleet.commands.ports import AfterCrash, Progress, Recovered
from qedge.fleet.update.bundle import open_bundle
from qedge.fleet.update.disk import REQUEST, Disk
from qedge.fleet.update.fetching import fetch
from qedge.fleet.update.model import SHARE, Journal, Layout
from qedge.fleet.update.versions import require_fit
from qedge.wire.commands import CommandRequest
from qedge.wire.update import Manifest, Outcome, SoftwareUpdate, SoftwareUpdated, UpdateReport, UpdateRequest

_LOG: Final = get_logger("fleet.update")
KIND: Final = "software-update"
_LOOK_S: Final = 0.5
_PICKED_UP_S: Final = 60.0
"""Time in which the updater has to begin; where no unit waits for requests, it never does."""

_FETCH_SHARE: Final = 0.25
_TELL_STEP: Final = 0.05


class SoftwareUpdateExecutor(KindOf[SoftwareUpdate]):
    """`software-update`: another version of the program, with the way back; the release key is the second person."""

    kind = KIND
    lane = "update"
    after_crash = AfterCrash.CHECK  # the updater restarts the daemon in the middle of the command
    time_limit_s = 4 * 3600.0  # enough for a slow line
    arguments = SoftwareUpdate
    answers = SoftwareUpdated

    def __init__(
        self,
        layout: Layout,
        *,
        version: str,
        python: str,
        platform: str,
        clock: Clock,
        stopping: Callable[[], bool],
    ) -> None:
        """`stopping` says whether the daemon ends; the next one goes on with what this one began."""
        self._layout = layout
        self._disk = Disk(layout)
        self._version = version
        self._python = python
        self._platform = platform
        self._clock = clock
        self._stopping = stopping

    def check(self, request: CommandRequest) -> None:
        """Refuse arguments that cannot be read, and a box that has no updater; touches nothing."""
        self.read(request)
        self._require_updater()

    async def run(self, request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        """Fetch, hand over, wait for the report. Going on after a restart, it fetches and asks for nothing twice."""
        order = self.read(request)
        report = await asyncio.to_thread(self._disk.read_report)
        if report is not None and report.id == request.id:
            return self._end(report)
        journal = await asyncio.to_thread(self._disk.read_journal)
        if journal is None or journal.id != request.id:
            bundle = await self._fetch(order, progress)
            await progress("checking", _FETCH_SHARE)
            await asyncio.to_thread(self._look_into, bundle, order)
            await progress("handed over", _FETCH_SHARE)
            wanted = UpdateRequest(request.id, bundle.name, order.sha256)
            _LOG.info("update.handed_over", version=order.version, sha256=order.sha256)
            asked = asyncio.ensure_future(asyncio.to_thread(self._ask, wanted))
        else:
            asked = asyncio.ensure_future(asyncio.sleep(0))
        try:
            await asyncio.shield(asked)
            return await self._wait(request.id, progress)
        except BaseException:
            if not self._stopping():
                # one that nobody took must not change the box some other day; what the updater has begun goes on
                await asyncio.wait({asked})
                (self._layout.staging / REQUEST).unlink(missing_ok=True)
            raise

    async def recover(self, request: CommandRequest) -> Recovered:
        """Say how it ended where the updater has reported; raises that error where it failed. Else it goes on."""
        report = await asyncio.to_thread(self._disk.read_report)
        if report is None or report.id != request.id:
            return Recovered(go_on=True)
        return Recovered(result=self._end(report))

    def _require_updater(self) -> None:
        self._disk.current_slot()
        if not (self._layout.kept / "bin" / "python").exists():
            raise QedgeError(
                "update.no_updater",
                "No updater is installed on this box.",
                fix="Run `qedge install --systemd` on it, and `systemctl enable --now qedge-update.path`.",
            )

    async def _fetch(self, order: SoftwareUpdate, progress: Progress) -> Path:
        """Fetch, and tell every twentieth part of it."""
        seen = 0.0

        def watch(share: float) -> None:
            nonlocal seen
            seen = share

        await progress("fetching", 0.0)
        fetching = asyncio.create_task(fetch(order, self._layout.staging, watch))
        told = 0.0
        try:
            while not (await asyncio.wait([fetching], timeout=_LOOK_S))[0]:
                if seen >= told + _TELL_STEP:
                    told = seen
                    await progress("fetching", seen * _FETCH_SHARE)
            return fetching.result()
        finally:
            fetching.cancel()

    def _look_into(self, bundle: Path, order: SoftwareUpdate) -> None:
        with bundle.open("rb") as file:
            manifest: Manifest = open_bundle(file).manifest
        if manifest.version != order.version:
            raise QedgeError(
                "update.bad_bundle",
                f"The bundle is of version {manifest.version}, the order of {order.version}.",
                fix="Correct the order.",
            )
        require_fit(manifest, current=self._version, python=self._python, platform=self._platform)

    def _ask(self, request: UpdateRequest) -> None:
        write_durably(self._layout.staging / REQUEST, msgspec.json.encode(request))

    async def _wait(self, order: str, progress: Progress) -> msgspec.Struct:
        """Tell the updater's steps until it reports. This daemon is mostly stopped before."""
        begun_ns, told = self._clock.now_ns(), ""
        while True:
            report, journal = await asyncio.to_thread(self._look)
            if report is not None and report.id == order:
                return self._end(report)
            if journal is not None and journal.id == order:
                begun_ns = self._clock.now_ns()
                if journal.step != told and journal.step in SHARE:
                    told = journal.step
                    await progress(told, SHARE[journal.step])
            elif self._clock.now_ns() - begun_ns > _PICKED_UP_S * 1e9:
                (self._layout.staging / REQUEST).unlink(missing_ok=True)
                raise QedgeError(
                    "update.no_updater",
                    "The updater did not take up the request.",
                    fix="Enable it: `systemctl enable --now qedge-update.path`.",
                )
            await asyncio.sleep(_LOOK_S)

    def _look(self) -> tuple[UpdateReport | None, Journal | None]:
        # The journal first: between the two the updater may have reported and removed it.
        journal = self._disk.read_journal()
        return self._disk.read_report(), journal

    def _end(self, report: UpdateReport) -> SoftwareUpdated:
        _LOG.info("update.ended", version=report.version, outcome=report.outcome, reason=report.reason)
        if report.outcome is Outcome.KEPT:
            return SoftwareUpdated(report.version, report.previous, report.gate_s)
        code = report.code if report.code in ERROR_CODES else "update.rolled_back"
        raise QedgeError(code, report.reason or "The updater gave no reason.", outcome=report.outcome.value)
