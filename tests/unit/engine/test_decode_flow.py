"""The order of rounds and the credit of a decode stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.engine.decoding.flow import Flow
from qedge.engine.decoding.latency import Latencies
from qedge.wire.decode import pack_rounds


def rounds(first: int, number: int = 1, *, closing: bool = False) -> bytes:
    return pack_rounds(first, b"\0" * 2 * number, 2, closing=closing)


def code_of(flow: Flow, message: bytes) -> str:
    with pytest.raises(QedgeError) as caught:
        flow.take(message)
    return caught.value.code


def test_rounds_are_taken_in_order_alone_or_in_batches() -> None:
    flow = Flow(2, 100)
    for first, number in ((0, 1), (1, 5), (6, 1)):
        flow.take(rounds(first, number))
    assert flow.received == 7


def test_a_gap_and_a_repetition_are_refused_and_named() -> None:
    flow = Flow(2, 100)
    flow.take(rounds(0, 3))
    with pytest.raises(QedgeError, match="Round 4 came, and round 3 did not") as gap:
        flow.take(rounds(4))
    assert (gap.value.code, gap.value.details) == ("decode.out_of_order", {"expected": 3, "got": 4})
    with pytest.raises(QedgeError, match="Round 2 came before"):
        flow.take(rounds(2))
    flow.take(rounds(3))
    assert flow.received == 4


def test_more_than_the_credit_is_an_overrun_until_commits_go_out() -> None:
    flow = Flow(2, 8)
    flow.take(rounds(0, 8))
    assert code_of(flow, rounds(8)) == "decode.overrun"
    assert flow.received == 8
    flow.hand_out(3)
    flow.take(rounds(8, 3))
    assert code_of(flow, rounds(11)) == "decode.overrun"


def test_one_message_beyond_the_credit_is_an_overrun() -> None:
    assert code_of(Flow(2, 8), rounds(0, 9)) == "decode.overrun"


def test_a_message_of_another_size_is_refused() -> None:
    assert code_of(Flow(3, 8), rounds(0, 1)) == "decode.bad_frame"


@pytest.mark.parametrize("by_round", [True, False])
def test_a_closed_stream_takes_nothing_more(by_round: bool) -> None:
    flow = Flow(2, 8)
    flow.take(rounds(0))
    if by_round:
        flow.take(rounds(1, closing=True))
    else:
        flow.close()
    assert code_of(flow, rounds(flow.received)) == "decode.closed"
    with pytest.raises(QedgeError):
        flow.close()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4), st.booleans()), max_size=60))
def test_never_more_than_the_credit_is_under_way(steps: list[tuple[int, int, bool]]) -> None:
    flow = Flow(2, 8)
    for ahead, number, commit in steps:
        if commit:
            flow.hand_out(min(flow.received, flow.committed + number))
            continue
        before = flow.received
        try:
            flow.take(rounds(max(0, flow.received + ahead - 1), number))
        except QedgeError:
            assert flow.received == before
        assert flow.received - flow.committed <= 8


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=300), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_quantiles_are_near_the_true_ones(times: list[int], share: float) -> None:
    latencies = Latencies()
    for time_ns in times:
        latencies.add(time_ns)
    rank = max(1, -int(-share * len(times) // 1))
    assert latencies.quantile_ns(share) == pytest.approx(sorted(times)[rank - 1], rel=0.05)
    assert latencies.max_ns == max(times)


def test_without_times_quantiles_are_zero() -> None:
    assert Latencies().quantile_ns(0.99) == 0
