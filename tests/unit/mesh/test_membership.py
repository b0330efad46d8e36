"""One node's view of its fleet: what makes a peer alive, suspect, dead, gone or double, and what does not."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.mesh.config import MeshConfig
from qedge.mesh.membership import WASTED_HASHES_PER_S, Membership
from qedge.mesh.model import (
    PEER_STATES,
    DuplicatePeer,
    DuplicateSelf,
    Effect,
    Ignored,
    PeerChanged,
    PeerDead,
    PeerForgotten,
    PeerLeft,
    PeerRevoked,
    PeerSuspect,
    PeerUp,
    Probe,
    Rebirth,
)
from qedge.mesh.pulse import PulseChain, pulse_binding
from qedge.mesh.rhythm import GROW_ABOVE, MAX_STEP, SHRINK_BELOW, next_step
from qedge.wire.mesh import Birth, Capability, PeerState, PeerView, Pulse

UTC_NS = 1_800_000_000_000_000_000
MS = 1_000_000
CAPABILITY = Capability("qpu", "qpu", "sim_qpu", "1", True)


class Box:
    """A peer as the test plays it; `at_ms` counts from the start of the test."""

    def __init__(self, name: str = "box-2", epoch: int = 1, instance: bytes = b"a" * 16, pulse_ms: int = 400) -> None:
        self.name, self.epoch, self.instance, self.pulse_ms = name, epoch, instance, pulse_ms
        self.chain = PulseChain(instance * 2, 256, pulse_binding(name, epoch, instance))

    def birth(self, at_ms: int = 0, state: str = "up", **changes: object) -> Birth:
        birth = Birth(
            fleet="f",
            node=self.name,
            version="1",
            boot_id="b",
            epoch=self.epoch,
            utc_ns=UTC_NS + at_ms * MS,
            standalone=False,
            state=state,
            instance=self.instance,
            pulse_ms=self.pulse_ms,
            pulse_anchor=self.chain.anchor,
            pulse_count=self.chain.count,
        )
        return msgspec.structs.replace(birth, **changes)

    def pulse(self, index: int) -> Pulse:
        return Pulse(self.epoch, self.instance, index, self.chain.element(index))


class View:
    """A membership with its clock."""

    def __init__(self, config: MeshConfig | None = None, epoch: int = 3) -> None:
        self.at_ms = 0
        self.membership = Membership("box-1", epoch, b"m" * 16, UTC_NS, config or MeshConfig())

    @property
    def now_ns(self) -> int:
        return 10**12 + self.at_ms * MS

    def birth(self, birth: Birth, key_id: str = "k") -> Sequence[Effect]:
        return self.membership.birth(birth, key_id, UTC_NS * 2, self.now_ns, UTC_NS + self.at_ms * MS)

    def pulse(self, box: Box, index: int) -> Sequence[Effect]:
        return self.membership.pulse(box.name, box.pulse(index), self.now_ns)

    def until(self, at_ms: int) -> list[Effect]:
        """Tick every 20 ms."""
        effects: list[Effect] = []
        while self.at_ms < at_ms:
            self.at_ms += 20
            effects += self.membership.tick(self.now_ns)
        return effects

    def state(self, node: str = "box-2") -> PeerState | None:
        return self.membership.state(node)

    def peers(self) -> tuple[PeerView, ...]:
        return self.membership.peers(self.now_ns, UTC_NS + self.at_ms * MS)


def test_a_fresh_birth_makes_a_peer_alive() -> None:
    view = View()
    assert view.birth(Box().birth()) == [PeerUp("box-2", 1)]
    assert view.state() is PeerState.ALIVE
    assert view.membership.members == 2


def test_an_old_birth_makes_a_suspect_that_a_heartbeat_makes_alive() -> None:
    view, box = View(), Box()
    assert not view.birth(box.birth(-60_000))
    assert view.state() is PeerState.SUSPECT
    assert view.peers()[0].heard_s == -1.0
    view.until(300)
    assert view.pulse(box, 150) == [PeerUp("box-2", 1)]
    assert view.peers()[0].heard_s == 0.0


def test_an_old_birth_without_a_heartbeat_is_dead_after_the_same_time() -> None:
    view = View()
    view.birth(Box().birth(-60_000))
    assert PeerDead("box-2", 1) in view.until(1500)
    assert view.state() is PeerState.DEAD


def test_a_silent_peer_is_asked_and_then_dead_within_a_second_and_six_tenths() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    quiet = [effect for effect in view.until(1060) if not isinstance(effect, Rebirth)]
    assert quiet == []
    asked = view.until(1460)
    assert asked[0] == PeerSuspect("box-2")
    assert 3 <= asked.count(Probe("box-2")) <= 5
    assert view.until(1500) == [PeerDead("box-2", 1)]
    assert view.until(5000) == []


def test_a_dead_peer_comes_back_with_its_next_heartbeat() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    view.until(4000)
    assert view.state() is PeerState.DEAD
    assert view.pulse(box, 10) == [PeerUp("box-2", 1)]


def test_heartbeats_that_were_held_back_do_not_prolong_a_life() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    for index in range(1, 4):
        view.until(400 * index)
        view.pulse(box, index)
    died = []
    for index in range(4, 12):
        died += view.until(1200 + 900 * (index - 3))
        view.pulse(box, index)
    assert PeerDead("box-2", 1) in died
    assert view.state() is PeerState.DEAD


def test_not_even_the_first_heartbeat_of_a_chain_gains_time_by_coming_late() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    assert PeerDead("box-2", 1) in view.until(2000)
    assert not view.pulse(box, 1)
    assert view.state() is PeerState.DEAD


def test_heartbeats_of_a_box_that_nobody_knows_or_that_made_no_promise_are_nothing() -> None:
    view, box = View(), Box()
    assert not view.pulse(box, 1)
    view.birth(box.birth(-60_000, pulse_anchor=b"", pulse_count=0))
    assert not view.pulse(box, 1)
    assert view.state() is PeerState.SUSPECT


def test_repeated_heartbeats_are_no_signs_of_life() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    view.until(400)
    view.pulse(box, 1)
    effects = []
    for step in range(20):
        effects += view.until(400 + 100 * step)
        view.pulse(box, 1)
    assert PeerDead("box-2", 1) in effects


def test_an_answered_probe_keeps_a_peer_alive() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    view.until(1200)
    assert view.membership.probe_answered("box-2", view.now_ns) == [PeerUp("box-2", 1)]
    assert PeerDead("box-2", 1) not in view.until(2500)


def test_an_older_birth_never_replaces_a_newer_one() -> None:
    view = View()
    view.birth(Box(epoch=5).birth())
    assert view.birth(Box(epoch=4, instance=b"z" * 16).birth(10)) == [Ignored("box-2", "older")]
    assert view.birth(Box(epoch=5).birth(-10)) == [Ignored("box-2", "older")]
    assert not view.birth(Box(epoch=5).birth())
    assert view.peers()[0].epoch == 5


def test_a_restart_is_told_as_a_new_epoch() -> None:
    view = View()
    view.birth(Box().birth())
    view.at_ms = 100
    assert view.birth(Box(epoch=2, instance=b"b" * 16).birth(100)) == [PeerUp("box-2", 2)]


def test_a_peer_that_says_goodbye_has_left_until_a_newer_birth() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    assert view.birth(box.birth(10, "leaving")) == [PeerLeft("box-2", 1)]
    view.at_ms = 400
    assert not view.pulse(box, 1)
    assert not view.membership.contact("box-2", view.now_ns)
    assert view.birth(box.birth(20)) == [Ignored("box-2", "left")]
    assert view.state() is PeerState.LEFT
    assert view.birth(Box(epoch=2, instance=b"b" * 16).birth(400)) == [PeerUp("box-2", 2)]


def test_a_last_will_only_asks_and_two_failed_probes_only_make_a_suspect() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    assert view.birth(box.birth(0, "lost")) == [Probe("box-2")]
    assert view.state() is PeerState.ALIVE
    assert not view.membership.will("box-2", view.now_ns)
    assert view.membership.probe_failed("box-2", view.now_ns) == [Probe("box-2")]
    assert view.membership.probe_failed("box-2", view.now_ns) == [PeerSuspect("box-2"), Probe("box-2")]
    assert not view.membership.probe_failed("box-2", view.now_ns)
    view.at_ms = 400
    assert view.pulse(box, 1) == [PeerUp("box-2", 1)]


def test_a_deleted_birth_changes_nothing_but_the_log() -> None:
    view = View()
    view.birth(Box().birth())
    assert view.membership.deleted("box-2") == [Ignored("box-2", "deleted")]
    assert view.state() is PeerState.ALIVE


def test_capabilities_that_change_are_told() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    view.at_ms = 50
    assert view.birth(box.birth(50, capabilities=(CAPABILITY,))) == [PeerChanged("box-2")]
    assert view.peers()[0].capabilities == (CAPABILITY,)


def test_a_new_chain_of_the_same_run_goes_on_without_a_gap() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    view.at_ms = 300
    slower = Box(pulse_ms=800)
    assert not view.birth(slower.birth(300))
    view.until(1100)
    assert not view.pulse(slower, 1)
    assert [effect for effect in view.until(2900) if isinstance(effect, PeerSuspect)] == []
    assert view.peers()[0].pulse_s == 0.8


def test_a_second_old_birth_gives_a_suspect_no_more_time() -> None:
    view, box = View(), Box()
    view.birth(box.birth(-60_000))
    view.until(1000)
    assert not view.birth(box.birth(-50_000))
    assert PeerDead("box-2", 1) in view.until(1500)


def test_two_births_of_one_epoch_show_a_double_until_one_falls_silent() -> None:
    view, one, two = View(), Box(), Box(instance=b"b" * 16)
    view.birth(one.birth())
    view.at_ms = 100
    assert view.birth(two.birth(100)) == [DuplicatePeer("box-2")]
    for index in range(1, 8):
        view.until(400 * index)
        view.pulse(one, index)
        view.pulse(two, index)
        assert view.state() is PeerState.DUPLICATE
    effects = []
    for index in range(8, 14):
        effects += view.until(400 * index)
        view.pulse(two, index)
    assert PeerUp("box-2", 1) in effects
    assert view.state() is PeerState.ALIVE


def test_an_earlier_run_that_goes_on_beating_shows_a_double() -> None:
    view, one, two = View(), Box(), Box(epoch=2, instance=b"b" * 16)
    view.birth(one.birth())
    view.at_ms = 20
    view.birth(two.birth(20))
    effects: list[Effect] = []
    for index in range(1, 9):
        view.until(400 * index)
        effects += [*view.pulse(one, index), *view.pulse(two, index)]
    assert effects == [DuplicatePeer("box-2")]
    # The lower epoch never takes over, though it may be the one that remains.
    for index in range(9, 20):
        view.until(400 * index)
        view.pulse(one, index)
    assert view.peers()[0].epoch == 2
    assert view.state() is PeerState.DUPLICATE


def test_late_heartbeats_of_the_run_before_a_restart_show_no_double() -> None:
    view, one, two = View(), Box(), Box(epoch=2, instance=b"b" * 16)
    view.birth(one.birth())
    view.until(400)
    view.pulse(one, 1)
    view.birth(two.birth(400))
    view.until(1200)
    assert not view.pulse(one, 2)
    assert not view.pulse(one, 3)


def test_a_dead_box_that_lost_its_count_of_epochs_comes_back_as_itself() -> None:
    view = View()
    view.birth(Box().birth())
    view.until(2000)
    assert view.birth(Box(instance=b"b" * 16).birth(2000)) == [PeerUp("box-2", 1)]


def test_another_box_under_my_name_is_told_and_my_earlier_runs_are_not() -> None:
    view = View()
    assert not view.birth(Box("box-1", 2).birth(5))
    assert not view.birth(Box("box-1", 3, b"m" * 16).birth(5))
    assert view.birth(Box("box-1", 3, b"x" * 16).birth(5)) == [DuplicateSelf(3, b"x" * 16)]
    assert view.birth(Box("box-1", 4, b"x" * 16).birth(5)) == [DuplicateSelf(4, b"x" * 16)]


def test_a_node_that_lost_its_count_of_epochs_takes_a_higher_one() -> None:
    view = View(epoch=1)
    assert view.birth(Box("box-1", 9, b"x" * 16).birth(-5000)) == [Rebirth(0.4, 10)]


def test_a_revoked_key_shuts_its_peer_out_until_it_comes_with_another() -> None:
    view, box = View(), Box()
    view.birth(box.birth(), "old")
    assert view.membership.revoked(["old", "other"], view.now_ns) == [PeerRevoked("box-2")]
    assert view.membership.members == 1
    assert not view.pulse(box, 1)
    assert view.birth(Box(epoch=2).birth(5), "old") == [Ignored("box-2", "revoked")]
    assert view.birth(Box(epoch=2).birth(5), "new") == [PeerUp("box-2", 2)]


def test_a_box_with_a_new_key_comes_back_within_the_same_run() -> None:
    view, box = View(), Box()
    view.birth(box.birth(), "old")
    view.membership.revoked(["old"], view.now_ns)
    view.at_ms = 100
    assert view.birth(box.birth(100), "new") == [PeerUp("box-2", 1)]


def test_an_older_birth_of_another_instance_wakes_no_dead_box() -> None:
    view = View()
    view.birth(Box().birth())
    view.until(2000)
    assert view.birth(Box(instance=b"b" * 16).birth(-10)) == [Ignored("box-2", "older")]


def test_a_double_outlasts_a_standstill_of_the_one_who_sees_it() -> None:
    view, one, two = View(), Box(), Box(instance=b"b" * 16)
    view.birth(one.birth())
    view.birth(two.birth(1))
    assert not view.birth(two.birth(1))
    view.until(100)
    view.at_ms = 60_000
    assert not view.membership.tick(view.now_ns)
    assert view.state() is PeerState.DUPLICATE


def test_the_gone_are_forgotten_after_their_time() -> None:
    view = View(MeshConfig(forget_s=60))
    view.birth(Box().birth())
    assert PeerForgotten("box-2") in view.until(63_000)
    assert view.state() is None


def test_there_are_never_more_peers_than_configured_and_the_gone_make_room() -> None:
    view = View(MeshConfig(max_peers=2))
    view.birth(Box("a").birth())
    view.birth(Box("b").birth())
    assert view.birth(Box("c").birth()) == [Ignored("c", "full")]
    view.birth(Box("a").birth(5, "leaving"))
    assert view.birth(Box("c").birth()) == [PeerForgotten("a"), PeerUp("c", 1)]
    assert [peer.node for peer in view.peers()] == ["b", "c"]


def test_a_node_that_stood_still_does_not_blame_its_peers() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    view.until(400)
    view.at_ms = 60_000
    assert view.membership.tick(view.now_ns) == []
    assert not view.pulse(box, 150)
    assert view.state() is PeerState.ALIVE


def test_false_heartbeats_cost_no_more_than_their_allowance_and_honest_ones_still_pass() -> None:
    view, box = View(), Box()
    view.birth(box.birth())
    forged = Pulse(1, box.instance, 250, b"f" * 32)
    view.until(400)
    view.pulse(box, 1)
    for _ in range(WASTED_HASHES_PER_S // 240):
        view.membership.pulse("box-2", forged, view.now_ns)
    view.until(800)
    view.pulse(box, 2)
    assert view.peers()[0].heard_s == 0.0


def test_false_heartbeats_for_a_box_known_by_an_old_birth_are_refused_when_their_allowance_is_spent() -> None:
    view, box = View(), Box()
    view.birth(box.birth(-60_000))
    forged = Pulse(1, box.instance, 250, b"f" * 32)
    for _ in range(WASTED_HASHES_PER_S // 250 + 2):
        assert not view.membership.pulse("box-2", forged, view.now_ns)
    assert not view.pulse(box, 150)
    view.until(400)
    assert view.pulse(box, 151) == [PeerUp("box-2", 1)]


def test_hundreds_of_silent_peers_are_not_all_asked() -> None:
    view = View()
    for index in range(400):
        view.birth(Box(f"n{index}").birth())
    probes = [effect for effect in view.until(1500) if isinstance(effect, Probe)]
    assert len(probes) <= 30


def test_the_node_lists_itself_first_among_equals() -> None:
    view = View()
    own = Box("box-1", 3, b"m" * 16)
    view.membership.announced(own.birth(), "mine", UTC_NS * 2, view.now_ns)
    view.birth(Box().birth())
    mine, other = view.peers()
    assert (mine.node, mine.own, mine.key_id, mine.state) == ("box-1", True, "mine", PeerState.ALIVE)
    assert (other.own, other.key_id, other.certificate_until_utc_ns) == (False, "k", UTC_NS * 2)


def announce(view: View) -> None:
    own = Box("box-1", 3, b"m" * 16, round(view.membership.period_s() * 1000))
    view.membership.announced(own.birth(view.at_ms), "mine", UTC_NS, view.now_ns)


def test_a_growing_fleet_makes_the_node_announce_a_longer_period_once() -> None:
    view = View()
    announce(view)
    for index in range(250):
        view.birth(Box(f"n{index}").birth())
    assert [effect for effect in view.until(1000) if isinstance(effect, Rebirth)] == [Rebirth(3.2, 3)]
    announce(view)
    assert [effect for effect in view.until(1200) if isinstance(effect, Rebirth)] == []


def test_a_birth_that_was_signed_before_the_period_changed_is_followed_by_another() -> None:
    view = View()
    for index in range(60):
        view.birth(Box(f"n{index}").birth())
    view.membership.tick(view.now_ns)
    assert view.membership.period_s() == 0.8
    view.membership.announced(Box("box-1", 3, b"m" * 16).birth(), "mine", UTC_NS, view.now_ns)
    assert view.membership.tick(view.now_ns) == [Rebirth(0.8, 3)]


def test_a_chain_that_runs_out_makes_the_node_announce_a_new_one() -> None:
    view = View()
    announce(view)
    assert [effect for effect in view.until(101_600 - 40) if isinstance(effect, Rebirth)] == []
    assert view.until(101_600) == [Rebirth(0.4, 3)]


def test_a_fleet_that_shrinks_for_good_brings_the_short_period_back() -> None:
    view = View()
    for index in range(120):
        view.birth(Box(f"n{index}").birth())
    view.membership.tick(view.now_ns)
    announce(view)
    assert view.membership.period_s() == 1.6
    effects = view.until(10_000)
    assert Rebirth(0.4, 3) in effects
    assert view.membership.period_s() == 0.4


@given(st.integers(1, 10_000), st.integers(0, MAX_STEP))
def test_the_period_law_settles_and_bounds_what_a_node_receives(members: int, step: int) -> None:
    after = next_step(step, members)
    assert next_step(after, members) == after
    assert after == MAX_STEP or members / (0.4 * 2**after) <= GROW_ABOVE / 0.4
    assert after == 0 or members >= SHRINK_BELOW << after


def test_every_state_of_a_peer_is_in_the_table() -> None:
    assert {state for state, _ in PEER_STATES.rows} == set(PeerState)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    kinds = st.sampled_from(["birth", "stale", "leave", "lost", "pulse", "contact", "will", "failed", "delete", "wait"])
    return draw(st.lists(st.tuples(kinds, st.integers(1, 3), st.integers(1, 250)), max_size=40))


@pytest.mark.parametrize("clone", [False, True])
@given(history=histories())
def test_no_history_lowers_an_epoch_or_brings_back_the_gone_without_a_proof(
    clone: bool, history: list[tuple[str, int, int]]
) -> None:
    view = View()
    boxes = {epoch: Box(epoch=epoch, instance=bytes((epoch,)) * 16) for epoch in (1, 2, 3)}
    if clone:
        boxes[3] = Box(epoch=2, instance=b"c" * 16)
    for kind, which, number in history:
        box, before = boxes[which], view.peers()
        if kind in ("birth", "leave", "lost", "stale"):
            state = {"leave": "leaving", "lost": "lost"}.get(kind, "up")
            view.birth(box.birth(view.at_ms - (60_000 if kind == "stale" else 0), state))
        elif kind == "pulse":
            view.pulse(box, number)
        elif kind == "contact":
            view.membership.contact("box-2", view.now_ns)
        elif kind == "will":
            view.membership.will("box-2", view.now_ns)
        elif kind == "failed":
            view.membership.probe_failed("box-2", view.now_ns)
        elif kind == "delete":
            view.membership.deleted("box-2")
        else:
            view.until(view.at_ms + number * 20)
        after = view.peers()
        assert view.membership.members == 1 + sum(
            peer.state in (PeerState.ALIVE, PeerState.SUSPECT, PeerState.DUPLICATE) for peer in after
        )
        if before:
            assert after[0].epoch >= before[0].epoch
            back = after[0].state is PeerState.ALIVE
            if back and before[0].state is PeerState.DEAD:
                assert kind in ("birth", "stale", "pulse", "contact")
            if back and before[0].state is PeerState.LEFT:
                assert kind == "birth"
