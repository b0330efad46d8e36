"""The kinds of commands against fakes of what they change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.fleet.commands.kinds.kind import Kind, KindOf
from qedge.fleet.commands.kinds.looking import MAX_LOG_BYTES, Diagnostics, LogBuffer, Logs, SelfTest
from qedge.fleet.commands.kinds.restarts import RestartHost
from qedge.fleet.commands.kinds.trust import CertificateTake, Policy, Wipe
from qedge.fleet.commands.kinds.work import Drain, Driver
from qedge.fleet.commands.ports import Recovered
from qedge.fleet.commands.running import ThisRun
from qedge.wire.command_kinds import (
    CertificateOutcome,
    DiagnosticsAsk,
    DiagnosticsPart,
    DrainCommand,
    DriverCommand,
    DriverOutcome,
    LogAsk,
    LogLines,
    SelfTestOutcome,
    WipeCommand,
)
from qedge.wire.commands import CommandRequest
from qedge.wire.node import DrainChange, DrainView, DriverChange, DriverView
from qedge.wire.policy import PolicyNotice
from qedge.wire.trust import Membership, SigningRequest
from tests.integration.fleet_site import ThrowAwayFleet
from tests.unit.fleet.command_site import CommandSite

ID = "01a2246a-6fcc-7d9f-829a-ff8a1f1967df"


def ask(kind: str, arguments: msgspec.Struct | None = None) -> CommandRequest:
    encoded = b"" if arguments is None else msgspec.msgpack.encode(arguments)
    return CommandRequest(ID, "fleet", "box", kind, 1, 1, 2, encoded)


class Steps:
    """Fills `Progress`."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    async def __call__(self, step: str, done: float) -> None:
        assert 0 <= done <= 1
        self.told.append((step, done))


