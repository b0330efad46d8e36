"""How the fleet tool draws, and what a script learns from its exit code."""

from __future__ import annotations

from qedge.cli.fleet.lines import age, command_lines, inventory_lines, progress_line, rollout_lines, trail_lines
from qedge.cli.fleet.tool import exit_code
from qedge.cli.terminal import Terminal
from qedge.client.fleet_tool.model import Ending, FleetNode, NodeStanding, SentCommand
from qedge.client.fleet_tool.rollout import Rollout
from qedge.client.fleet_tool.rollout_plan import Asked, Heard, Order, RolloutPlan, cut_waves
from qedge.client.fleet_tool.rollout_view import view_of
from qedge.client.fleet_tool.trail import Act, TrailEntry, TrailLine

PLAIN = Terminal(width=120)
NOW = 1_800_000_000_000_000_000
ID = "00000000-0000-7000-8000-000000000001"


def sent(node: str, ending: Ending, **more: object) -> SentCommand:
    return SentCommand(ID, node, "drain", ending, **more)  # type: ignore[arg-type] # fields of the struct


def test_an_inventory_shows_what_a_node_says_without_letting_it_steer_the_terminal() -> None:
    node = FleetNode("a", NodeStanding.UP, "1.0\x1b[31m", ("edge",), seen_utc_ns=NOW - 90 * 10**9, policy_serial=3)
    lines = inventory_lines([node], NOW, PLAIN)
    assert "\x1b" not in "".join(lines)
    assert "3/-" in lines[1]
    assert "90 s" in lines[1]
    assert inventory_lines([], NOW, PLAIN) == ["no nodes: none has introduced itself at this broker"]


def test_ages_are_told_in_the_unit_that_people_use() -> None:
    ages = [age(NOW - seconds * 10**9, NOW) for seconds in (0, 119, 120, 7200, 200_000)]
    assert ages == ["0 s", "119 s", "2 min", "2 h", "2 d"]
    assert (age(0, NOW), age(NOW + 5, NOW)) == ("never", "0 s")


def test_a_bar_shows_how_many_have_ended_and_how() -> None:
    views = [sent("a", Ending.SUCCESSFUL), sent("b", Ending.FAILED), sent("c", Ending.WAITING)]
    assert progress_line(views, PLAIN).endswith("2/3  1 waiting, 1 successful, 1 failed")
    assert progress_line(views[2:], PLAIN).strip() == "0/1  1 waiting"
    table = command_lines([sent("a", Ending.FAILED, reason="no room\n")], PLAIN)
    assert "no room" in table[1]


def test_an_exit_code_tells_a_failure_from_what_is_still_under_way() -> None:
    assert exit_code([sent("a", Ending.SUCCESSFUL)]) == 0
    assert exit_code([sent("a", Ending.SUCCESSFUL), sent("b", Ending.UNDER_WAY)]) == 75
    assert exit_code([sent("a", Ending.EXPIRED), sent("b", Ending.UNDER_WAY)]) == 1


def test_a_roll_out_shows_its_waves_and_why_nodes_failed() -> None:
    rollout = Rollout(RolloutPlan(ID, "home", "ann", Order("update"), cut_waves(("a", "b"), "1,2"), NOW))
    rollout.take(Asked(NOW, "a", ID, 1, NOW + 10**12))
    rollout.take(Heard(NOW, "a", ID, "failed", "no room"))
    lines = rollout_lines(view_of(rollout), PLAIN)
    assert "1 of 2 nodes reached  stopped: 1 of 1 nodes of wave 1 failed" in lines[0]
    assert "1/1  1 failed" in lines[1]
    assert "0/1  1 waiting" in lines[2]
    assert lines[3] == "  a (wave 1, failed): no room"


def test_a_trail_shows_who_did_what() -> None:
    line = TrailLine(1, TrailEntry(NOW, Act.SENT, "ann", "home", node="a", kind="drain", note="for the move"))
    assert trail_lines([line], PLAIN)[1].split()[:7] == ["1", "2027-01-15", "08:00:00", "ann", "sent", "a", "drain"]
