"""What fleet commands do to the node, by way of the doors that the daemon gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.bus.service import Bus
from qedge.daemon.fleet.commands import Power, make_fleet
from qedge.daemon.fleet.doors import NodeDoors
from qedge.daemon.membership.identity import LocalIdentity
from qedge.daemon.node import Node
from qedge.daemon.peers import Tools
from qedge.fleet.commands.config import CommandsConfig
from qedge.fleet.config import FleetConfig
from qedge.wire.command_kinds import DeviceOperation
from qedge.wire.gateway import DeviceReason
from qedge.wire.trust import IdentityView, Membership, NewIdentity, SigningRequest
from tests.integration.fleet_site import ThrowAwayFleet


@dataclass
class Device:
    """As much of an attached device as a command looks at."""

    state: str = "active"
    quarantined: bool = False


@dataclass
class FakeNode:
    """Devices, policy and fleet of a node, in memory."""

    device: Device = field(default_factory=Device)
    log: list[str] = field(default_factory=list)
    signed: bytes = b""
    serial: int = 0

    @property
    def devices(self) -> FakeNode:
        return self

    @property
    def policy(self) -> FakeNode:
        return self

    @property
    def fleet(self) -> FakeNode:
        return self

    async def show(self, _name: str) -> Device:
        return self.device

    async def quarantine(self, _name: str, why: DeviceReason, caller: str) -> Device:
        self.log.append(f"quarantine {why.reason} {caller}")
        self.device = Device(self.device.state, True)
        return self.device

    async def release(self, _name: str, _caller: str) -> Device:
        self.log.append("release")
        self.device = Device(self.device.state, False)
        return self.device

    async def revoke(self, _name: str, _why: DeviceReason, _caller: str) -> Device:
        self.log.append("revoke")
        self.device = Device("revoked", self.device.quarantined)
        return self.device

    def newest(self) -> bytes:
        return self.signed

    async def take(self, signed: bytes) -> None:
        self.log.append("policy")
        self.signed, self.serial = signed, self.serial + 1

    async def take_revocations(self, _signed: bytes) -> None:
        self.log.append("revocations")

    async def new_identity(self, wanted: NewIdentity) -> SigningRequest:
        return SigningRequest(wanted.fleet, wanted.node, b"new")

    def own_request(self) -> SigningRequest:
        return SigningRequest("fleet", "box", b"own")

    async def adopt(self, membership: Membership) -> IdentityView:
        assert membership.broker is None
        self.log.append("adopt")
        return cast("IdentityView", None)


def make(fleet: ThrowAwayFleet, node: FakeNode) -> tuple[NodeDoors, Membership]:
    key, chain = fleet.member("box")
    trust = fleet.trust()
    membership = Membership(fleet.anchor, chain)
    identity = LocalIdentity("fleet", "box", False, key, membership, trust, trust.read(chain))
    config = SimpleNamespace(drivers={"qpu": None})
    tools = cast("Tools", SimpleNamespace(config=config, clock=ManualClock(utc_ns=fleet.utc_ns)))
    started: list[tuple[str, bool]] = []

    def enable(name: str, enabled: bool) -> None:
        started.append((name, enabled))
        node.log.append(f"{name} {enabled}")

    return NodeDoors(cast("Node", node), identity, tools, {}, enable), membership


async def test_what_was_done_to_a_device_is_not_done_again() -> None:
    node = FakeNode()
    doors, _ = make(ThrowAwayFleet(), node)
    for operation in (DeviceOperation.QUARANTINE, DeviceOperation.RELEASE, DeviceOperation.REVOKE):
        for _ in range(2):
            outcome = await doors.operate("pump", operation, "why", "command 1")
    assert node.log == ["quarantine why command 1", "release", "revoke"]
    assert (outcome.state, outcome.quarantined) == ("revoked", False)


async def test_a_policy_that_the_node_has_is_taken_as_taken() -> None:
    node = FakeNode()
    doors, _ = make(ThrowAwayFleet(), node)
    assert await doors.take_policy(b"one") == 1
    assert await doors.take_policy(b"one") == 1
    assert await doors.take_policy(b"two") == 2
    assert await doors.take_revocations(b"list") == 0
    assert node.log == ["policy", "policy", "revocations"]


async def test_a_certificate_has_to_be_of_this_fleet_and_name() -> None:
    fleet, node = ThrowAwayFleet(), FakeNode()
    doors, present = make(fleet, node)
    assert doors.has(present) is not None
    assert (await doors.signing_request(new_key=True)).request == b"new"
    assert (await doors.signing_request(new_key=False)).request == b"own"
    _, chain = fleet.member("box")
    assert doors.has(Membership(fleet.anchor, chain)) is None
    await doors.adopt(Membership(fleet.anchor, chain))
    stranger = ThrowAwayFleet()
    for wrong in (
        Membership(stranger.anchor, stranger.member("box")[1]),
        Membership(fleet.anchor, fleet.member("other")[1]),
        Membership(fleet.anchor, fleet.operator("box")[1]),
        Membership(fleet.anchor, stranger.member("box")[1]),
    ):
        with pytest.raises(QedgeError) as error:
            await doors.adopt(wrong)
        assert error.value.code == "auth.untrusted"
    assert node.log == ["adopt"]


async def test_a_certificate_that_the_node_does_not_take_since_it_ends_sooner_is_not_told_as_taken() -> None:
    fleet, node = ThrowAwayFleet(), FakeNode()
    doors, present = make(fleet, node)
    subject, public_key = fleet.trust().read(present.chain).subject, fleet.trust().read(present.chain).public_key
    sooner = Membership(fleet.anchor, fleet.certify(subject.name, public_key, days=1))
    with pytest.raises(QedgeError, match="no later than the present one") as caught:
        await doors.adopt(sooner)
    assert caught.value.code == "order.failed"
    assert (await doors.adopt(present)).until_utc_ns == fleet.trust().read(present.chain).not_after_utc_ns


async def test_only_configured_drivers_are_enabled_and_restarted() -> None:
    node = FakeNode()
    doors, _ = make(ThrowAwayFleet(), node)
    await doors.enable_driver("qpu", enabled=True)
    await doors.enable_driver("qpu", enabled=False)  # it does not run, so there is nothing to do
    assert node.log == ["qpu True"]
    for name in ("none", "qpu"):
        with pytest.raises(QedgeError) as error:
            await doors.restart_workers(name)
        assert error.value.code == "driver.not_found"
    with pytest.raises(QedgeError):
        await doors.enable_driver("none", enabled=True)


@pytest.mark.parametrize(("enabled", "standalone"), [(False, False), (True, True)])
def test_a_node_without_a_fleet_or_told_so_takes_no_commands(enabled: bool, standalone: bool) -> None:
    config = SimpleNamespace(fleet=FleetConfig(CommandsConfig(enabled=enabled)))
    tools = cast("Tools", SimpleNamespace(config=config, me=SimpleNamespace(standalone=standalone)))
    nothing = cast("Node", None)
    power = Power(lambda: None, lambda: None)
    assert make_fleet(tools, nothing, cast("Bus", None), {}, power, lambda _name, _enabled: None) is None
