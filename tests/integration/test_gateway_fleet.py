"""Two daemons of one fleet, each with devices: what one decides about a device counts at the other."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from qedge.wire.audit import AuditTrail
from qedge_device.rich import RichDevice
from tests.integration.gateway_site import Attached, GatewayNode, two_running, until

pytestmark = pytest.mark.integration

Pair = tuple[GatewayNode, GatewayNode]
METER = ("--class", "meter", "--segment", "hall")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Share two nodes; every test has devices of its own."""
    with two_running(tmp_path_factory.mktemp("pair")) as nodes:
        yield nodes


def with_key(node: GatewayNode, name: str, seed: bytes) -> Attached:
    """Add a device whose key is one that it has from elsewhere; it is connected and not yet enrolled."""
    device = Attached.invited(node.cli("device", "add", name, *METER), node.port)
    assert isinstance(device.half, RichDevice)
    device.half.kept.seed = seed
    device.half = RichDevice(device.half.kept, os.urandom)
    assert device.connect()
    return device


def test_a_device_that_one_node_revokes_is_refused_at_the_other_within_seconds_and_after_restarts(pair: Pair) -> None:
    here, there = pair
    seed = os.urandom(32)
    device, elsewhere, other = (
        with_key(here, "m1", seed),
        with_key(there, "m1-there", seed),
        with_key(there, "m1", b"o" * 32),
    )
    for each in (device, elsewhere, other):
        each.open_session()
        assert each.say("temperature", b"1")
    here.cli("device", "revoke", "m1", "--reason", "stolen")
    until(elsewhere.ended.is_set, "the other node lets it go on", limit_s=5)
    assert there.device("m1-there").revoked_at == "box-1"
    assert "box-1: its key counts at no node" in there.cli("device", "show", "m1-there")
    assert not elsewhere.connect()
    [row] = [each for each in there.audit("m1-there") if each.action == "bar"]
    assert row.rule == "revoked"
    assert other.say("temperature", b"2")  # of the same name, and another key
    there.daemon.kill()
    here.daemon.stop()
    there.start()
    try:
        assert not elsewhere.connect()
        thief = with_key(there, "thief", seed)
        assert thief.half.hello() is not None
        thief.publish(thief.half.hello_topic, thief.half.hello())
        until(lambda: there.metric('qedge_device_enrolments_total{outcome="auth.revoked"}') >= 1)
        thief.close()
    finally:
        here.start()
    until(other.connect)
    for each in (device, elsewhere, other):
        each.close()


def test_a_device_of_one_node_is_nobody_at_the_other(pair: Pair) -> None:
    here, there = pair
    device = here.attach("wanderer", *METER)
    assert device.say("temperature", b"1")
    device.port = there.port
    assert not device.connect()
    assert device.code == 135  # not authorized
    rows = there.audit("wanderer", AuditTrail.DENIALS) + there.audit("wanderer")
    assert rows == []
    device.port = here.port
    device.rejoin()
    assert device.say("temperature", b"2")
    device.close()


def test_a_quarantine_at_one_node_holds_at_the_other_until_it_is_lifted(pair: Pair) -> None:
    here, there = pair
    devices = [each.attach("shared", *METER, constrained=True) for each in pair]
    assert all(device.say("temperature", b"1") for device in devices)
    here.cli("device", "quarantine", "shared", "--reason", "stolen tools")
    until(devices[1].ended.is_set, "the other node lets it go on")
    assert there.device("shared").quarantined
    [incident] = there.incidents("shared")
    assert (incident.node, incident.state) == ("box-1", "contained")  # it is that of the other node
    assert not devices[1].connect()
    here.cli("device", "release", "shared")
    until(lambda: not there.device("shared").quarantined, "the other node goes on holding it")
    devices[1].rejoin()
    assert devices[1].say("temperature", b"2")
    for device in devices:
        device.close()
