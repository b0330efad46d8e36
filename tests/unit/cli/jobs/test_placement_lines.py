"""What people see of placement: where a job would run and why not elsewhere, and how busy nodes are."""

from __future__ import annotations

import argparse

from qedge.cli.jobs import submit
from qedge.cli.jobs.submit import make_submission, placement_lines
from qedge.cli.peers import peers
from qedge.cli.terminal import Terminal
from qedge.wire.jobs import LatencyClass, PlacementPolicy
from qedge.wire.load import ConsideredView, LoadView, PlacementView
from qedge.wire.mesh import PeerList, PeerState, PeerView

PLAIN = Terminal(width=200)
QASM = "qreg q[1]; creg c[1]; measure q -> c;"


def parsed(*words: str) -> argparse.Namespace:
    """Parse the arguments of `qedge submit`."""
    parser = argparse.ArgumentParser()
    submit.add_arguments(parser)
    return parser.parse_args(["p.qasm", *words])


def test_what_the_command_line_says_of_placement_reaches_the_node() -> None:
    words = ("--class", "batch", "--placement", "local-first", "--label", "roof", "--avoid", "b", "--qkd-backed")
    sent = make_submission(parsed(*words), QASM)
    assert (sent.latency_class, sent.placement) == (LatencyClass.BATCH, PlacementPolicy.LOCAL_FIRST)
    assert (sent.labels, sent.avoid, sent.qkd_backed) == (("roof",), ("b",), True)
    plain = make_submission(parsed(), QASM)
    assert (plain.latency_class, plain.placement) == (LatencyClass.INTERACTIVE, None)


def test_the_table_names_the_chosen_node_and_each_reason() -> None:
    view = PlacementView(
        "b",
        "fastest",
        0.02,
        (ConsideredView("b", 0.02, 0.015, ""), ConsideredView("a", 0.0, 0.0, "it has 5 qubits, the job needs 9")),
    )
    head, _, first, second = placement_lines(view, PLAIN)
    assert head == "by fastest it would run on b"
    assert first.split()[:4] == ["b", "*", "15.0", "ms"]
    assert "it has 5 qubits, the job needs 9" in second
    assert placement_lines(PlacementView("", "pack", 0.0, ()), PLAIN)[0] == "nobody can run it"


def test_peers_show_how_busy_and_how_well_nodes_are() -> None:
    busy = LoadView(2, 0, (0, 1, 4), (0.0, 0.1, 9.0), 0.5, "degraded", "temperature degraded", draining=True)
    nodes = (
        PeerView("a", PeerState.ALIVE, own=True, labels=("roof",), load=LoadView(2, 1)),
        PeerView("b", PeerState.ALIVE, load=busy),
        PeerView("c", PeerState.ALIVE),
    )
    _, _, one, other, third = peers.lines(PeerList("f", nodes), PLAIN)
    assert "roof" in one
    assert "1/2 busy" in one
    assert "2/2 busy, 5 wait, draining, degraded: temperature degraded" in other
    assert "busy" not in third
