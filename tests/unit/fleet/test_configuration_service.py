"""Claims about trying configurations: every step can be the last one before a crash, and the box comes back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.fleet.commands.ports import AfterCrash
from qedge.fleet.configuration.config import ConfigurationConfig
from qedge.fleet.configuration.executors import ConfigApply, ConfigRollback, ConfigSnapshot, ConfigStage
from qedge.fleet.configuration.files import LAYER_FILE, ConfigurationFiles
from qedge.fleet.configuration.gate import Vitals
from qedge.fleet.configuration.guard import StartGuard
from qedge.fleet.configuration.model import ConfigurationBook, ConfigurationLayer, digest
from qedge.fleet.configuration.ports import Candidate
from qedge.fleet.configuration.service import ConfigurationService
from qedge.wire.commands import CommandRequest
from qedge.wire.configuration import (
    ConfigurationApply,
    ConfigurationOutcome,
    ConfigurationRollback,
    ConfigurationSnapshot,
    ConfigurationStage,
    ConfigurationStep,
    SettingRow,
    StagedConfiguration,
)

CONFIG = ConfigurationConfig(health_limit_s=1.0, health_hold_s=0.0, max_starts=2, drift_interval_s=0.1)


class Killed(BaseException):
    """Power fails here."""


class FakeBox:
    """A daemon whose configuration is one text; `sick` texts leave it unwell, `deadly` ones let no start succeed.

    Texts with `restart` in them need a new start; `invalid` ones have faults.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.files = ConfigurationFiles(folder)
        self.running = ""
        self.edited = "1"
        self.starts = 0
        self.restarts = 0
        self.stopping = False
        self.restarted = asyncio.Event()
        self.restart_due = False

    @property
    def on_disk(self) -> str:
        file = self.folder / LAYER_FILE
        return file.read_text() if file.exists() else ""

    async def check(self, text: str | None) -> Candidate:
        if "invalid" in (text or ""):
            raise QedgeError("configuration.rejected", "layer.toml:1: x: unknown key", key="x")
        return Candidate(("log",), (), ())

    async def take_over(self) -> None:
        if "unreadable" in self.on_disk:
            raise QedgeError("config.invalid", "faults")
        self.restart_due = "restart" in self.on_disk or "restart" in self.running
        self.running = self.on_disk

    @property
    def layer_sha256(self) -> str:
        return digest(self.running) if self.running else ""

    def restart(self) -> None:
        self.restarts += 1
        self.stopping = True
        self.restarted.set()

    def vitals(self) -> Vitals:
        self.clock.advance_s(0.2)
        return Vitals({"web": True}, {"qpu": "sick" not in self.running}, connected=True, pending=self.restart_due)

    def given(self) -> Mapping[str, object]:
        return {"log": {"level": self.edited}, "layer": {"text": self.running}}

    def rows(self) -> tuple[SettingRow, ...]:
        return (SettingRow("log.level", '"info"'),)

    def layers(self) -> tuple[str, ...]:
        return ("agent.toml",)

    def start(self) -> ConfigurationService:
        """Start the daemon as the real one does: the guard first, again and again where it cannot start."""
        while True:
            self.starts += 1
            guard = StartGuard(self.files, self.clock)
            guard.begin()
            self.running, self.restart_due, self.stopping = self.on_disk, False, False
            self.restarted = asyncio.Event()
            if "deadly" not in self.running:
                return ConfigurationService(
                    CONFIG, self.files, Settings(self), clock=self.clock, metrics=Metrics(), look_s=0.001
                )


class Settings:
    """The port of a fake box."""

    def __init__(self, box: FakeBox) -> None:
        self._box = box
        self.check, self.take_over, self.restart = box.check, box.take_over, box.restart
        self.vitals, self.given, self.rows, self.files = box.vitals, box.given, box.rows, box.layers

    @property
    def layer_sha256(self) -> str:
        return self._box.layer_sha256

    @property
    def restart_due(self) -> bool:
        return self._box.restart_due

    @property
    def stopping(self) -> bool:
        return self._box.stopping


@pytest.fixture
def box(tmp_path: Path) -> FakeBox:
    return FakeBox(tmp_path)


async def live(
    box: FakeBox, act: Callable[[ConfigurationService], object] | None = None, until: Callable[[], bool] | None = None
) -> ConfigurationService:
    """Let the box live, over its own restarts, until no change is under way (or until `until`)."""
    while True:
        service = box.start()
        task = asyncio.create_task(service.run(lambda: None))
        try:
            if act is not None:
                acting, act = act, None
                await acting(service)  # type: ignore[misc]
            while not box.restarted.is_set():
                await service.moved()
                if task.done():
                    task.result()
                if until() if until is not None else not service.view().state:
                    return service
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def put(serial: int, text: str) -> Callable[[ConfigurationService], object]:
    async def act(service: ConfigurationService) -> None:
        await service.stage(ConfigurationStage(serial, text))
        await service.begin(ConfigurationApply(serial), f"command-{serial}")

    return act


