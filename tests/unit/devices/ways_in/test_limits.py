from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qedge.base.bucket import Bucket
from qedge.devices.ways_in.addresses import MAX_ADDRESSES, Addresses, AddressLimits, address_of
from qedge.devices.ways_in.rates import Throttles
from qedge.devices.ways_in.wheel import Wheel

SECOND = 10**9
LIMITS = AddressLimits(max_connections=3, connects_per_s=10, burst=5)


@given(st.lists(st.integers(0, 300_000_000), min_size=1, max_size=200))
def test_a_bucket_never_lets_more_pass_than_rate_and_burst(gaps: list[int]) -> None:
    bucket, now, passed = Bucket(10, 5, 0), 0, 0
    for gap in gaps:
        now += gap
        passed += bucket.try_take(now)
    assert passed <= 5 + 10 * now / SECOND + 1e-6


def test_a_debt_says_when_it_is_paid() -> None:
    bucket = Bucket(10, 5, 0)
    assert bucket.take(5, 0) == 0
    assert abs(bucket.take(3, 0) - 0.3) < 1e-9
    assert bucket.take(0, SECOND) == 0


def test_a_throttle_holds_until_it_is_lifted_and_never_raises_the_default() -> None:
    throttles = Throttles(100)
    assert throttles.may_send("d", 0)
    throttles.throttle("d", 1, 0)
    assert throttles.rate("d") == 1
    assert [throttles.may_send("d", 0) for _ in range(3)] == [True, False, False]
    assert throttles.may_send("d", SECOND)
    throttles.throttle("d", 10_000, 0)
    assert throttles.rate("d") == 100
    throttles.throttle("d", 0, 0)
    assert throttles.rate("d") == 100


def test_an_address_has_so_many_connections_and_attempts() -> None:
    addresses = Addresses(LIMITS)
    assert [addresses.arrive("a", 0) for _ in range(4)] == ["", "", "", "too_many_of_address"]
    for _ in range(3):
        addresses.leave("a", 0)
    assert [addresses.arrive("a", 0) for _ in range(3)] == ["", "", "too_often"]
    assert addresses.arrive("b", 0) == ""


def test_failures_double_the_wait_and_are_forgiven() -> None:
    addresses = Addresses(AddressLimits(100, 1000, 1000))
    now = 0
    for _ in range(5):
        assert addresses.arrive("a", now) == ""
        addresses.failed("a", now)
    waits = []
    for _ in range(4):
        assert addresses.arrive("a", now) == ""
        addresses.failed("a", now)
        assert addresses.arrive("a", now) == "waiting_after_failures"
        start = now
        while addresses.arrive("a", now):
            now += SECOND // 4
        addresses.leave("a", now)
        waits.append((now - start) / SECOND)
    assert waits == [1, 2, 4, 8]
    addresses.failed("a", now + 1200 * SECOND)
    assert addresses.arrive("a", now + 1200 * SECOND) == ""


def test_an_address_that_is_blocked_comes_in_again_when_the_time_is_over_or_the_block_lifted() -> None:
    addresses = Addresses(LIMITS)
    addresses.block("a", 5 * SECOND, 0)
    addresses.sweep(SECOND)
    assert addresses.arrive("a", SECOND) == "waiting_after_failures"
    addresses.block("a", SECOND, SECOND)
    assert addresses.arrive("a", SECOND) == ""
    addresses.block("b", 5 * SECOND, 0)
    assert addresses.arrive("b", 5 * SECOND) == ""


def test_the_table_of_addresses_has_a_bound_and_forgets_what_is_idle() -> None:
    addresses = Addresses(LIMITS)
    for number in range(MAX_ADDRESSES + 500):
        assert addresses.arrive(str(number), 0) == ""
        addresses.leave(str(number), 0)
    assert len(addresses) <= MAX_ADDRESSES
    addresses.sweep(10 * SECOND)
    assert len(addresses) == 0
    for number in range(MAX_ADDRESSES):
        addresses.arrive(str(number), 0)
    assert addresses.arrive("one more", 0) == "too_many_addresses"


def test_an_address_of_ipv6_is_its_network() -> None:
    assert address_of("192.0.2.1") == "192.0.2.1"
    assert address_of("2001:db8::1") == address_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert address_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert address_of("fe80::1%eth0") == "fe80::/64"


@given(st.lists(st.integers(0, 10**10), max_size=60), st.lists(st.integers(0, 10**9), max_size=60))
def test_a_wheel_gives_everything_once_and_never_early(due: list[int], steps: list[int]) -> None:
    wheel: Wheel[int] = Wheel(10**8, 0)
    for number, at in enumerate(due):
        wheel.add(number, at)
    now, seen = 0, set()
    for step in [*steps, 2 * 10**10]:
        now += step
        for number in wheel.due(now):
            assert due[number] <= now
            assert number not in seen
            seen.add(number)
        assert all(number in seen for number, at in enumerate(due) if at + 10**8 <= now)
    assert len(seen) == len(due)
    assert len(wheel) == 0


def test_what_is_removed_from_a_wheel_is_kept_no_longer_and_what_is_added_again_comes_once() -> None:
    wheel: Wheel[str] = Wheel(10, 0)
    for name in ("gone", "moved"):
        wheel.add(name, 50)
    wheel.remove("gone")
    wheel.remove("never there")
    wheel.add("moved", 90)
    assert wheel.due(80) == []
    assert wheel.due(90) == ["moved"]
    assert len(wheel) == 0
    assert not wheel._slots
