"""Commands that change what the box is: its configuration, its program (the updater is played here), and `wipe`."""

from __future__ import annotations

import asyncio
import shutil
import time

import msgspec

from qedge import __version__
from qedge.fleet.update.disk import JOURNAL, REPORT, REQUEST, Disk
from qedge.fleet.update.fake import install
from qedge.fleet.update.machine import platform_name, python_version
from qedge.fleet.update.model import Journal, Layout, Step
from qedge.wire.command_kinds import WipeCommand
from qedge.wire.commands import CommandReport
from qedge.wire.configuration import ConfigurationApply, ConfigurationRollback, ConfigurationStage, ConfigurationView
from qedge.wire.update import Outcome, SoftwareUpdate, SoftwareUpdated, UpdateReport, UpdateRequest
from tests.integration.command_plays import INSTANTS, Play, result_of, until
from tests.integration.halting_daemon import OPT
from tests.integration.kill_stage import NODE, KillStage
from tests.unit.fleet.update.bundles import digest_of, make, make_release_key

VERSION = "99.0.0"


TRIAL = "[fleet.configuration]\nhealth_limit_s = 60.0\nhealth_hold_s = 0.2\n"


class StagePlay(Play):
    kind = "config-stage"

    async def arguments(self) -> msgspec.Struct | None:
        return ConfigurationStage(self.turn, _layer(self.turn))

    async def check(self, report: CommandReport) -> None:
        view = await self.stage.ask(lambda client: client.configuration.show())
        assert (view.staged, view.highest) == (self.turn, self.turn)


class ApplyPlay(Play):
    """The layer takes a restart of the daemon, which is in the middle of the command."""

    kind = "config-apply"
    config = TRIAL
    instants = (*INSTANTS[:5], "exec", *INSTANTS[5:])
    counted = True

    async def arguments(self) -> msgspec.Struct | None:
        text = _layer(self.turn)
        await self.stage.ask(lambda client: client.configuration.stage(self.turn, text))
        return ConfigurationApply(self.turn)

    def effects(self) -> int:
        return self.stage.seen("configuration.applied")

    async def check(self, report: CommandReport) -> None:
        view = await self.stage.ask(lambda client: client.configuration.show())
        assert (view.serial, view.state, view.drift) == (self.turn, "", ())


class RollbackPlay(ApplyPlay):
    kind = "config-rollback"
    before: ConfigurationView

    async def arguments(self) -> msgspec.Struct | None:
        self.before = await self.stage.ask(lambda client: client.configuration.show())
        apply = await super().arguments()
        assert isinstance(apply, ConfigurationApply)
        await self.stage.ask(lambda client: client.configuration.apply(apply))

        async def good() -> bool:
            return (await self.stage.ask(lambda client: client.configuration.show())).serial == self.turn

        await until(good)
        return ConfigurationRollback(self.turn, "a test")

    async def check(self, report: CommandReport) -> None:
        view = await self.stage.ask(lambda client: client.configuration.show())
        assert (view.serial, view.sha256, view.state) == (self.before.serial, self.before.sha256, "")


def _layer(turn: int) -> str:
    return f"[engine]\nqueue_limit = {1000 + turn}\n"


class UpdatePlay(Play):
    """The updater takes the request, leaves its journal for a moment, and reports."""

    kind = "software-update"
    counted = True

    def __init__(self, stage: KillStage) -> None:
        super().__init__(stage)
        self.disk = Disk(Layout(stage.home / OPT, stage.home))
        self.taken: list[str] = []

    async def prepare(self) -> None:
        layout = self.disk.layout
        layout.root.mkdir()
        install(layout.slot("a"), __version__)
        layout.current.symlink_to("a")
        layout.kept.symlink_to("a")
        self.disk.prepare()

    async def arguments(self) -> msgspec.Struct | None:
        work = self.stage.world.folder / f"bundle-{self.turn}"
        bundle = make(work, make_release_key(), VERSION, python=python_version(), platform=platform_name())
        return SoftwareUpdate(VERSION, str(bundle), digest_of(bundle), bundle.stat().st_size)

    def effects(self) -> int:
        return len(self.taken)

    async def world(self) -> None:
        request = self.disk.layout.staging / REQUEST
        while True:
            if request.exists():
                wanted = msgspec.json.decode(request.read_bytes(), type=UpdateRequest)
                self.taken.append(wanted.id)
                self.disk.write_journal(Journal(wanted.id, wanted.bundle, wanted.sha256, "a", "b", Step.TAKEN))
                self.disk.drop_request()
                await asyncio.sleep(0.3)
                self.disk.write_report(
                    UpdateReport(wanted.id, Outcome.KEPT, VERSION, __version__, time.time_ns(), gate_s=1.0)
                )
                self.disk.drop_journal()
            await asyncio.sleep(0.02)

    async def check(self, report: CommandReport) -> None:
        assert result_of(report, SoftwareUpdated).version == VERSION
        assert len(set(self.taken)) == len(self.taken)
        assert not (self.disk.layout.work / JOURNAL).exists()
        assert (self.disk.layout.work / REPORT).exists()


def wipe_order() -> WipeCommand:
    """Order the end of the node."""
    return WipeCommand(NODE, "sold")


def left_of(stage: KillStage) -> set[str]:
    """Return what is left in the folder of the node, but for what the test put there."""
    given = {"agent.toml", "daemon.log", "run", "boot_id", "halt"}
    return {path.name for path in stage.home.iterdir() if path.suffix != ".lock"} - given


async def begin_anew(stage: KillStage) -> None:
    """Give the node its place once more, as a box that was never there."""
    if stage.daemon.is_alive():
        stage.daemon.kill()
    shutil.rmtree(stage.home)
    await stage.open()
