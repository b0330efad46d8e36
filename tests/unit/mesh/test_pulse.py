"""Heartbeats by hash chain: what is accepted, what it costs, and what a late one is worth."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.mesh import pulse as pulse_module
from qedge.mesh.pulse import Heart, PulseChain, PulseCheck, previous, pulse_binding
from qedge.wire.mesh import Birth

SEED = bytes(range(32))
BINDING = pulse_binding("box-1", 7, b"i" * 16)
PERIOD_NS = 400_000_000


def make_check(chain: PulseChain, binding: bytes = BINDING) -> PulseCheck:
    return PulseCheck(chain.anchor, chain.count, binding, PERIOD_NS)


def hashes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted = [0]

    def counting(data: bytes) -> object:
        counted[0] += 1
        return sha256(data)

    monkeypatch.setattr(pulse_module, "sha256", counting)
    return counted


@given(st.integers(1, 300), st.data())
def test_every_element_hashes_to_the_one_before_and_the_first_to_the_anchor(count: int, data: st.DataObject) -> None:
    chain = PulseChain(SEED, count, BINDING)
    index = data.draw(st.integers(1, count))
    before = chain.anchor if index == 1 else chain.element(index - 1)
    assert previous(BINDING, chain.element(index)) == before
    assert chain.element(count) == SEED


def test_a_link_of_the_chain_is_the_documented_hash() -> None:
    element = b"e" * 32
    plain = b"qedge/v1 pulse" + b"\x05box-1" + (7).to_bytes(8, "big") + b"\x10" + b"i" * 16 + element
    assert previous(BINDING, element) == sha256(plain).digest()


def test_a_long_chain_takes_little_memory_and_two_hashes_an_element(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = hashes(monkeypatch)
    chain = PulseChain(SEED, 16384, BINDING)
    most = 0
    for index in range(1, 16385):
        chain.element(index)
        most = max(most, chain.held)
    assert most <= 300
    assert counted[0] <= 2 * 16384


@given(st.lists(st.integers(1, 64), min_size=1, max_size=40))
def test_elements_are_accepted_in_rising_order_only_and_each_once(indices: list[int]) -> None:
    chain = PulseChain(SEED, 64, BINDING)
    check = make_check(chain)
    newest = 0
    for index in indices:
        assert check.accept(index, chain.element(index)) == (index > newest)
        newest = max(newest, index)
        assert check.index == newest


def test_a_forged_or_misnumbered_element_is_refused_and_changes_nothing() -> None:
    chain = PulseChain(SEED, 64, BINDING)
    check = make_check(chain)
    assert not check.accept(3, b"x" * 32)
    assert not check.accept(4, chain.element(5))
    assert not check.accept(65, SEED)
    assert check.accept(1, chain.element(1))


def test_an_element_is_worth_nothing_for_another_node_epoch_or_instance() -> None:
    chain = PulseChain(SEED, 8, BINDING)
    for binding in (
        pulse_binding("box-2", 7, b"i" * 16),
        pulse_binding("box-1", 8, b"i" * 16),
        pulse_binding("box-1", 7, b"j" * 16),
    ):
        assert not make_check(chain, binding).accept(1, chain.element(1))


def test_a_message_never_costs_more_hashes_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = PulseChain(SEED, 2000, BINDING)
    check = make_check(chain)
    element = chain.element(600)
    counted = hashes(monkeypatch)
    assert not check.accept(600, element, max_gap=512)
    assert counted[0] == 0
    assert not check.accept(512, element, max_gap=512)
    assert counted[0] == 512
    assert check.accept(600, element, max_gap=600)
    counted[0] = 0
    assert not check.accept(600, element)
    assert counted[0] == 0


def test_a_heartbeat_that_is_let_go_late_counts_for_when_it_was_due() -> None:
    chain = PulseChain(SEED, 64, BINDING)
    check = make_check(chain)
    born = 5_000_000_000
    for index in range(1, 11):
        assert check.accept(index, chain.element(index))
        assert check.sent_ns(born + index * PERIOD_NS + 7_000_000) <= born + index * PERIOD_NS + 7_000_000 + 1_000_000
    late = born + 60_000_000_000
    assert check.accept(11, chain.element(11))
    due = born + 11 * PERIOD_NS
    assert abs(check.sent_ns(late) - due) < 30_000_000


def test_a_clock_that_runs_slow_within_its_tolerance_never_falls_behind() -> None:
    chain = PulseChain(SEED, 1024, BINDING)
    check = make_check(chain)
    for index in range(1, 1025):
        now = round(index * PERIOD_NS * (1 + 100e-6))
        assert check.accept(index, chain.element(index))
        assert now - check.sent_ns(now) < 1_000_000


def make_birth(count: int) -> tuple[PulseChain, Birth]:
    chain = PulseChain(SEED, count, BINDING)
    birth = Birth("f", "box-1", "1", "b", 7, 0, False, "up", b"i" * 16, 400, chain.anchor, count)
    return chain, birth


def test_a_heart_beats_on_time_leaves_out_what_it_slept_through_and_ends_with_its_chain() -> None:
    chain, birth = make_birth(10)
    heart = Heart(chain, birth, 1000)
    assert heart.due_ns == 1000 + PERIOD_NS
    assert heart.beat(heart.due_ns - 1) is None
    first = heart.beat(heart.due_ns)
    assert first is not None
    assert (first.index, first.epoch, first.instance) == (1, 7, b"i" * 16)
    assert heart.beat(1000 + PERIOD_NS) is None
    later = heart.beat(1000 + 6 * PERIOD_NS + 5)
    assert later is not None
    assert later.index == 6
    before_the_end = heart.exhausted
    last = heart.beat(1000 + 99 * PERIOD_NS)
    assert last is not None
    assert last.index == 10
    assert (before_the_end, heart.exhausted) == (False, True)
    assert heart.beat(1000 + 100 * PERIOD_NS) is None


def test_the_seed_is_not_in_the_text_of_a_chain() -> None:
    assert SEED.hex() not in repr(PulseChain(SEED, 4, BINDING))


@pytest.mark.parametrize(("seed", "count"), [(b"short", 4), (SEED, 0)])
def test_a_chain_without_seed_or_elements_is_refused(seed: bytes, count: int) -> None:
    with pytest.raises(ValueError, match="chain"):
        PulseChain(seed, count, BINDING)


@pytest.mark.parametrize("index", [0, 5])
def test_an_element_beyond_the_chain_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="no element"):
        PulseChain(SEED, 4, BINDING).element(index)
