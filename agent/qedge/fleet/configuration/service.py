"""Configuration of the fleet at work: stages, tries, keeps or undoes it, and tells where the node drifted from it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.fleet.configuration import stages
from qedge.fleet.configuration.config import ConfigurationConfig
from qedge.fleet.configuration.files import ConfigurationFiles
from qedge.fleet.configuration.gate import HealthGate, complaints
from qedge.fleet.configuration.model import ConfigurationBook, ConfigurationChange, ConfigurationLayer
from qedge.fleet.configuration.ports import NodeSettings
from qedge.fleet.configuration.settings import drifted, section_digests, settings_digest, zip_rows
from qedge.wire.configuration import (
    ConfigurationApply,
    ConfigurationOutcome,
    ConfigurationRollback,
    ConfigurationSnapshot,
    ConfigurationStage,
    ConfigurationStep,
    ConfigurationView,
    SettingList,
    StagedConfiguration,
)

_LOG: Final = get_logger("configuration")
_LOOK_S: Final = 0.2
_MAX_ZIPPED: Final = 120 * 1024


class ConfigurationService:
    """One change at a time; each step is on the disk before the next begins, so that any of them can be the last.

    A change goes on by itself once it has begun, whoever asked for it: its end does not hang on a command or a client.
    """

    name = "configuration"

    def __init__(
        self,
        config: ConfigurationConfig,
        files: ConfigurationFiles,
        node: NodeSettings,
        *,
        clock: Clock,
        metrics: Metrics,
        look_s: float = _LOOK_S,
    ) -> None:
        self._config = config
        self._files = files
        self._node = node
        self._clock = clock
        self._metrics = metrics
        self._look_s = look_s
        self._book = ConfigurationBook()
        with contextlib.suppress(OSError):  # which `run` raises
            self._book = files.read()  # so that nobody ever sees a change that is under way as over
        self._loaded = asyncio.Event()
        self._lock = asyncio.Lock()
        self._begun = asyncio.Event()
        self._over = asyncio.Event()
        self._abandoned = ""
        self._moving: set[asyncio.Task[None]] = set()
        self._returning = False
        self._drift: tuple[str, ...] = ()
        self.on_change: Callable[[], None] = lambda: None
        """Called when another layer may be in force."""

    async def run(self, ready: Ready) -> None:
        """End the change that a restart left under way, then carry out changes and look for drift until cancelled."""
        self._book = await asyncio.to_thread(self._files.read)
        self._returning = False
        self._loaded.set()
        self._tell()
        ready()
        while True:
            self._begun.clear()
            if self._book.change is not None:
                await self._carry_out()
            elif await self._fell_behind():
                await self._return_to(self._book.in_force)
            await self._look_for_drift()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.drift_interval_s):
                    await self._begun.wait()

    async def stage(self, wanted: ConfigurationStage) -> StagedConfiguration:
        """Check a layer and keep it; raises `configuration.rejected`, `configuration.stale`."""
        await self._loaded.wait()
        layer = ConfigurationLayer.of(wanted.serial, wanted.text)
        if wanted.sha256 not in ("", layer.sha256):
            raise QedgeError(
                "configuration.rejected", "The text of the layer has another digest.", fix="Send it again."
            )
        stages.stage(self._book, layer)  # a serial that is over is refused before drivers are asked
        candidate = await self._node.check(layer.text)
        await self._move(lambda book: stages.stage(book, layer))
        _LOG.info("configuration.staged", serial=layer.serial, sha256=layer.sha256)
        return StagedConfiguration(layer.serial, layer.sha256, candidate.changed, candidate.restart)

    async def begin(self, wanted: ConfigurationApply, command: str = "") -> None:
        """Begin to put the staged layer into force; it is on the disk when this returns. Raises `configuration.*`."""
        await self._loaded.wait()
        staged = self._book.staged
        begin = self._beginning(wanted.serial, wanted.health_limit_s, command, sha256=wanted.sha256)
        begin(self._book, ())  # what is refused is refused before drivers are asked
        candidate = await self._node.check(staged.text if staged is not None else None)
        await self._move(lambda book: begin(book, candidate.drivers))
        self._start()

    async def begin_rollback(self, wanted: ConfigurationRollback, command: str = "") -> None:
        """Begin to put back the layer before; it is on the disk when this returns. Raises `configuration.*`."""
        await self._loaded.wait()
        begin = self._beginning(wanted.serial, wanted.health_limit_s, command)
        target = _target(begin(self._book, ()))
        candidate = await self._node.check(target.text if target is not None else None)
        await self._move(lambda book: begin(book, candidate.drivers))
        self._start()

    async def moved(self) -> None:
        """Wait until the change under way has moved, or for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._look_s):
                await self._over.wait()

    async def found(self, command: str) -> ConfigurationOutcome | ConfigurationChange | None:
        """Return what became of the change that a command asked for: its end, or how far it is; None: not known."""
        await self._loaded.wait()
        book = self._book
        if book.change is not None and book.change.command == command:
            return book.change
        return book.last if book.last is not None and book.last.command == command else None

    async def abandon(self, command: str, why: str) -> None:
        """Undo the change of a command that was cancelled; nothing where it is over, or where the daemon stops.

        It may be on its way to the disk, which is not cancelled with the command.
        """
        if self._moving:
            await asyncio.wait(self._moving)
        change = self._book.change
        if change is not None and change.command == command and not self._node.stopping:
            self._abandoned = why
            self._begun.set()

    def view(self) -> ConfigurationView:
        """Describe what is in force, staged and under way."""
        book = self._book
        return ConfigurationView(
            serial=book.in_force.serial if book.in_force is not None else 0,
            sha256=book.in_force.sha256 if book.in_force is not None else "",
            settings_sha256=settings_digest(section_digests(self._node.given())),
            staged=book.staged.serial if book.staged is not None else 0,
            staged_sha256=book.staged.sha256 if book.staged is not None else "",
            highest=book.highest,
            state=self._state(),
            changing=book.change.asked if book.change is not None else 0,
            drift=self._drift,
            undo=len(book.undo),
            last=book.last,
        )

    async def snapshot(self) -> ConfigurationSnapshot:
        """Pack all effective settings for a report; raises `configuration.too_large`."""
        await self._loaded.wait()
        zipped = await asyncio.to_thread(lambda: zip_rows(self._node.rows()))
        if len(zipped) > _MAX_ZIPPED:
            raise QedgeError(
                "configuration.too_large",
                f"The settings take {len(zipped)} bytes, more than a report carries.",
                fix="Read them at the box: `qedge config show --origin`.",
            )
        return ConfigurationSnapshot(self.view(), self._node.files(), zipped)

    async def settings(self) -> SettingList:
        """Return all effective settings."""
        rows = await asyncio.to_thread(self._node.rows)
        return SettingList(self._node.files(), rows, settings_digest(section_digests(self._node.given())))

    def _state(self) -> str:
        if self._book.change is not None:
            return self._book.change.step.value
        return ConfigurationStep.RESTORING.value if self._returning else ""

    def _beginning(
        self, serial: int, limit_s: float, command: str, sha256: str | None = None
    ) -> Callable[[ConfigurationBook, tuple[str, ...]], ConfigurationBook]:
        """Make the step that begins a change, which is taken once to try and once in earnest."""
        config, vitals, utc_ns = self._config, self._node.vitals(), self._clock.utc_ns()

        def begin(book: ConfigurationBook, drivers: tuple[str, ...]) -> ConfigurationBook:
            trial = stages.Trial(
                command=command,
                baseline=vitals.baseline(drivers),
                limit_s=limit_s or config.health_limit_s,
                hold_s=config.health_hold_s,
                max_starts=config.max_starts,
                began_utc_ns=utc_ns,
            )
            if sha256 is None:
                return stages.begin_rollback(book, serial, trial)
            return stages.begin(book, serial, sha256, trial)

        return begin

    def _start(self) -> None:
        self._abandoned = ""
        self._over.clear()
        self._begun.set()

    async def _move(self, step: Callable[[ConfigurationBook], ConfigurationBook]) -> None:
        """Take a step and see it onto the disk; whoever waits for it may be cancelled, the step is not."""

        async def take() -> None:
            async with self._lock:
                book = step(self._book)
                if book != self._book:
                    await asyncio.to_thread(self._files.write, book)
                    self._book = book

        task = asyncio.create_task(take())
        self._moving.add(task)
        task.add_done_callback(self._moving.discard)
        await asyncio.shield(task)
        self._tell()

    async def _carry_out(self) -> None:
        """Bring the change that is under way to its end; every pass takes one step."""
        while (change := self._book.change) is not None:
            if change.step is ConfigurationStep.WRITING:
                await self._write(change)
            elif change.step is ConfigurationStep.TRIAL:
                await self._try(change)
            else:
                await asyncio.to_thread(self._files.write_layer, change.before)
                self._returning = True  # until the daemon runs with it
                await self._move(lambda book: stages.restored(book, self._clock.utc_ns()))
                _LOG.warning("configuration.rolled_back", serial=change.asked, code=change.code, reason=change.reason)
                await self._return_to(change.before)
        self._abandoned = ""
        self._over.set()

    async def _write(self, change: ConfigurationChange) -> None:
        code, why = "configuration.cancelled", self._abandoned
        try:
            if not why:
                await asyncio.to_thread(self._files.write_layer, change.target)
        except OSError as error:
            code, why = "configuration.unwell", f"The layer cannot be written: {error.strerror or error}."
        if why:
            await self._move(lambda book: stages.unwell(book, code, why))
        else:
            await self._move(stages.written)

    async def _return_to(self, layer: ConfigurationLayer | None) -> None:
        """Have the daemon run with the layer that is in force again."""
        self._returning = True
        try:
            await self._take_over(layer)
        except QedgeError as error:  # a file of the box is broken; a restart would not help
            _LOG.error("configuration.not_kept", error=str(error))
        finally:
            self._returning = self._node.stopping  # a restart is a part of it

    async def _try(self, change: ConfigurationChange) -> None:
        try:
            await self._take_over(change.target)
        except QedgeError as error:
            code, reason = error.code, str(error)
            await self._move(lambda book: stages.unwell(book, code, reason))
            return
        code, reason = await self._watch(change)
        if code:
            await self._move(lambda book: stages.unwell(book, code, reason))
            return
        sections = section_digests(self._node.given())
        digest = settings_digest(sections)
        await self._move(lambda book: stages.well(book, sections, digest, self._clock.utc_ns()))
        serial = self._book.in_force.serial if self._book.in_force is not None else 0
        _LOG.info("configuration.applied", serial=serial, asked=change.asked, sha256=digest)

    async def _take_over(self, layer: ConfigurationLayer | None) -> None:
        """Have the daemon run with a layer; where that takes a restart, this never returns. Raises `config.*`."""
        wanted = layer.sha256 if layer is not None else ""
        if self._node.layer_sha256 == wanted and not self._node.restart_due:
            return
        await self._node.take_over()
        if self._node.restart_due:
            _LOG.info("configuration.restarting", serial=layer.serial if layer is not None else 0)
            self._node.restart()
            await asyncio.Event().wait()  # until the stop cancels this

    async def _watch(self, change: ConfigurationChange) -> tuple[str, str]:
        """Watch until the node was well for long enough; returns code and reason where it was not."""
        gate = HealthGate(change.limit_s, change.hold_s, self._clock.now_ns())
        while True:
            if self._abandoned:
                return "configuration.cancelled", self._abandoned
            verdict = gate.look(complaints(self._node.vitals(), change.baseline), self._clock.now_ns())
            if verdict is not None:
                break
            await asyncio.sleep(self._look_s)
        if verdict:
            return "", ""
        found = "; ".join(gate.complaints)
        return "configuration.unwell", f"The node was not well within {change.limit_s:g} s: {found}."

    async def _fell_behind(self) -> bool:
        """Say whether the daemon runs with another layer than the one in force, which lies on the disk as it should."""
        wanted = self._book.in_force.sha256 if self._book.in_force is not None else ""
        return self._node.layer_sha256 != wanted and await asyncio.to_thread(self._files.layer_sha256) == wanted

    async def _look_for_drift(self) -> None:
        book = self._book
        layer = await asyncio.to_thread(self._files.layer_sha256)
        found: list[str] = []
        if layer != (book.in_force.sha256 if book.in_force is not None else ""):
            found.append("layer")
        if book.in_force is not None or book.sections:
            found += drifted(book.sections, section_digests(self._node.given()))
        drift = tuple(found)
        if drift != self._drift and drift:
            _LOG.warning("configuration.drifted", serial=self.view().serial, where=list(drift))
        elif drift != self._drift:
            _LOG.info("configuration.agrees", serial=self.view().serial)
        self._drift = drift
        self._tell()

    def _tell(self) -> None:
        in_force = self._book.in_force
        self._metrics.set("qedge_configuration_serial", in_force.serial if in_force is not None else 0)
        self._metrics.set("qedge_configuration_drift", len(self._drift))
        self._metrics.set("qedge_configuration_trial", int(self._book.change is not None))
        self.on_change()


def _target(book: ConfigurationBook) -> ConfigurationLayer | None:
    return book.change.target if book.change is not None else None


def raise_unless_good(outcome: ConfigurationOutcome | None) -> ConfigurationOutcome:
    """Return a change that ended well; raises `configuration.rolled_back` with why it did not."""
    if outcome is None:
        raise QedgeError(
            "configuration.rolled_back",
            "The change is not known any more.",
            fix="See what is in force: `qedge config status`, or `config-snapshot`.",
        )
    if outcome.state != ConfigurationStep.GOOD.value:
        raise QedgeError(
            "configuration.rolled_back",
            f"Serial {outcome.asked} was undone: {outcome.reason}",
            fix="The node runs with the configuration before; stage a better one under a higher serial.",
            cause=outcome.code,
            serial=outcome.serial,
        )
    return outcome
