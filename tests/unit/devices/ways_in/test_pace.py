"""How much of the loop's time devices get that arrive."""

from __future__ import annotations

import asyncio

from qedge.base.clock import ManualClock
from qedge.devices.ways_in.pace import BURST_NS, Pace

MS = 1_000_000


class Thread:
    """The processor time of a thread."""

    def __init__(self) -> None:
        self.used_ns = 0

    def __call__(self) -> int:
        return self.used_ns


def _work(pace: Pace, thread: Thread, took_ns: int, number: int = 1) -> None:
    began_ns = pace.begin()
    thread.used_ns += took_ns
    pace.spent(began_ns, number)


def test_after_a_burst_nothing_is_begun_for_as_long_as_it_took() -> None:
    clock, thread = ManualClock(), Thread()
    pace = Pace(clock, thread)
    for _ in range(3):
        _work(pace, thread, BURST_NS // 4)
        assert pace.rest_s() == 0
    _work(pace, thread, BURST_NS // 4)
    assert pace.rest_s() == BURST_NS / 1e9
    clock.advance_s(BURST_NS / 1e9)
    assert pace.rest_s() == 0


def test_an_arrival_that_waited_for_a_thread_counts_for_a_millisecond_at_most() -> None:
    clock, thread = ManualClock(), Thread()
    pace = Pace(clock, thread)
    _work(pace, thread, 50 * MS)
    assert pace.rest_s() == 0
    _work(pace, thread, 50 * MS, number=8)
    assert pace.rest_s() == 9 * MS / 1e9


async def test_who_waits_for_a_turn_gets_it_when_the_rest_is_over() -> None:
    clock, thread = ManualClock(), Thread()
    pace = Pace(clock, thread)
    _work(pace, thread, BURST_NS, number=8)
    turn = asyncio.ensure_future(pace.turn())
    await asyncio.sleep(0.01)
    assert not turn.done()
    clock.advance_s(1)
    assert await turn == thread.used_ns
