"""Commands of fleet operators, put together: one list of executors, and the service that hands them commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.service import Service
from qedge.bus.service import Bus
from qedge.crypto.keys import SigningKey
from qedge.crypto.registry import ALGORITHMS
from qedge.crypto.self_test import is_testable, run_once
from qedge.daemon.fleet.doors import AuditedCommands, HostRequests, LogKeeper, NodeDoors, clock_is_kept, own_audit
from qedge.daemon.fleet.wiping import mark_for_wiping
from qedge.daemon.managed import Power
from qedge.daemon.node import Node
from qedge.daemon.peers import Tools
from qedge.fleet.commands.journal import Journal
from qedge.fleet.commands.kinds.kind import Kind
from qedge.fleet.commands.kinds.looking import Benchmark, Check, Logs, Measured, SelfTest
from qedge.fleet.commands.kinds.restarts import RestartAgent, RestartHost, RestartWorker
from qedge.fleet.commands.kinds.trust import CertificateRequest, CertificateTake, Device, Policy, Revocation, Wipe
from qedge.fleet.commands.kinds.work import Drain, Driver
from qedge.fleet.commands.ports import Executor
from qedge.fleet.commands.running import ThisRun
from qedge.fleet.commands.service import CommandService
from qedge.fleet.commands.telling import Speaker
from qedge.security.audit.log import AuditLog
from qedge.wire.jobs import JobState, JobSubmission
from qedge.workers.driver_service import DriverService

KINDS: Final[tuple[type[Kind], ...]] = (
    RestartAgent,
    RestartHost,
    RestartWorker,
    Drain,
    Driver,
    Policy,
    Revocation,
    Device,
    CertificateRequest,
    CertificateTake,
    Logs,
    SelfTest,
    Benchmark,
    Wipe,
)
"""What `make_executors` makes."""

_ECHO_S: Final = 5.0
_JOB_S: Final = 10.0
_BELL: Final = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'


@dataclass(frozen=True, slots=True)
class FleetParts:
    """What serves fleet operators, and the services that it takes, in the order of their start."""

    commands: CommandService
    services: tuple[Service, ...]
    audit: AuditLog
    """The log of a node that has no attached devices, whose security keeps it otherwise."""


def make_fleet(
    tools: Tools,
    node: Node,
    bus: Bus,
    drivers: Mapping[str, DriverService],
    power: Power,
    enable: Callable[[str, bool], object],
) -> FleetParts | None:
    """Make the service of commands; None where the node takes none, as a fleet of one does."""
    if not tools.config.fleet.commands.enabled or tools.me.standalone:
        return None
    me, keeper, audit = tools.identity, LogKeeper(), own_audit(tools)
    journal, this_run = Journal(tools.store), ThisRun(tools.me.boot_id, tools.me.epoch)
    doors = NodeDoors(node, me, tools, drivers, enable)
    commands = CommandService(
        tools.config.fleet.commands,
        make_executors(tools, node, bus, doors, journal, this_run, power, keeper),
        Speaker(me.fleet, me.node, me.key, me.shown),
        me.trust,
        journal=journal,
        line=bus,
        auditor=AuditedCommands(audit.log, me.node),
        this_run=this_run,
        clock=tools.clock,
        metrics=tools.metrics,
        clock_good=clock_is_kept,
        member=lambda: me.member,
    )
    node.attach_orders(commands)
    # where the node takes devices, their security keeps the audit log, and commands go into it
    own = () if tools.config.devices.enabled else (audit,)
    return FleetParts(commands, (keeper, *own, commands), audit.log)


def make_executors(
    tools: Tools,
    node: Node,
    bus: Bus,
    doors: NodeDoors,
    journal: Journal,
    this_run: ThisRun,
    power: Power,
    keeper: LogKeeper,
) -> list[Executor]:
    """List what the node can be ordered to do; `cancel` comes with the service, `executors` has more."""
    state_dir = Path(tools.config.node.state_dir)

    return [
        RestartAgent(power.restart, journal, this_run),
        RestartHost(HostRequests(state_dir), journal, this_run),
        RestartWorker(doors),
        Drain(node),
        Driver(_DriverDoor(node, doors)),
        Policy(doors),
        Revocation(doors),
        Device(doors),
        CertificateRequest(doors),
        CertificateTake(doors),
        Logs(keeper.buffer),
        SelfTest(partial(_checks, tools, node, bus), tools.clock),
        Benchmark(partial(_measured, tools, node), tools.clock),
        Wipe(tools.me.node, partial(mark_and_wipe, state_dir, power, tools.clock)),
    ]


async def mark_and_wipe(state_dir: Path, power: Power, clock: Clock) -> int:
    """Have the node wiped soon; returns the time. Raises `order.failed`.

    The mark is written in one go, not in another thread: a command that is cancelled meanwhile would leave it behind,
    and the box would be wiped at some later start.
    """
    try:
        mark_for_wiping(state_dir, "by a command of the fleet")
    except OSError as error:
        raise QedgeError("order.failed", f"The mark cannot be written: {error.strerror or error}.") from error
    power.wipe()
    return clock.utc_ns()


class _DriverDoor:
    """Fills `Drivers`: changes go by the node, taking in and letting go by the daemon."""

    def __init__(self, node: Node, doors: NodeDoors) -> None:
        self.change_driver = node.change_driver
        self.enable_driver = doors.enable_driver


def _checks(tools: Tools, node: Node, bus: Bus) -> Sequence[Check]:
    """List the checks of a self-test: algorithms in use, broker, database, random pool, drivers."""

    async def algorithm(name: str) -> str:
        await asyncio.to_thread(run_once, ALGORITHMS[name], tools.random_bytes)
        return "round trip"

    async def echo() -> str:
        await bus.echo(b"self-test", deadline_s=_ECHO_S)
        return "came back"

    async def database() -> str:
        await tools.store.set_meta("self-test", str(tools.clock.utc_ns()))
        return "written"

    async def driver(name: str) -> str:
        view = next(each for each in node.drivers() if each.name == name)
        if view.admin_state == "unlocked" and view.operating_state == "down":
            raise QedgeError("driver.fatal", f"It is down: {view.reason}.")
        return f"{view.admin_state}, {view.operating_state}"

    async def readiness() -> str:
        missing = node.missing()
        if missing:
            raise QedgeError("order.failed", f"The node waits for {', '.join(missing)}.")
        return "ready"

    crypto = tools.config.crypto
    allowed = {*crypto.key_exchange, *crypto.signatures, *crypto.ciphers}
    used = [name for name, row in ALGORITHMS.items() if name in allowed and is_testable(row)]
    return [
        ("node", readiness),
        ("broker", echo),
        ("database", database),
        *((name, partial(algorithm, name)) for name in used),
        *((f"driver {each.name}", partial(driver, each.name)) for each in node.drivers()),
    ]


def _measured(tools: Tools, node: Node) -> Sequence[Measured]:
    """List what a benchmark measures: jobs of two qubits one after the other, and signatures."""
    key: SigningKey = tools.identity.key

    async def bell() -> None:
        view = await node.submit(JobSubmission(_BELL, shots=100, fresh=True, once=True), "benchmark")
        ended = await node.wait_job(view.id, _JOB_S)
        if ended.state is not JobState.DONE:
            raise QedgeError("order.failed", f"A job of two qubits ended as {ended.state}.")

    async def signature() -> None:
        await asyncio.to_thread(key.sign, b"benchmark", "self-test")

    return [("bell job", bell), ("signature", signature)]
