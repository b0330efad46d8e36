"""Commands of fleet operators to real daemons over a real broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.wire.command_kinds import (
    BenchmarkAsk,
    BenchmarkOutcome,
    CertificateAsk,
    DrainCommand,
    DriverCommand,
    DriverOutcome,
    LogAsk,
    LogLines,
    RestartOutcome,
    SelfTestOutcome,
    WipeCommand,
    WorkerCommand,
)
from qedge.wire.commands import CommandReport
from qedge.wire.node import DrainView
from qedge.wire.trust import Membership, RevocationNotice, SigningRequest
from tests.integration.bus_site import MOSQUITTO
from tests.integration.daemon_process import DaemonProcess
from tests.integration.fleet_world import QPU, FleetWorld
from tests.integration.operator_desk import operator_desk

pytestmark = pytest.mark.integration
KIND = "mosquitto" if MOSQUITTO else "iotcore"
OPEN = "[fleet.commands]\nsynchronised_clock = false\n"


def failure(report: CommandReport) -> str:
    return f"{report.state} {report.code} {report.reason}"


async def key_of(daemon: DaemonProcess, membership: Membership) -> str:
    """Wait until a daemon speaks with a certificate, and return the key in it."""
    async with asyncio.timeout(30), daemon.client() as client:
        while True:
            try:
                identity = await client.fleet.identity()
                if identity.chain == membership.chain:
                    return identity.key_id
            except QedgeError as error:
                assert error.code in ("client.no_daemon", "client.timeout", "internal.stopping"), error
            await asyncio.sleep(0.05)


async def test_a_node_does_what_operators_order_and_comes_back_from_restarts(tmp_path: Path) -> None:
    async with FleetWorld(tmp_path, KIND) as world, operator_desk(world) as desk:
        daemon = world.start("a", QPU + OPEN)
        await daemon.wait_up()

        report = await desk.ordered("a", "self-test")
        tested = msgspec.msgpack.decode(report.result, type=SelfTestOutcome)
        assert tested.ok, tested
        assert {"broker", "database", "driver qpu"} <= {each.name for each in tested.checks}

        report = await desk.ordered("a", "benchmark", BenchmarkAsk(0.1))
        figures = msgspec.msgpack.decode(report.result, type=BenchmarkOutcome).figures
        assert {each.name for each in figures} == {"bell job", "signature"}
        assert all(each.per_s > 0 for each in figures)

        for undo, state in ((False, "empty"), (True, "open"), (True, "open")):
            report = await desk.ordered("a", "drain", DrainCommand(undo=undo, wait=True))
            assert msgspec.msgpack.decode(report.result, type=DrainView).state == state

        for wanted in (
            DriverCommand("qpu", "locked"),
            DriverCommand("qpu", "unlocked"),
            DriverCommand("qpu", enabled=False),
            DriverCommand("qpu", enabled=True),
        ):
            report = await desk.ordered("a", "driver", wanted)
            outcome = msgspec.msgpack.decode(report.result, type=DriverOutcome)
            assert outcome.enabled is (wanted.enabled is not False)
            assert outcome.admin_state == wanted.admin_state or not wanted.admin_state
        report = await desk.ordered("a", "restart-worker", WorkerCommand("qpu"))
        assert report.state == "successful", failure(report)
        assert (await desk.ordered("a", "restart-worker", WorkerCommand("none"))).code == "driver.not_found"

        report = await desk.ordered("a", "logs", LogAsk(lines=5, contains="order."))
        assert 1 <= len(msgspec.msgpack.decode(report.result, type=LogLines).lines) <= 5

        first = await desk.ordered("a", "restart-agent")
        assert first.state == "successful", failure(first)
        outcome = msgspec.msgpack.decode(first.result, type=RestartOutcome)
        assert outcome.epoch > outcome.epoch_before
        second = await desk.ordered("a", "restart-agent")
        assert second.state == "successful", failure(second)
        assert [each.state for each in desk.reports[second.id]][-1] == "successful"
        await daemon.wait_up()


@pytest.mark.long
async def test_certificates_are_renewed_and_keys_rotated_by_command(tmp_path: Path) -> None:
    async with FleetWorld(tmp_path, KIND) as world, operator_desk(world) as desk:
        daemon = world.start("a", OPEN)
        await daemon.wait_status(lambda status: status.bus.connected)
        async with daemon.client() as client:
            key_ids = [(await client.fleet.identity()).key_id]
        for new_key in (False, True):
            report = await desk.ordered("a", "certificate-request", CertificateAsk(new_key=new_key))
            asked = msgspec.msgpack.decode(report.result, type=SigningRequest)
            membership = Membership(world.fleet.anchor, world.fleet.certify_request(asked))
            report = await desk.ordered("a", "certificate-take", membership)
            assert report.state == "successful", failure(report)
            key_ids.append(await key_of(daemon, membership))
        assert key_ids[0] == key_ids[1] != key_ids[2]
        # the old key is revoked by command, and the node goes on under the new one
        report = await desk.ordered("a", "revocation", RevocationNotice(world.fleet.revoke(key_ids[0])))
        assert report.state == "successful", failure(report)
        assert (await desk.ordered("a", "logs")).state == "successful"


@pytest.mark.long
async def test_a_box_is_wiped_by_two_persons_only(tmp_path: Path) -> None:
    async with FleetWorld(tmp_path, KIND) as world, operator_desk(world) as desk:
        daemon = world.start("a", OPEN)
        await daemon.wait_status(lambda status: status.bus.connected)
        sue = world.fleet.operator("sue")
        held = await desk.send("a", "wipe", WipeCommand("a", "sold"))
        assert (await desk.ordered("a", "logs")).state == "successful"
        assert desk.reports[held][-1].step == "waits for a second person"
        assert (await desk.ordered("a", "wipe", WipeCommand("b", "sold"), sue)).code == "order.bad_arguments"
        assert (daemon.home / "qedge.sqlite3").exists()
        report = await desk.ordered("a", "wipe", WipeCommand("a", "sold"), sue)
        assert report.state == "successful", failure(report)
        async with asyncio.timeout(20):
            while daemon.is_alive():
                await asyncio.sleep(0.05)
        assert {path.name for path in daemon.home.iterdir() if path.suffix != ".lock"} <= {
            "agent.toml",
            "daemon.log",
            "run",
        }


@pytest.mark.long
async def test_only_the_restart_of_the_box_counts_as_one(tmp_path: Path) -> None:
    async with FleetWorld(tmp_path, KIND) as world, operator_desk(world) as desk:
        daemon = world.start("a", OPEN)
        await daemon.wait_status(lambda status: status.bus.connected)
        asked = daemon.home / "requests" / "restart-host"
        command = await desk.send("a", "restart-host")
        async with asyncio.timeout(30):
            while not asked.exists():
                await asyncio.sleep(0.05)
        asked.unlink()  # as the unit of root does
        async with asyncio.timeout(30):
            while desk.reports[command][-1].step != "the system restarts":
                await asyncio.sleep(0.05)
        daemon.kill()
        daemon.start()
        report = await desk.end(command)
        assert (report.state, report.code) == ("failed", "order.failed")
        assert not asked.exists()


KINDS: tuple[tuple[str, msgspec.Struct | None], ...] = (
    ("drain", DrainCommand()),
    ("driver", DriverCommand("qrng", "locked")),
    ("restart-worker", WorkerCommand("qrng")),
    ("self-test", None),
    ("restart-agent", None),
    ("logs", LogAsk()),
    ("driver", DriverCommand("qrng", "unlocked")),
    ("drain", DrainCommand(undo=True)),
)


@pytest.mark.parametrize(
    "delays_s",
    [
        pytest.param((0.15,), id="once", marks=pytest.mark.long),
        pytest.param(
            tuple(0.02 + 0.12 * number for number in range(10)),
            id="often",
            marks=[pytest.mark.long, pytest.mark.timeout(900)],
        ),
    ],
)
async def test_commands_end_once_though_daemon_and_broker_are_killed(
    tmp_path: Path, delays_s: tuple[float, ...]
) -> None:
    async with FleetWorld(tmp_path, KIND) as world:
        daemon = world.start("a", OPEN)
        await daemon.wait_status(lambda status: status.bus.connected)
        for number, delay_s in enumerate(delays_s):
            async with operator_desk(world) as desk:
                commands = [await desk.send("a", kind, arguments) for kind, arguments in KINDS]
                await asyncio.sleep(delay_s)
                daemon.kill()
                if number % 2 == 0:
                    daemon.start()
                    for command in commands:
                        report = await desk.end(command)
                        assert report.state == "successful" or report.code, failure(report)
                        ends = [each for each in desk.reports[command] if each.state in ("successful", "failed")]
                        assert len({each.revision for each in ends}) == 1
                    known = list(commands)
                else:
                    daemon.start()
            world.broker.kill()
            await asyncio.sleep(0.5)
            world.broker.start()
            # the broker knows nothing any more: the node tells again how its commands stand
            async with operator_desk(world) as desk:
                await world.wait_up("a")
                for command in known:
                    assert (await desk.end(command)).state in ("successful", "failed")
                assert (await desk.ordered("a", "logs")).state == "successful"
        async with daemon.client() as client:
            listed = await client.fleet.orders(500)
            assert all(each.state in ("successful", "failed") for each in listed.commands), listed
            one = await client.fleet.order(known[0])
            assert one.kind == "drain"
