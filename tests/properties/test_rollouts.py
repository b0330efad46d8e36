"""Whatever happens to a roll-out, in whatever order: it asks nobody twice, keeps its counts, and can be read again."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.client.fleet_tool.model import NodeStanding
from qedge.client.fleet_tool.rollout import Rollout
from qedge.client.fleet_tool.rollout_model import ENDED, Ask, Phase, Step, Withdraw
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
NAMES = tuple(f"n{number}" for number in range(8))
STATES = ("init", "executing", "successful", "failed", "unheard of")

plans = st.builds(
    lambda waves, parallel, failures, share, back, version: RolloutPlan(
        "00000000-0000-7000-8000-000000000000",
        "home",
        "ann",
        Order("update"),
        cut_waves(NAMES, waves),
        START,
        soak_s=30.0,
        expires_s=100.0,
        time_limit_s=50.0,
        parallel=parallel,
        max_failures=failures,
        max_share=share,
        back=Order("back") if back else None,
        expect_version=version,
    ),
    st.sampled_from(["1,100%", "2,50%,100%", "100%", "1,2,3,4,5,6,7,8"]),
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.booleans(),
    st.sampled_from(["", "2"]),
)
steps = st.one_of(
    st.tuples(st.just("act"), st.integers(1, 8)),
    st.tuples(st.just("say"), st.sampled_from(NAMES), st.sampled_from(STATES), st.booleans()),
    st.tuples(
        st.just("see"),
        st.sampled_from(NAMES),
        st.sampled_from(list(NodeStanding)),
        st.sampled_from("12"),
        st.integers(0, 4),
    ),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 5.0, 31.0, 200.0, 5000.0])),
    st.tuples(st.just("word"), st.sampled_from(list(Word))),
)


@settings(max_examples=150, deadline=None)
@given(plans, st.lists(steps, max_size=60))
def test_whatever_happens_a_roll_out_stays_sound(plan: RolloutPlan, course: list[tuple[object, ...]]) -> None:
    rollout, utc_ns, number = Rollout(plan), START, 0
    written: list[Event] = []
    asked: dict[tuple[str, bool], str] = {}
    did: set[str] = set()
    phases: list[Phase] = []

    def take(event: Event) -> bool:
        changed = rollout.take(event)
        if changed:
            written.append(event)
        return changed

    for step in course:
        utc_ns += 1000
        if step[0] == "act":
            assert isinstance(step[1], int)
            for effect in rollout.wanted()[: step[1]]:
                number += 1
                if isinstance(effect, Ask):
                    assert (effect.node, effect.back) not in asked, "asked twice"
                    assert not effect.back or effect.node in did, "undone where nothing was done"
                    command_id = f"00000000-0000-7000-8000-{number:012x}"
                    asked[effect.node, effect.back] = command_id
                    assert take(Asked(utc_ns, effect.node, command_id, number, utc_ns + 100 * SECOND, effect.back))
                elif isinstance(effect, Withdraw):
                    assert take(Withdrawn(utc_ns, effect.node, effect.id))
        elif step[0] == "say":
            name, state, back = str(step[1]), str(step[2]), bool(step[3])
            if (name, back) in asked:
                take(Heard(utc_ns, name, asked[name, back], state))
                if state == "successful" and not back and rollout.nodes[name].done_utc_ns:
                    did.add(name)
        elif step[0] == "see":
            fields = dict(zip(("type", "node", "standing", "version", "epoch"), ("seen", *step[1:]), strict=True))
            take(msgspec.convert({**fields, "utc_ns": utc_ns}, Seen))
        elif step[0] == "wait":
            assert isinstance(step[1], float)
            utc_ns += round(step[1] * 1e9)
            take(Passed(utc_ns))
        else:
            assert isinstance(step[1], Word)
            take(Said(utc_ns, step[1], "ann"))
        check(rollout)
        phases.append(rollout.phase)
    ends = [phase for phase in phases if phase in ENDED]
    assert len(set(ends)) <= 1
    again = Rollout(plan)
    assert all(again.take(event) for event in written)
    assert view_of(again) == view_of(rollout)
    assert again.wanted() == rollout.wanted()
    finish(again, utc_ns)


def finish(rollout: Rollout, utc_ns: int) -> None:
    """Let nodes answer, and time pass: every roll-out comes to an end."""
    rollout.take(Said(utc_ns, Word.RESUME, "ann"))
    for number in range(1000, 1200):
        if rollout.ended:
            return
        for effect in rollout.wanted():
            if isinstance(effect, Ask):
                command_id = f"00000000-0000-7000-8001-{number:06x}{NAMES.index(effect.node):06x}"
                rollout.take(Asked(utc_ns, effect.node, command_id, number, utc_ns + 100 * SECOND, effect.back))
                if number % 2:
                    rollout.take(Heard(utc_ns, effect.node, command_id, "successful"))
            else:
                rollout.take(Withdrawn(utc_ns, effect.node, effect.id))
        utc_ns += 3700 * SECOND
        rollout.take(Passed(utc_ns))
    raise AssertionError(f"it never ended: {view_of(rollout)}")


def check(rollout: Rollout) -> None:
    """Hold what must always hold."""
    reached = sum(len(wave.nodes) for wave in rollout.waves[: rollout.wave + 1])
    assert rollout.asked <= reached, "a later wave was asked"
    for wave in rollout.waves:
        assert sum(wave.steps.values()) == len(wave.nodes)
        assert min(wave.steps.values()) >= 0
        for step in Step:
            assert wave.steps[step] == sum(node.step is step for node in wave.nodes)