def outcome(service: ConfigurationService) -> ConfigurationOutcome:
    last = service.view().last
    assert last is not None
    return last


async def test_a_good_layer_is_in_force_and_on_the_disk(box: FakeBox) -> None:
    service = await live(box, put(1, "good"))
    assert (service.view().serial, box.running, box.on_disk, outcome(service).state) == (1, "good", "good", "good")
    service = await live(box, put(2, "good restart"))
    assert (service.view().serial, box.running, box.restarts) == (2, "good restart", 1)


@pytest.mark.parametrize("bad", ["sick", "sick restart", "deadly restart", "unreadable"])
@pytest.mark.parametrize("before", ["", "good", "good restart"])
async def test_a_bad_layer_undoes_itself_the_first_one_too(box: FakeBox, bad: str, before: str) -> None:
    if before:
        await live(box, put(1, before))
    service = await live(box, put(2, bad))
    assert (box.on_disk, box.running) == (before, before)
    assert (outcome(service).state, outcome(service).asked) == ("rolled-back", 2)
    assert service.view().serial == (1 if before else 0)
    assert box.files.read().change is None


async def test_a_layer_with_faults_changes_nothing(box: FakeBox) -> None:
    async def act(service: ConfigurationService) -> None:
        with pytest.raises(QedgeError) as refused:
            await service.stage(ConfigurationStage(1, "invalid"))
        assert refused.value.code == "configuration.rejected"
        with pytest.raises(QedgeError) as refused:
            await service.stage(ConfigurationStage(1, "good", sha256="0" * 64))
        assert refused.value.code == "configuration.rejected"
        with pytest.raises(QedgeError) as refused:
            await service.begin(ConfigurationApply(1))
        assert refused.value.code == "configuration.not_staged"

    service = await live(box, act)
    assert (service.view().highest, box.on_disk) == (0, "")


class Faulty(ConfigurationFiles):
    """Files of a box whose power fails before or after the n-th write."""

    def __init__(self, folder: Path, at: int, *, after: bool) -> None:
        super().__init__(folder)
        self.left = at
        self._after = after

    def _hit(self, act: Callable[[], None]) -> None:
        self.left -= 1
        if self.left == 0 and not self._after:
            raise Killed
        act()
        if self.left == 0:
            raise Killed

    def write(self, book: ConfigurationBook) -> None:
        self._hit(lambda: super(Faulty, self).write(book))

    def write_layer(self, layer: ConfigurationLayer | None) -> None:
        self._hit(lambda: super(Faulty, self).write_layer(layer))


