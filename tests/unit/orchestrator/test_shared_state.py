"""The shared state as a service: said, checked, compared, kept, and renewed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.orchestrator.state.allowance import Allowances, Moments
from qedge.orchestrator.state.hybrid_clock import stamp_of
from qedge.orchestrator.state.model import Entry
from qedge.orchestrator.state.namespaces import NAMESPACES, TOMBSTONE_S
from qedge.orchestrator.state.partners import Rhythm, gateways, partners
from qedge.orchestrator.state.proof import Signer, message_of, topic_of
from qedge.orchestrator.state.sites import Herald, summary_of
from qedge.wire.state import NodeSummary, SharedEntry, StatePut
from tests.integration.fleet_site import ThrowAwayFleet
from tests.unit.mesh.mesh_site import FLEET, until
from tests.unit.orchestrator.state_site import QUICK, StateSite


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[StateSite]:
    made = StateSite(tmp_path)
    yield made
    await made.close()


async def test_what_one_node_puts_is_read_by_all_with_its_writer(site: StateSite) -> None:
    a, b, c = [await site.node(name) for name in "abc"]
    heard: list[Entry] = []
    c.state.watch("settings", heard.append)
    row = await a.state.put("settings", "limit", b"7")
    await until(lambda: b.value("settings", "limit") == c.value("settings", "limit") == b"7")
    found = b.state.get("settings", "limit")
    assert found is not None
    assert (found.writer, found.stamp) == ("a", row.stamp)
    assert [entry.said.value for entry in heard] == [b"7"]


async def test_of_two_words_on_one_key_the_later_counts_and_each_has_its_own_where_it_should(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    await a.state.put("settings", "k", b"first")
    await until(lambda: b.value("settings", "k") == b"first")
    await b.state.put("settings", "k", b"second")
    await until(lambda: a.value("settings", "k") == b"second")
    for node in (a, b):
        await node.state.put("calibration", "qpu", node.name.encode())
    await until(lambda: a.value("calibration", "qpu", "b") == b"b" and b.value("calibration", "qpu", "a") == b"a")
    assert len(a.state.under("calibration", "qpu")) == 2


async def test_a_serial_of_ones_own_never_falls(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    await a.state.put("policy", "serial", serial=7)
    await a.state.put("policy", "serial", serial=5)
    await until(lambda: b.state.get("policy", "serial", "a") is not None)
    found = [node.state.get("policy", "serial", "a") for node in (a, b)]
    assert [row.serial for row in found if row is not None] == [7, 7]


async def test_what_is_deleted_is_gone_everywhere_and_may_be_said_again(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    await a.state.put("settings", "k", b"x")
    await until(lambda: b.value("settings", "k") == b"x")
    await b.state.delete("settings", "k")
    await until(lambda: a.value("settings", "k") is None)
    with pytest.raises(QedgeError) as refused:
        await a.state.delete("settings", "k")
    assert refused.value.code == "state.not_found"
    await a.state.put("settings", "k", b"y")
    await until(lambda: b.value("settings", "k") == b"y")


async def test_nodes_that_missed_everything_get_it_by_comparing(site: StateSite) -> None:
    site.broker.drop = lambda message: "/state" in message.topic or "/shared" in message.topic
    a, b, c = [await site.node(name) for name in "abc"]
    for number in range(40):
        await a.state.put("settings", f"k{number}", b"x")
    await b.state.put("calibration", "qpu", b"y")
    await until(site.alike)
    assert c.value("settings", "k39") == b"x"
    assert c.value("calibration", "qpu", "b") == b"y"


async def test_a_partition_with_words_on_both_sides_heals_to_one_state(site: StateSite) -> None:
    nodes = {name: await site.node(name) for name in "abcd"}
    site.cut = {frozenset(pair) for pair in (("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"))}
    site.broker.drop = lambda message: message.topic.endswith(("state", "shared"))
    await nodes["a"].state.put("settings", "k", b"left")
    await nodes["c"].state.put("settings", "k", b"right")
    await until(lambda: nodes["b"].value("settings", "k") == b"left" and nodes["d"].value("settings", "k") == b"right")
    site.cut = set()
    await until(site.alike)
    assert {node.value("settings", "k") for node in nodes.values()} == {b"right"}


async def test_words_without_a_broker_go_out_with_the_next_connection(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    site.cut = {frozenset("ab")}
    a.bus.connected = False
    await a.state.put("settings", "k", b"offline")
    assert b.value("settings", "k") is None
    await a.bus.connect()
    await until(lambda: b.value("settings", "k") == b"offline")


async def test_a_restart_keeps_what_was_written_and_a_crash_gets_the_rest_from_peers(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    await a.state.put("settings", "old", b"kept")
    await until(lambda: not a.state._book.dirty and b.value("settings", "old") == b"kept")
    await a.state.put("settings", "new", b"unwritten")
    await until(lambda: b.value("settings", "new") == b"unwritten")
    await a.kill()
    site.cut = {frozenset("ab")}
    again = await site.node("a")
    assert again.value("settings", "old") == b"kept"
    site.cut = set()
    await until(lambda: again.value("settings", "new") == b"unwritten")
    row = await again.state.put("settings", "new", b"later")
    before = b.state.get("settings", "new")
    assert before is not None
    assert row.stamp > before.stamp or before.value == b"later"


async def test_who_was_away_longer_than_deletions_are_remembered_gives_up_what_lasts(site: StateSite) -> None:
    a = await site.node("a")
    await a.state.put("settings", "k", b"x")
    await a.state.put("calibration", "qpu", b"x")
    await until(lambda: not a.state._book.dirty)
    await a.store.set_meta("state.seen_utc_ns", str(a.clock.utc_ns() - (TOMBSTONE_S + 60) * 10**9))
    await a.kill()
    again = await site.node("a")
    assert again.value("settings", "k") is None


async def test_entries_of_another_fleet_are_not_taken_from_the_database(site: StateSite, tmp_path: Path) -> None:
    a = await site.node("a")
    await a.state.put("settings", "k", b"x")
    await until(lambda: not a.state._book.dirty)
    await a.kill()
    other = StateSite(tmp_path)
    other.fleet = ThrowAwayFleet("another")
    again = await other.node("a")
    assert again.state.listing().rows == ()
    await other.close()


async def test_a_full_share_is_refused_and_a_namespace_that_evicts_drops_its_oldest(site: StateSite) -> None:
    a = await site.node("a")
    for number in range(NAMESPACES["models"].per_writer):
        await a.state.put("models", f"m{number}", b"x")
    with pytest.raises(QedgeError) as refused:
        await a.state.put("models", "one-more", b"x")
    assert refused.value.code == "state.full"
    await a.state.put("models", "m0", b"changed")
    for number in range(NAMESPACES["templates"].per_writer + 1):
        await a.state.put("templates", f"{number:064x}")
    assert a.state.get("templates", f"{0:064x}") is None
    assert a.state.get("templates", f"{1:064x}") is not None


async def test_values_that_do_not_fit_and_namespaces_that_are_not_there_are_refused(site: StateSite) -> None:
    a = await site.node("a")
    for namespace, value, code in (("settings", bytes(4097), "state.refused"), ("nothing", b"", "state.not_found")):
        with pytest.raises(QedgeError) as refused:
            await a.state.put(namespace, "k", value)
        assert refused.value.code == code


async def test_whoever_waits_for_a_change_hears_of_it_and_of_nothing_else(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    await a.state.put("settings", "old", b"x")
    await until(lambda: b.value("settings", "old") == b"x")
    since = b.state.listing().change
    waiting = asyncio.create_task(b.state.changes("settings", since, 10))
    await asyncio.sleep(0)
    await a.state.put("calibration", "qpu", b"x")
    await a.state.put("settings", "new", b"y")
    assert [row.key for row in (await waiting).rows] == ["new"]
    assert (await b.state.changes("settings", 10**9, 0.01)).rows != ()


async def test_own_entries_are_said_again_before_they_are_forgotten(site: StateSite) -> None:
    a = await site.node("a")
    row = await a.state.put("calibration", "qpu", b"x")
    a.clock.shift_ns = 3 * 86_400 * 10**9
    await a.state._renew()
    found = a.state.get("calibration", "qpu")
    assert found is not None
    assert found.stamp > row.stamp
    assert found.value == b"x"


async def test_programs_of_the_box_write_where_operators_may_and_nowhere_else(site: StateSite) -> None:
    from qedge.daemon.shared_state import StateDesk

    a = await site.node("a")
    desk = StateDesk(a.state)
    await desk.put("settings", "k", StatePut(b"x"))
    assert [row.value for row in desk.find("settings", "k").rows] == [b"x"]
    with pytest.raises(QedgeError) as refused:
        await desk.put("calibration", "k", StatePut(b"x"))
    assert refused.value.code == "state.refused"
    await desk.delete("settings", "k")
    with pytest.raises(QedgeError, match="Nothing stands"):
        desk.find("settings", "k")


async def test_a_disk_that_was_full_gets_everything_once_there_is_room(site: StateSite) -> None:
    a = await site.node("a", QUICK)

    async def full(*_: object, **__: object) -> None:
        raise QedgeError("store.disk_full", "full")

    write, a.store.write = a.store.write, full  # type: ignore[method-assign, assignment]  # as a full disk does
    await a.state.put("settings", "k", b"x")
    assert not await a.state._flush()
    assert a.state._book.dirty
    a.store.write = write  # type: ignore[method-assign]  # room again
    assert await a.state._flush()
    assert not a.state._book.dirty


def test_partners_are_few_and_reach_everybody() -> None:
    names = [f"n{number:03d}" for number in range(200)]
    assert all(len(partners(name, names)) == 8 for name in names)
    reached, new = {"n000"}, {"n000"}
    for _ in range(8):
        new = {other for name in new for other in partners(name, names)} - reached
        reached |= new
    assert reached == set(names)
    assert partners("alone", []) == ()
    assert gateways(["c", "a", "d", "b"]) == ("a", "b", "c")


def test_news_is_passed_on_soon_and_silence_comes_back() -> None:
    rhythm = Rhythm(30 * 10**9)
    rhythm.connected(0, 0.5)
    assert rhythm.due_ns <= 1_200_000_000
    for _ in range(3):
        rhythm.compared(10**9, 0.5, differed=False)
    assert rhythm.due_ns == 31 * 10**9
    rhythm.asked(2 * 10**9, 0.5)
    assert rhythm.due_ns == 3 * 10**9


def test_only_the_first_of_a_site_speaks_and_not_too_often() -> None:
    herald, other = Herald("a", 30 * 10**9), Herald("b", 30 * 10**9)
    one = summary_of("s", ["b", "a"], [NodeSummary(1, 20, 5), NodeSummary(2, 30, 5)])
    assert (one.nodes, one.qpus, one.max_qubits, one.clops) == (2, 3, 30, 10)
    assert herald.look(one, 1) == one
    assert herald.look(one, 2) is None
    assert other.look(one, 1) is None
    changed = summary_of("s", ["b", "a", "c"], [])
    assert herald.look(changed, 10**9) is None
    assert herald.look(changed, 31 * 10**9) == changed


async def test_a_word_of_a_writer_that_is_known_is_checked_without_a_change_of_threads(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    b.clock.stands_ns = b.clock.now_ns()
    await a.state.put("settings", "k", b"1")
    await until(lambda: b.value("settings", "k") == b"1")
    assert b.thread.works == ["verify"]  # its chain takes longer than an event loop has
    b.clock.stands_ns += 10**9
    await a.state.put("settings", "k", b"2")
    await until(lambda: b.value("settings", "k") == b"2")
    assert b.thread.works == ["verify"]
    await a.state.put("settings", "k", b"3")  # at the same moment
    await until(lambda: b.value("settings", "k") == b"3")
    assert b.thread.works == ["verify", "verify"]


async def test_what_is_checked_in_the_loop_is_checked_as_well(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    await a.state.put("settings", "k", b"1")
    await until(lambda: b.value("settings", "k") == b"1")
    b.clock.stands_ns = b.clock.now_ns() + 10**9
    entry = Signer(FLEET, "a", a.key, a.chain).sign(SharedEntry("settings", "k", a.state.listing().rows[0].stamp + 1))
    message = message_of(entry)
    site.broker.publish(topic_of(FLEET, entry), message[:-1] + bytes([message[-1] ^ 1]))
    await until(lambda: "auth.bad_signature" in b.bus.rejected)
    assert b.thread.works == ["verify"]
    assert b.value("settings", "k") == b"1"


def test_what_needs_a_moment_of_the_loop_gets_one_now_and_then() -> None:
    moments = Moments(5_000_000)
    assert moments.take(0)
    assert not moments.take(4_999_999)
    assert moments.take(5_000_000)
    assert not moments.take(9_000_000)


def test_who_says_too_much_is_not_listened_to_for_a_while() -> None:
    allowances = Allowances(10)
    assert sum(allowances.take("n", 0) for _ in range(100)) == 20
    assert allowances.take("other", 0)
    assert not allowances.take("n", 50_000_000)
    assert allowances.take("n", 200_000_000)


def test_a_stamp_of_the_wall_clock_fits_into_63_bits_for_a_long_time() -> None:
    assert stamp_of(4_000_000_000 * 10**9) < 2**63