class EmptyingNode:
    """Has some jobs left each time that it is looked at."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.changes: list[object] = []

    async def drain(self, change: DrainChange) -> DrainView:
        self.changes.append(change)
        return self._view("open" if change.undo else "draining")

    def drain_view(self) -> DrainView:
        self.jobs -= 1
        return self._view("draining" if self.jobs else "empty")

    def _view(self, state: str) -> DrainView:
        return DrainView(state, self.jobs, 0)

    async def change_driver(self, name: str, change: DriverChange) -> DriverView:
        self.changes.append(change)
        return DriverView(name, "sim", "qpu", "1", True, change.admin_state or "unlocked", "up", "", (), {})

    async def enable_driver(self, name: str, *, enabled: bool) -> None:
        self.changes.append((name, enabled))


async def test_a_drain_that_waits_tells_how_many_jobs_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qedge.fleet.commands.kinds.work._LOOK_S", 0.001)
    node, steps = EmptyingNode(3), Steps()
    assert await Drain(node).run(ask("drain", DrainCommand(wait=True)), steps) == DrainView("empty", 0, 0)
    assert [step for step, _ in steps.told] == ["2 jobs left", "1 jobs left", "0 jobs left"]
    assert await Drain(node).run(ask("drain", DrainCommand(undo=True, wait=True)), steps) == DrainView("open", 0, 0)
    assert await Drain(EmptyingNode(1)).run(ask("drain"), steps) == DrainView("draining", 1, 0)


async def test_a_driver_is_changed_as_far_as_the_command_says() -> None:
    node = EmptyingNode(0)
    found = await Driver(node).run(ask("driver", DriverCommand("qpu", "locked", {"shots": 5})), Steps())
    assert found == DriverOutcome("qpu", True, "locked", "up")
    found = await Driver(node).run(ask("driver", DriverCommand("qpu", enabled=False)), Steps())
    assert isinstance(found, DriverOutcome)
    assert not found.enabled
    await Driver(node).run(ask("driver", DriverCommand("qpu", enabled=True)), Steps())
    assert node.changes == [
        DriverChange("locked", {"shots": 5}),
        ("qpu", False),
        ("qpu", True),
        DriverChange("", {}),
    ]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (Drain(EmptyingNode(0)), b"\x01"),
        (Driver(EmptyingNode(0)), b""),
        (Driver(EmptyingNode(0)), msgspec.msgpack.encode(DrainCommand())),
        (Driver(EmptyingNode(0)), msgspec.msgpack.encode(DriverCommand("qpu", "half"))),
        (Logs(LogBuffer()), msgspec.msgpack.encode(LogAsk(lines=0))),
        (SelfTest(lambda: (), ManualClock()), b"\xc0"),
        (Wipe("box", lambda: asyncio.sleep(0, 1)), msgspec.msgpack.encode(WipeCommand("other", "x"))),
    ],
)
def test_wrong_arguments_are_refused_before_anything_happens(kind: Kind, arguments: bytes) -> None:
    request = msgspec.structs.replace(ask(kind.kind), arguments=arguments)
    with pytest.raises(QedgeError) as error:
        kind.check(request)
    assert error.value.code == "order.bad_arguments"


async def test_most_kinds_are_begun_anew_after_a_crash() -> None:
    assert await Drain(EmptyingNode(0)).recover(ask("drain")) == Recovered(go_on=True)
    assert issubclass(Drain, KindOf)


async def test_logs_are_the_newest_lines_that_match_and_fit() -> None:
    buffer = LogBuffer(100)
    for number in range(300):
        level = "error" if number % 10 == 0 else "info"
        buffer.hear({"level": level, "event": f"event-{number}", "data": "x" * 10})
    lines = buffer.select(LogAsk(lines=5, level="error"))
    assert [line.split('"event-')[1].split('"')[0] for line in lines.lines] == ["250", "260", "270", "280", "290"]
    assert lines.left_out == 5
    assert buffer.select(LogAsk(contains="event-299")).lines[0].count("event-299") == 1
    big = LogBuffer(200)
    for number in range(200):
        big.hear({"event": f"{number} " + "y" * 5000})
    found = await Logs(big).run(ask("logs", LogAsk(lines=2000)), Steps())
    assert isinstance(found, LogLines)
    assert sum(map(len, found.lines)) < MAX_LOG_BYTES
    assert found.left_out == 200 - len(found.lines)
    assert len(msgspec.msgpack.encode(found)) < 128 * 1024


async def test_a_self_test_goes_on_after_a_fault_and_tells_it() -> None:
    async def good() -> str:
        return "fine"

    async def bad() -> str:
        raise QedgeError("bus.timeout", "Nothing came back.")

    checks = (("broker", bad), ("database", good))
    found = await SelfTest(lambda: checks, ManualClock()).run(ask("self-test"), Steps())
    assert isinstance(found, SelfTestOutcome)
    assert not found.ok
    assert [(each.name, each.ok) for each in found.checks] == [("broker", False), ("database", True)]
    assert "bus.timeout" in found.checks[0].detail


async def test_diagnostics_come_in_parts_of_one_bundle() -> None:
    class Bundle:
        made = 0

        async def collect(self) -> bytes:
            self.made += 1
            return bytes([self.made]) * 300_000

    bundle = Bundle()
    kind = Diagnostics(bundle)
    parts = []
    for number in range(3):
        part = await kind.run(ask("diagnostics", DiagnosticsAsk(number)), Steps())
        assert isinstance(part, DiagnosticsPart)
        assert (part.part, part.parts) == (number, 3)
        parts.append(part.data)
    assert b"".join(parts) == b"\x01" * 300_000
    with pytest.raises(QedgeError):
        await kind.run(ask("diagnostics", DiagnosticsAsk(3)), Steps())
    assert bundle.made == 1


class Places:
    """Fills `Certificates` and `Policies`."""

    def __init__(self) -> None:
        self.taken: list[Membership] = []

    async def signing_request(self, *, new_key: bool) -> SigningRequest:
        return SigningRequest("fleet", "box", b"new" if new_key else b"same")

    async def adopt(self, membership: Membership) -> CertificateOutcome:
        self.taken.append(membership)
        return CertificateOutcome("key", 9)

    def has(self, membership: Membership) -> CertificateOutcome | None:
        return CertificateOutcome("key", 9) if membership in self.taken else None

    async def take_policy(self, signed: bytes) -> int:
        if signed == b"old":
            raise QedgeError("policy.old", "It is old.")
        return 3

    async def take_revocations(self, signed: bytes) -> int:
        return len(signed)


async def test_a_certificate_that_was_taken_before_the_crash_is_not_taken_again() -> None:
    fleet, places = ThrowAwayFleet(), Places()
    membership = Membership(fleet.anchor, fleet.member("box")[1])
    kind, request = CertificateTake(places), ask("certificate-take", membership)
    assert await kind.recover(request) == Recovered(go_on=True)
    assert await kind.run(request, Steps()) == CertificateOutcome("key", 9)
    assert await kind.recover(request) == Recovered(result=CertificateOutcome("key", 9))


async def test_a_policy_that_is_not_newer_fails_with_the_reason() -> None:
    with pytest.raises(QedgeError) as error:
        await Policy(Places()).run(ask("policy", PolicyNotice(b"old")), Steps())
    assert error.value.code == "order.failed"


class Host:
    """Fills `HostRestarter`."""

    def __init__(self, *, takes: bool) -> None:
        self.takes = takes
        self.log: list[str] = []

    async def ask(self) -> None:
        self.log.append("asked")

    async def taken(self) -> None:
        while not self.takes:
            await asyncio.sleep(0.01)

    async def withdraw(self) -> None:
        self.log.append("withdrawn")


async def test_a_box_that_nothing_restarts_says_so_and_the_request_is_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.fleet.commands.kinds.restarts._TAKEN_S", 0.05)
    site = CommandSite(tmp_path)
    service = await site.start()
    host = Host(takes=False)
    with pytest.raises(QedgeError) as error:
        await RestartHost(host, service.journal, ThisRun("boot", 1)).run(ask("restart-host"), Steps())
    assert error.value.code == "order.failed"
    assert host.log == ["asked", "withdrawn"]
    await site.kill()


@pytest.mark.parametrize("boots", [{"boot_id": "other", "good": True}, {"boot_id": "boot", "good": False}])
async def test_the_box_restarted_only_where_the_kernel_is_another(tmp_path: Path, boots: Mapping[str, object]) -> None:
    host = Host(takes=True)
    site = CommandSite(tmp_path)
    service = await site.start()
    service.add(RestartHost(host, service.journal, ThisRun("boot", 1)))
    command = site.send("restart-host")
    await site.until(command, lambda report: report.step == "the system restarts")
    later = RestartHost(host, service.journal, ThisRun(str(boots["boot_id"]), 2))
    request = msgspec.structs.replace(ask("restart-host"), id=command)
    if boots["good"]:
        found = await later.recover(request)
        assert not found.go_on
        assert found.result is not None
    else:
        with pytest.raises(QedgeError, match="only the agent"):
            await later.recover(request)
    await site.kill()
