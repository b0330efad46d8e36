"""`qedge peers`: which policy each node enforces."""

from __future__ import annotations

from qedge.cli.peers.peers import lines
from qedge.cli.terminal import Terminal
from qedge.wire.mesh import PeerList, PeerState, PeerView

PLAIN = Terminal(width=200)


def peer(node: str, policy: int, devices: int = 1, state: PeerState = PeerState.ALIVE) -> PeerView:
    return PeerView(node, state, policy_serial=policy, devices_serial=devices)


def test_a_node_that_enforces_an_older_policy_than_another_is_named_in_a_warning() -> None:
    found = PeerList("f", (peer("a", 12), peer("b", 11), peer("c", 0), peer("d", 0, devices=0)))
    table = lines(found, PLAIN)
    rows = {line.split()[0]: line for line in table[2:6]}
    assert " 12 " in rows["a"]
    assert "11 (old)" in rows["b"]
    assert "own (old)" in rows["c"]  # a file of its own, though the fleet has a policy
    assert "(old)" not in rows["d"]  # takes no devices
    assert table[-1] == "warning: the fleet's newest policy, 12, is not in force at b, c"


def test_nobody_is_behind_where_all_enforce_the_same_or_the_fleet_has_no_policy() -> None:
    for serial in (0, 7):
        gone = peer("c", 3, state=PeerState.LEFT)
        table = lines(PeerList("f", (peer("a", serial), peer("b", serial), *((gone,) if serial else ()))), PLAIN)
        assert not any("warning" in line for line in table)
