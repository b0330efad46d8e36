"""Every kind of command as a test orders it, and how the world tells what a command did to it, and how often."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from qedge.cli.main import main
from qedge.crypto.certificates import read_request
from qedge.crypto.keys import SigningKey
from qedge.crypto.trust import sign_policy
from qedge.wire.command_kinds import (
    BenchmarkAsk,
    CertificateAsk,
    DeviceCommand,
    DeviceOperation,
    DeviceOutcome,
    DiagnosticsAsk,
    DrainCommand,
    DriverCommand,
    LogAsk,
    RestartOutcome,
    SerialOutcome,
    WorkerCommand,
)
from qedge.wire.commands import CancelCommand, CommandReport
from qedge.wire.node import DrainView
from qedge.wire.policy import PolicyBundle, PolicyNotice
from qedge.wire.trust import Membership, RevocationNotice, SigningRequest
from tests.integration.fleet_site import DAY_NS
from tests.integration.fleet_world import QPU
from tests.integration.gateway_site import POLICY, Attached, free_port
from tests.integration.kill_stage import LIMIT_S, NODE, KillStage

T = TypeVar("T", bound=msgspec.Struct)
INSTANTS = ("received", "waiting", "starting", "announced", "begun", "done", "ended", "told")
"""In the order of a command's life: before and after it is in the journal, before and after the broker knows that it
begins, before and after what it does, and after its end is in the journal and with the broker."""


class Play:
    """One kind of command; as it stands here, one that only looks and always succeeds."""

    kind = ""
    config = ""
    instants = INSTANTS
    done = "done"
    """The instant at which it is done and nothing knows it."""

    counted = False
    """Whether `effects` tells how often it was done."""

    by_kill = False
    """Whether to be killed is to be done: what it is for has happened then."""

    fails: tuple[str, ...] = ()
    """Instants at which a kill is its failure."""

    def __init__(self, stage: KillStage) -> None:
        self.stage = stage
        self.turn = 0
        self.instant = ""

    async def prepare(self) -> None:
        """Set up what it needs, once."""

    async def arguments(self) -> msgspec.Struct | None:
        """Return the arguments of the next one; `turn` is its number, from 1."""
        return None

    def effects(self) -> int:
        """Return how often it was done so far, as the world has it."""
        return 0

    async def world(self) -> None:
        """Be whatever works with the daemon on this box."""

    def before_kill(self) -> None:
        """Do what the kill is a part of."""

    async def after_cut(self) -> None:
        """Do what the box does by itself once the daemon goes on."""

    async def check(self, report: CommandReport) -> None:
        """Look at what there is once it has ended well."""


def result_of(report: CommandReport, kind: type[T]) -> T:
    """Read what a node answered."""
    return msgspec.msgpack.decode(report.result, type=kind)


async def until(question: Callable[[], Awaitable[bool]]) -> None:
    """Ask until the answer is yes."""
    async with asyncio.timeout(LIMIT_S):
        while not await question():
            await asyncio.sleep(0.05)


class RestartAgentPlay(Play):
    kind = "restart-agent"
    done = "exec"
    counted = by_kill = True

    def effects(self) -> int:
        return self.stage.own_starts()

    async def check(self, report: CommandReport) -> None:
        outcome = result_of(report, RestartOutcome)
        assert outcome.epoch > outcome.epoch_before


class RestartHostPlay(Play):
    """The unit of root is played here: it takes the request and restarts the box."""

    kind = "restart-host"
    done = "step the system restarts"
    counted = True
    fails = ("begun",)
    taken = 0

    def effects(self) -> int:
        return self.taken

    async def world(self) -> None:
        request = self.stage.home / "requests" / "restart-host"
        while True:
            if request.exists():
                request.unlink()
                self.taken += 1
                if self.instant != "done":
                    await self.after_cut()
            await asyncio.sleep(0.02)

    async def after_cut(self) -> None:
        if self.kind != "restart-host" or (self.instant != "done" and not self.taken):
            return

        async def restarts() -> bool:
            orders = await self.stage.ask(lambda client: client.fleet.orders(20))
            return any(each.step == "the system restarts" and each.state == "executing" for each in orders.commands)

        await until(restarts)
        self.stage.reboot()
        self.stage.kill()

    def before_kill(self) -> None:
        if self.instant == "done":
            self.stage.reboot()

    async def check(self, report: CommandReport) -> None:
        outcome = result_of(report, RestartOutcome)
        assert outcome.boot_id != outcome.boot_id_before


class RestartWorkerPlay(Play):
    kind = "restart-worker"

    async def arguments(self) -> msgspec.Struct | None:
        await self.stage.daemon.wait_status(
            lambda status: all(each.operating_state == "up" for each in status.drivers), LIMIT_S
        )
        return WorkerCommand("qrng")

    async def check(self, report: CommandReport) -> None:
        await self.stage.daemon.wait_status(
            lambda status: all(each.operating_state == "up" for each in status.drivers), LIMIT_S
        )


class DrainPlay(Play):
    kind = "drain"

    async def arguments(self) -> msgspec.Struct | None:
        return DrainCommand(undo=self.turn % 2 == 0, wait=True)

    async def check(self, report: CommandReport) -> None:
        wanted = "open" if self.turn % 2 == 0 else "empty"
        assert result_of(report, DrainView).state == wanted

        async def so() -> bool:
            return (await self.stage.ask(lambda client: client.fleet.drain_view())).state == wanted

        await until(so)


class DriverPlay(Play):
    kind = "driver"

    async def arguments(self) -> msgspec.Struct | None:
        return DriverCommand("qrng", ("unlocked", "locked")[self.turn % 2])

    async def check(self, report: CommandReport) -> None:
        (driver,) = await self.stage.ask(lambda client: client.drivers())
        assert driver.admin_state == ("unlocked", "locked")[self.turn % 2]


def with_devices(stage: KillStage) -> int:
    """Have the node take devices, as one needs who enforces a policy; returns the port."""
    port, policy = free_port(), stage.world.folder / "policy.toml"
    policy.write_text(POLICY)
    stage.config += f'[devices]\nenabled = true\n[devices.listener]\nlisten = ["127.0.0.1:{port}"]\n'
    stage.config += f'[security.policy]\nfile = "{policy}"\n'
    stage.config += '[devices.segments.hall]\nchannels = ["temperature"]\n'
    return port


class PolicyPlay(Play):
    kind = "policy"

    def __init__(self, stage: KillStage) -> None:
        super().__init__(stage)
        with_devices(stage)

    async def arguments(self) -> msgspec.Struct | None:
        fleet, now_ns = self.stage.world.fleet, time.time_ns()
        bundle = PolicyBundle(fleet.name, self.turn, now_ns, now_ns + DAY_NS, b"version = 1\n")
        return PolicyNotice(sign_policy(bundle, fleet.issuing_key, fleet.issuing))

    async def check(self, report: CommandReport) -> None:
        assert result_of(report, SerialOutcome).serial == self.turn
        assert (await self.stage.ask(lambda client: client.policy.show())).serial == self.turn


class RevocationPlay(Play):
    kind = "revocation"

    async def arguments(self) -> msgspec.Struct | None:
        return RevocationNotice(self.stage.world.fleet.revoke(f"{self.turn:032x}"))

    async def check(self, report: CommandReport) -> None:
        assert result_of(report, SerialOutcome).serial == self.stage.world.fleet.serial


class DevicePlay(Play):
    """A device that was really let in, in quarantine and out of it."""

    kind = "device"
    counted = True

    def __init__(self, stage: KillStage) -> None:
        super().__init__(stage)
        self.port = with_devices(stage)

    async def prepare(self) -> None:
        await self.stage.daemon.wait_status(
            lambda status: status.gateway is not None and bool(status.gateway.addresses), LIMIT_S
        )
        await asyncio.to_thread(self._let_in)

    def _let_in(self) -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert main(["--socket", str(self.stage.daemon.socket), "device", "add", "meter-1"]) == 0
        device = Attached.invited(out.getvalue(), self.port)
        assert device.connect()
        device.open_session()
        device.close()

    async def arguments(self) -> msgspec.Struct | None:
        operation = (DeviceOperation.RELEASE, DeviceOperation.QUARANTINE)[self.turn % 2]
        return DeviceCommand("meter-1", operation, "a test")

    def effects(self) -> int:
        return self.stage.seen("device.quarantined") + self.stage.seen("device.released")

    async def check(self, report: CommandReport) -> None:
        assert result_of(report, DeviceOutcome).quarantined is bool(self.turn % 2)
        device = await self.stage.ask(lambda client: client.devices.show("meter-1"))
        assert device.quarantined is bool(self.turn % 2)


class CertificateRequestPlay(Play):
    kind = "certificate-request"

    async def arguments(self) -> msgspec.Struct | None:
        return CertificateAsk(new_key=True)

    async def check(self, report: CommandReport) -> None:
        _, asked = read_request(result_of(report, SigningRequest).request)
        with contextlib.closing(sqlite3.connect(self.stage.home / "qedge.sqlite3")) as connection:
            ((algorithm, seed),) = connection.execute("SELECT algorithm, seed FROM identities WHERE state = 'pending'")
        assert SigningKey.from_seed(algorithm, seed).key_id == asked.key_id, "the key that waits is another one"


class CertificateTakePlay(Play):
    kind = "certificate-take"
    counted = by_kill = True
    membership: Membership

    async def arguments(self) -> msgspec.Struct | None:
        report = await self.stage.ordered("certificate-request", CertificateAsk(new_key=self.turn % 2 == 0))
        asked = result_of(report, SigningRequest)
        fleet = self.stage.world.fleet
        self.membership = Membership(fleet.anchor, fleet.certify_request(asked, days=60 + self.turn))
        return self.membership

    def effects(self) -> int:
        # where the key stays nothing starts anew
        return self.stage.seen("daemon.identity_changed") + self.stage.seen("trust.renewed")

    async def check(self, report: CommandReport) -> None:
        async def taken() -> bool:
            identity = await self.stage.ask(lambda client: client.fleet.identity())
            return identity.chain == self.membership.chain

        await until(taken)


class LogsPlay(Play):
    kind = "logs"

    async def arguments(self) -> msgspec.Struct | None:
        return LogAsk(lines=5)


class SelfTestPlay(Play):
    kind = "self-test"


class BenchmarkPlay(Play):
    kind = "benchmark"
    config = QPU

    async def arguments(self) -> msgspec.Struct | None:
        await self.stage.daemon.wait_up(LIMIT_S)
        return BenchmarkAsk(0.1)


class DiagnosticsPlay(Play):
    kind = "diagnostics"

    async def arguments(self) -> msgspec.Struct | None:
        return DiagnosticsAsk()


class DoctorPlay(Play):
    kind = "doctor"


class SnapshotPlay(Play):
    kind = "config-snapshot"


class CancelPlay(Play):
    """What is cancelled waits for a unit that is not there, and would fail in half a minute."""

    kind = "cancel"
    target = ""

    async def arguments(self) -> msgspec.Struct | None:
        self.target = await self.stage.desk.send(NODE, "restart-host")

        async def begun() -> bool:
            return (self.stage.home / "requests" / "restart-host").exists()

        await until(begun)
        return CancelCommand(self.target)

    async def check(self, report: CommandReport) -> None:
        target = await self.stage.end(self.target)
        assert (target.state, target.code) in (("failed", "order.cancelled"), ("failed", "order.failed"))
        assert not (self.stage.home / "requests" / "restart-host").exists()