@pytest.mark.parametrize("text", ["good", "good restart", "sick", "sick restart", "deadly restart"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_box_whose_power_fails_at_any_write_ends_the_change(box: FakeBox, text: str, after: bool) -> None:
    await live(box, put(1, "old"))
    wells = {"old", text} if "good" in text else {"old"}
    for kill_at in range(1, 16):
        serial = 10 * kill_at
        faulty = box.files = Faulty(box.folder, kill_at, after=after)
        with contextlib.suppress(Killed):
            await live(box, put(serial, text))
        box.files = ConfigurationFiles(box.folder)
        service = await live(box)
        assert box.on_disk == box.running
        assert box.running in wells
        if faulty.left > 0:  # it never failed: all steps have been seen
            break
        if service.view().serial == serial:  # make the old one new again
            await live(box, put(serial + 1, "old"))
    else:
        raise AssertionError("there are more writes than were tried")


async def test_a_rollback_goes_back_and_keeps_its_hands_off_anything_else(box: FakeBox) -> None:
    await live(box, put(1, "first"))
    await live(box, put(2, "second restart"))

    async def back(service: ConfigurationService) -> None:
        with pytest.raises(QedgeError) as refused:
            await service.begin_rollback(ConfigurationRollback(1))
        assert refused.value.code == "configuration.nothing_to_undo"
        await service.begin_rollback(ConfigurationRollback(2))

    service = await live(box, back)
    assert (service.view().serial, box.running) == (1, "first")


async def test_drift_is_told_until_it_is_gone(box: FakeBox) -> None:
    service = await live(box, put(1, "good"))
    seen: list[tuple[str, ...]] = []

    async def drift(wanted: tuple[str, ...]) -> None:
        service = await live(box, until=lambda: seen.append(current()) or seen[-1] == wanted)
        assert service.view().drift == wanted

    made = box.start

    def start() -> ConfigurationService:
        nonlocal service
        service = made()
        return service

    def current() -> tuple[str, ...]:
        return service.view().drift

    box.start = start  # type: ignore[method-assign]
    await drift(())
    box.edited = "2"
    await drift(("log",))
    box.edited = "1"
    await drift(())
    (box.folder / LAYER_FILE).write_text("by hand")
    await drift(("layer", "layer"))


async def test_a_book_that_cannot_be_read_is_set_aside(box: FakeBox) -> None:
    await live(box, put(1, "good"))
    (box.folder / "fleet" / "configuration").write_bytes(b"\xc1")
    service = await live(box)
    assert (service.view().serial, box.running) == (0, "good")
    assert (box.folder / "fleet" / "configuration.broken").exists()


def request(kind: str, arguments: msgspec.Struct | None, number: int = 1) -> CommandRequest:
    body = msgspec.msgpack.encode(arguments) if arguments is not None else b""
    return CommandRequest(f"00000000-0000-7000-8000-{number:012d}", "fleet", "node", kind, number, 1, 2, body)


async def ignore(_step: str, _share: float) -> None:
    return


async def test_the_executors_stage_apply_and_take_snapshots(box: FakeBox) -> None:
    steps: list[str] = []

    async def told(step: str, share: float) -> None:
        assert 0 <= share <= 1
        steps.append(step)

    async def act(service: ConfigurationService) -> None:
        stage, apply = ConfigStage(service), ConfigApply(service)
        staging = request("config-stage", ConfigurationStage(1, "good"))
        stage.check(staging)
        for _ in range(2):  # a command that is run again has the same end
            assert isinstance(await stage.run(staging, ignore), StagedConfiguration)
        applying = request("config-apply", ConfigurationApply(1), 2)
        apply.check(applying)
        assert (await apply.recover(applying)).go_on, "nothing of it was done yet"
        for _ in range(2):
            assert (await apply.run(applying, told)).serial == 1
        assert (await apply.recover(applying)).result == outcome(service)
        snapshot = await ConfigSnapshot(service).run(request("config-snapshot", None, 3), ignore)
        assert isinstance(snapshot, ConfigurationSnapshot)
        assert snapshot.view.serial == 1
        back = request("config-rollback", ConfigurationRollback(1), 4)
        assert (await ConfigRollback(service).run(back, ignore)).serial == 0

    await live(box, act)
    assert steps[0] == "checking"
    assert set(steps) <= {"checking", *(step.value for step in ConfigurationStep)}


async def test_an_apply_that_comes_to_nothing_fails_with_its_reason_also_after_a_crash(box: FakeBox) -> None:
    applying = request("config-apply", ConfigurationApply(1), 2)

    async def act(service: ConfigurationService) -> None:
        await service.stage(ConfigurationStage(1, "sick"))
        for do in (ConfigApply(service).run(applying, ignore), ConfigApply(service).recover(applying)):
            with pytest.raises(QedgeError) as failed:
                await do
            assert failed.value.code == "configuration.rolled_back"
            assert "driver qpu is down" in failed.value.message

    await live(box, act)
    assert ConfigApply.after_crash is AfterCrash.CHECK


async def test_a_cancelled_apply_is_undone(box: FakeBox) -> None:
    async def act(service: ConfigurationService) -> None:
        await service.stage(ConfigurationStage(1, "sick"))
        box.clock.advance_s = lambda _seconds: None  # type: ignore[method-assign] # its trial would last for ever
        running = asyncio.create_task(ConfigApply(service).run(request("config-apply", ConfigurationApply(1)), ignore))
        while service.view().state != "trial":
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    service = await live(box, act)
    assert (outcome(service).state, outcome(service).code) == ("rolled-back", "configuration.cancelled")


class Slow(ConfigurationFiles):
    """Files on a disk that takes its time to note that a change begins."""

    def write(self, book: ConfigurationBook) -> None:
        if book.change is not None and book.change.step is ConfigurationStep.WRITING:
            time.sleep(0.3)
        super().write(book)


async def test_an_apply_that_is_cancelled_while_it_begins_is_undone(box: FakeBox) -> None:
    box.files = Slow(box.folder)
    services: list[ConfigurationService] = []

    async def act(service: ConfigurationService) -> None:
        services.append(service)
        await service.stage(ConfigurationStage(1, "good"))
        running = asyncio.create_task(ConfigApply(service).run(request("config-apply", ConfigurationApply(1)), ignore))
        await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    service = await live(box, act, until=lambda: services[0].view().last is not None)
    assert (outcome(service).state, outcome(service).code) == ("rolled-back", "configuration.cancelled")
    assert (box.running, box.on_disk) == ("", "")


def test_wrong_arguments_are_refused_before_anything_begins(box: FakeBox) -> None:
    service = box.start()
    for executor in (ConfigStage(service), ConfigApply(service), ConfigRollback(service), ConfigSnapshot(service)):
        with pytest.raises(QedgeError) as refused:
            executor.check(request(executor.kind, SettingRow("a", "b")))
        assert refused.value.code == "order.bad_arguments"


class Full(ConfigurationFiles):
    """Files on a disk that has room for the book, and none for the layer."""

    def write_layer(self, layer: ConfigurationLayer | None) -> None:
        if layer is not None:
            raise OSError(28, "No space left on device")
        super().write_layer(layer)


async def test_a_layer_that_cannot_be_written_is_not_tried(box: FakeBox) -> None:
    box.files = Full(box.folder)
    service = await live(box, put(1, "good"))
    assert (outcome(service).state, box.on_disk) == ("rolled-back", "")
    assert "No space left" in outcome(service).reason
