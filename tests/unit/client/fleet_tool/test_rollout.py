"""Roll-outs in waves: what they stop at, what they undo, how they go on after a crash."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.client.fleet_tool.model import NodeStanding
from qedge.client.fleet_tool.rollout import Rollout
from qedge.client.fleet_tool.rollout_file import RolloutFile, read_rollout
from qedge.client.fleet_tool.rollout_model import Ask, Phase, Step, Withdraw
from qedge.client.fleet_tool.rollout_plan import (
    Asked,
    Event,
    Heard,
    Order,
    Passed,
    RolloutPlan,
    Said,
    Seen,
    Withdrawn,
    Word,
    cut_waves,
)
from qedge.client.fleet_tool.rollout_view import view_of

SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND
NAMES = tuple(f"n{number:02}" for number in range(20))


def an_id(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012x}"


def a_plan(waves: str = "1,25%,100%", **changes: object) -> RolloutPlan:
    plan = RolloutPlan(an_id(1), "home", "ann", Order("update"), cut_waves(NAMES, waves), START)
    return msgspec.structs.replace(plan, **changes)


class Hand:
    """Drives an engine on a virtual clock, as a tool whose nodes answer as they are told."""

    def __init__(self, plan: RolloutPlan) -> None:
        self.rollout = Rollout(plan)
        self.utc_ns = START
        self.events: list[Event] = []
        self.ids = 100
        self.open: dict[str, str] = {}
        self.withdrawn: list[tuple[str, bool]] = []

    def stands(self) -> Phase:
        return self.rollout.phase

    def take(self, event: Event) -> bool:
        changed = self.rollout.take(event)
        if changed:
            self.events.append(event)
        return changed

    def act(self) -> list[str]:
        """Do what is wanted; returns the nodes that were asked."""
        asked = []
        for effect in self.rollout.wanted():
            if isinstance(effect, Withdraw):
                self.withdrawn.append((effect.node, effect.taken))
                self.take(Withdrawn(self.utc_ns, effect.node, effect.id))
            elif isinstance(effect, Ask):
                self.ids += 1
                expires = self.utc_ns + round(self.rollout.plan.expires_s * 1e9)
                self.take(Asked(self.utc_ns, effect.node, an_id(self.ids), self.ids, expires, effect.back))
                self.open[effect.node] = an_id(self.ids)
                asked.append(effect.node)
        return asked

    def say(self, node: str, state: str, reason: str = "") -> None:
        self.take(Heard(self.utc_ns, node, self.open[node], state, reason))

    def see(self, node: str, standing: NodeStanding = NodeStanding.UP, version: str = "2", epoch: int = 1) -> None:
        self.take(Seen(self.utc_ns, node, standing, version, epoch))

    def wait(self, seconds: float) -> None:
        self.utc_ns += round(seconds * 1e9)
        self.take(Passed(self.utc_ns))

    def wave(self, state: str = "successful") -> list[str]:
        """Ask one wave, and let all its nodes end so."""
        asked = self.act()
        for node in asked:
            self.say(node, "executing")
            self.say(node, state)
        return asked


def test_waves_reach_more_and_more_nodes_and_each_soaks_before_the_next() -> None:
    hand = Hand(a_plan())
    sizes = []
    while not hand.rollout.ended:
        sizes.append(len(hand.wave()))
        assert hand.stands() is Phase.SOAKING
        assert hand.act() == []
        hand.wait(59.9)
        assert hand.stands() is Phase.SOAKING
        assert hand.rollout.due_utc_ns() == hand.utc_ns + SECOND // 10
        hand.wait(0.1)
    assert sizes == [1, 4, 15]
    assert hand.stands() is Phase.DONE
    assert view_of(hand.rollout).waves[2].steps == {"healthy": 15}


def test_a_failure_in_the_first_wave_reaches_nobody_else() -> None:
    hand = Hand(a_plan())
    hand.wave("failed")
    assert hand.act() == []
    assert hand.stands() is Phase.STOPPED
    assert hand.rollout.asked == 1
    assert "1 of 1 nodes of wave 1" in hand.rollout.reason


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (lambda hand: hand.see("n00", NodeStanding.LOST), "lost"),
        (lambda hand: hand.see("n00", version="1"), "version 1"),
        (lambda hand: (hand.wait(10), hand.see("n00", epoch=9)), "started anew"),
    ],
)
def test_a_node_that_is_not_well_at_the_end_of_soaking_has_failed(what: object, reason: str) -> None:
    hand = Hand(a_plan(expect_version="2"))
    hand.see("n00")
    hand.wave()
    assert callable(what)
    what(hand)
    hand.wait(60)
    assert hand.stands() is Phase.STOPPED
    assert reason in hand.rollout.nodes["n00"].reason


def test_a_restart_that_the_command_itself_made_is_no_fault_though_its_birth_comes_late() -> None:
    hand = Hand(a_plan(expect_version="2"))
    hand.see("n00", version="1", epoch=1)
    hand.wave()
    hand.wait(2)
    hand.see("n00", version="2", epoch=2)
    hand.wait(60)
    assert hand.rollout.wave == 1


def test_as_many_may_fail_as_the_plan_tolerates_and_no_more() -> None:
    for failing, phase in ((3, Phase.SOAKING), (4, Phase.STOPPED)):
        hand = Hand(a_plan("1,100%", max_share=0.17))
        hand.wave()
        hand.wait(60)
        for number, node in enumerate(hand.act()):
            hand.say(node, "failed" if number < failing else "successful")
        assert hand.stands() is phase


def test_no_more_nodes_are_at_it_at_once_than_the_plan_allows() -> None:
    hand = Hand(a_plan("100%", parallel=3))
    asked = hand.act()
    assert len(asked) == 3
    assert hand.act() == []
    hand.say(asked[0], "successful")
    assert len(hand.act()) == 1
    hand.say(asked[1], "failed")
    assert hand.act() == []
    assert hand.rollout.asked == 4


def test_the_wave_in_which_it_stopped_is_undone_and_what_nobody_began_is_withdrawn() -> None:
    hand = Hand(a_plan("2,10,100%", back=Order("update-rollback")))
    hand.wave()
    hand.wait(60)
    asked = hand.act()
    hand.say(asked[0], "successful")
    hand.say(asked[1], "executing")
    hand.say(asked[2], "init")
    hand.say(asked[3], "failed", "no room")
    assert hand.stands() is Phase.STOPPING
    originals = dict(hand.open)
    # what failed has undone itself; what is under way is cancelled, and undone should it end well all the same
    assert hand.act() == [asked[0]]
    assert set(hand.withdrawn) == {(asked[1], True), (asked[2], True), *((node, False) for node in asked[4:])}
    hand.say(asked[0], "successful")
    hand.say(asked[1], "successful")
    assert hand.act() == [asked[1]]
    hand.say(asked[1], "failed", "still no room")
    # this one was faster than what took its request back
    hand.take(Heard(hand.utc_ns, asked[4], originals[asked[4]], "executing"))
    assert (hand.act(), hand.withdrawn[-1]) == ([], (asked[4], True))
    assert hand.stands() is Phase.STOPPING
    for node in (asked[2], asked[4]):
        hand.take(Heard(hand.utc_ns, node, originals[node], "failed", "cancelled"))
    assert hand.rollout.due_utc_ns() == hand.utc_ns + 5 * SECOND
    hand.wait(5)
    assert hand.stands() is Phase.STOPPED
    steps = view_of(hand.rollout).waves[1].steps
    assert steps == {"undone": 1, "stuck": 1, "failed": 3, "withdrawn": 3}
    assert hand.rollout.nodes[NAMES[0]].step is Step.HEALTHY


def test_a_node_that_is_not_well_after_it_is_undone_with_its_wave() -> None:
    hand = Hand(a_plan("2,100%", back=Order("update-rollback")))
    hand.wave()
    hand.see("n00", NodeStanding.LOST)
    hand.wait(60)
    assert hand.act() == ["n00", "n01"]
    hand.say("n01", "successful")
    hand.wait(4000)
    assert hand.stands() is Phase.STOPPED
    assert (hand.rollout.nodes["n00"].step, hand.rollout.nodes["n01"].step) == (Step.STUCK, Step.UNDONE)


def test_an_operator_can_undo_all_of_it() -> None:
    hand = Hand(a_plan("2,10,100%", back=Order("back")))
    hand.wave()
    hand.wait(60)
    hand.wave()
    hand.take(Said(hand.utc_ns, Word.BACK, "ann"))
    assert len(hand.act()) == 10
    for node in NAMES[:10]:
        hand.say(node, "successful")
    assert hand.stands() is Phase.ABORTED
    assert not hand.take(Said(hand.utc_ns, Word.PAUSE, "ann"))


def test_a_node_that_has_a_withdrawn_request_after_its_time_and_then_falls_silent_does_not_hold_the_end() -> None:
    hand = Hand(a_plan("2,100%", time_limit_s=50.0, expires_s=10.0))
    quiet, busy = hand.act()
    hand.say(busy, "executing")
    hand.take(Said(hand.utc_ns, Word.ABORT, "ann"))
    hand.act()
    hand.wait(40)  # the request has expired
    hand.say(quiet, "init")
    hand.act()
    hand.say(busy, "successful")
    assert hand.stands() is Phase.STOPPING
    for _ in range(4):  # times that it was to come back at, of which some are over
        if (due_utc_ns := hand.rollout.due_utc_ns()) is not None:
            hand.wait((due_utc_ns - hand.utc_ns) / SECOND)
    assert hand.stands() is Phase.ABORTED


def test_whoever_takes_the_events_again_comes_back_at_the_same_time() -> None:
    hand = Hand(a_plan("1,100%", soak_s=30.0, expires_s=100.0))
    hand.wave()
    hand.wait(31)
    hand.wait(400)  # the time limit of a node that has long ended
    again = Rollout(hand.rollout.plan)
    assert all(again.take(event) for event in hand.events)
    assert again.due_utc_ns() == hand.rollout.due_utc_ns()


def test_a_paused_roll_out_asks_nobody_and_soaks_anew_when_it_goes_on() -> None:
    hand = Hand(a_plan())
    hand.wave()
    hand.wait(50)
    hand.take(Said(hand.utc_ns, Word.PAUSE, "ann"))
    hand.wait(1000)
    assert (hand.rollout.phase, hand.act()) == (Phase.SOAKING, [])
    hand.take(Said(hand.utc_ns, Word.RESUME, "ann"))
    hand.wait(50)
    assert hand.stands() is Phase.SOAKING
    hand.wait(10)
    assert hand.stands() is Phase.SENDING


def test_a_wave_does_not_wait_for_absent_nodes_but_never_passes_without_one_that_did_it() -> None:
    hand = Hand(a_plan("2,100%", expires_s=600.0))
    hand.see("n00", NodeStanding.LOST)
    hand.act()
    hand.say("n01", "successful")
    assert hand.stands() is Phase.SOAKING
    other = Hand(a_plan("2,100%", expires_s=600.0))
    for node in ("n00", "n01"):
        other.see(node, NodeStanding.LOST)
    other.act()
    other.wait(300)
    assert other.stands() is Phase.SENDING
    assert other.act() == []
    other.wait(400)
    assert (other.rollout.phase, other.rollout.reason) == (Phase.STOPPED, "no node of the wave did it")


def test_a_node_that_does_not_answer_or_end_in_time_has_failed() -> None:
    for state, reason in (("", "not answer"), ("executing", "not end")):
        hand = Hand(a_plan("1,100%", expires_s=600.0, time_limit_s=100.0))
        hand.act()
        if state:
            hand.say("n00", state)
        hand.wait(700)
        assert hand.stands() is Phase.STOPPED
        assert reason in hand.rollout.nodes["n00"].reason


def test_what_is_not_new_changes_nothing_and_is_not_written_down() -> None:
    hand = Hand(a_plan())
    hand.see("n00")
    assert not hand.take(Seen(hand.utc_ns, "n00", NodeStanding.UP, "2", 1))
    assert not hand.take(Seen(hand.utc_ns, "stranger", NodeStanding.LOST))
    hand.act()
    hand.say("n00", "executing")
    assert not hand.take(Heard(hand.utc_ns, "n00", hand.open["n00"], "executing"))
    assert not hand.take(Heard(hand.utc_ns, "n00", an_id(9), "failed"))
    assert not hand.take(Heard(hand.utc_ns, "n01", hand.open["n00"], "failed"))
    assert not hand.take(Withdrawn(hand.utc_ns, "n00", hand.open["n00"]))
    assert not hand.take(Asked(hand.utc_ns, "n00", an_id(8), 8, hand.utc_ns))


def test_a_roll_out_read_again_at_any_point_stands_where_it_stood(tmp_path: Path) -> None:
    hand = Hand(a_plan("2,10,100%", back=Order("back", b"\x01\x02"), max_failures=1))
    path = tmp_path / f"{an_id(1)}.jsonl"
    file = RolloutFile.create(path, hand.rollout.plan)
    written = 0

    def same() -> None:
        nonlocal written
        assert file.take(hand.events[written:]) is (written < len(hand.events))
        written = len(hand.events)
        again = read_rollout(path)
        assert view_of(again) == view_of(hand.rollout)
        assert again.wanted() == hand.rollout.wanted()

    hand.see("n03", NodeStanding.LOST)
    hand.wave()
    same()
    hand.wait(60)
    same()
    asked = hand.act()
    same()
    hand.say(asked[2], "successful")
    for node in asked[:2]:
        hand.say(node, "failed", "broken")
        same()
    assert hand.act() == [asked[2]]
    same()
    hand.say(asked[2], "successful")
    same()
    hand.wait(5)
    same()
    assert hand.stands() is Phase.STOPPED
    file.close()


def test_a_file_with_a_torn_end_goes_on_and_an_altered_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    file = RolloutFile.create(path, a_plan())
    file.take([Seen(START, "n00", NodeStanding.LOST)])
    with pytest.raises(QedgeError) as caught:
        RolloutFile.open(path)
    assert caught.value.code == "fleet.busy"
    file.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type":"said","utc')
    again = RolloutFile.open(path)
    assert again.rollout.nodes["n00"].standing is NodeStanding.LOST
    assert path.read_bytes() == whole
    again.close()
    path.write_bytes(whole + b"rubbish\n")
    with pytest.raises(QedgeError) as caught:
        RolloutFile.open(path)
    assert caught.value.code == "fleet.rollout_damaged"
    with pytest.raises(QedgeError) as caught:
        RolloutFile.open(tmp_path / "none.jsonl")
    assert caught.value.code == "fleet.no_rollout"
    with pytest.raises(QedgeError):
        RolloutFile.create(path, a_plan())


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ("1,10%,50%,100%", [1, 1, 8, 10]),
        ("100%", [20]),
        ("3", [3, 17]),
        ("1,1,2", [1, 1, 18]),
        ("50", [20]),
    ],
)
def test_waves_are_cut_by_numbers_and_shares_of_all(sizes: str, found: list[int]) -> None:
    waves = cut_waves(NAMES, sizes)
    assert [len(wave) for wave in waves] == found
    assert sum(waves, ()) == NAMES


@pytest.mark.parametrize("sizes", ["", "0", "x", "101%", "-1", "5,3", "10%,5%", "1.5"])
def test_waves_that_make_no_sense_are_refused(sizes: str) -> None:
    with pytest.raises(QedgeError) as caught:
        cut_waves(NAMES, sizes)
    assert caught.value.code == "fleet.bad_waves"


def test_a_roll_out_to_nobody_or_to_one_twice_is_refused() -> None:
    for names in ((), ("a", "a")):
        with pytest.raises(QedgeError):
            cut_waves(names, "1")
