"""Who is in the fleet, by what proves itself."""

from __future__ import annotations

import os

from qedge.client.fleet_tool.inventory import Inventory
from qedge.client.fleet_tool.model import FleetNode, NodeStanding
from qedge.crypto.keys import generate
from qedge.crypto.model import Member, Role, Subject
from qedge.mesh.pulse import PulseChain, pulse_binding
from qedge.wire.mesh import Birth, Lost, Pulse

KEY = generate("ml-dsa-44", os.urandom).public_key
NOW = 1_800_000_000_000_000_000
INSTANCE = b"0123456789abcdef"


def member(name: str) -> Member:
    return Member(Subject("home", Role.NODE, name), KEY.key_id, KEY, KEY.algorithm, 0, NOW * 2, ())


def birth(name: str = "a", *, epoch: int = 1, utc_ns: int = NOW, state: str = "up", anchor: bytes = b"") -> Birth:
    return Birth("home", name, "1.0", "boot", epoch, utc_ns, False, state, INSTANCE, 1000, anchor, 16 if anchor else 0)


def told(inventory: Inventory, name: str = "a") -> FleetNode:
    node = inventory.node(name)
    assert node is not None
    return node


def test_an_older_birth_never_hides_a_newer_one() -> None:
    inventory = Inventory()
    assert inventory.born(birth(epoch=2), member("a"), NOW, retained=False) is not None
    for late in (birth(epoch=1, utc_ns=NOW + 9), birth(epoch=2), birth(epoch=2, utc_ns=NOW - 1)):
        assert inventory.born(late, member("a"), NOW, retained=False) is None
    assert inventory.born(birth(epoch=2, utc_ns=NOW + 1, state="leaving"), member("a"), NOW, retained=False) is not None
    assert told(inventory).state is NodeStanding.LEAVING


def test_a_box_that_was_enrolled_anew_is_known_by_its_new_key_though_it_counts_from_one_again() -> None:
    inventory = Inventory()
    key = generate("ml-dsa-44", os.urandom).public_key
    new = Member(Subject("home", Role.NODE, "a"), key.key_id, key, key.algorithm, 5, NOW * 2, ())
    assert inventory.born(birth(epoch=9), member("a"), NOW, retained=True) is not None
    assert inventory.born(birth(utc_ns=NOW + 1), new, NOW, retained=False) is not None
    assert told(inventory).key_id == key.key_id
    assert inventory.born(birth(epoch=10, utc_ns=NOW + 2), member("a"), NOW, retained=True) is None


def test_a_retained_birth_is_as_old_as_it_says() -> None:
    inventory = Inventory()
    inventory.born(birth(utc_ns=NOW - 500), member("a"), NOW, retained=True)
    inventory.born(birth("b", utc_ns=NOW + 500), member("b"), NOW, retained=True)
    assert [node.seen_utc_ns for node in inventory.nodes()] == [NOW - 500, NOW]
    inventory.heard("a", NOW + 7)
    assert told(inventory).seen_utc_ns == NOW + 7
    assert inventory.born(birth("c", state="dancing"), member("c"), NOW, retained=True) is not None
    assert told(inventory, "c").state is NodeStanding.LOST


def test_a_last_will_counts_for_its_own_instance_alone_until_the_node_speaks_again() -> None:
    inventory = Inventory()
    chain = PulseChain(b"s" * 32, 16, pulse_binding("a", 1, INSTANCE))
    inventory.born(birth(anchor=chain.anchor), member("a"), NOW, retained=False)
    assert inventory.lost("a", Lost(1, b"another")) is None
    assert inventory.lost("b", Lost(1, INSTANCE)) is None
    assert inventory.lost("a", Lost(1, INSTANCE)) is not None
    assert inventory.lost("a", Lost(1, INSTANCE)) is None
    assert told(inventory).state is NodeStanding.LOST
    assert inventory.beat("a", Pulse(1, INSTANCE, 3, chain.element(3)), NOW + 3)
    assert (told(inventory).state, told(inventory).seen_utc_ns) == (NodeStanding.UP, NOW + 3)


def test_a_heartbeat_that_is_repeated_forged_or_of_another_birth_proves_nothing() -> None:
    inventory = Inventory()
    chain = PulseChain(b"s" * 32, 16, pulse_binding("a", 1, INSTANCE))
    inventory.born(birth(anchor=chain.anchor), member("a"), NOW, retained=False)
    good = Pulse(1, INSTANCE, 5, chain.element(5))
    assert inventory.beat("a", good, NOW)
    for bad in (
        good,
        Pulse(1, INSTANCE, 4, chain.element(4)),
        Pulse(1, INSTANCE, 6, bytes(32)),
        Pulse(2, INSTANCE, 6, chain.element(6)),
        Pulse(1, b"x", 6, chain.element(6)),
        Pulse(1, INSTANCE, 17, bytes(32)),
    ):
        assert not inventory.beat("a", bad, NOW)
    assert not inventory.beat("b", good, NOW)


def test_nodes_whose_keys_were_revoked_are_forgotten() -> None:
    inventory = Inventory()
    inventory.can("a", {"drain": 3600.0})
    inventory.born(birth(), member("a"), NOW, retained=False)
    assert told(inventory).kinds == ("drain",)
    inventory.drop_revoked(frozenset({"0" * 32}))
    assert len(inventory) == 1
    inventory.drop_revoked(frozenset({KEY.key_id}))
    assert len(inventory) == 0


def test_a_node_whose_heartbeats_cease_is_lost_though_nobody_says_so_until_it_is_heard_again() -> None:
    inventory = Inventory()
    chain = PulseChain(b"s" * 32, 16, pulse_binding("a", 1, INSTANCE))
    inventory.born(birth(anchor=chain.anchor), member("a"), NOW, retained=False)
    inventory.born(birth("b"), member("b"), NOW, retained=False)
    later = NOW + 60 * 10**9
    assert inventory.hush(later) == []  # no heartbeat was ever heard: perhaps one may not listen to them
    assert inventory.beat("a", Pulse(1, INSTANCE, 1, chain.element(1)), NOW)
    assert inventory.hush(NOW + 9 * 10**9) == []
    assert inventory.hush(later, since_utc_ns=later - 10**9) == []  # the tool itself was away
    assert inventory.hush(later) == ["a"]
    assert inventory.hush(later) == []
    assert told(inventory).state is NodeStanding.LOST
    assert inventory.beat("a", Pulse(1, INSTANCE, 2, chain.element(2)), later)
    assert told(inventory).state is NodeStanding.UP
