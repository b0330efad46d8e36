"""Whole key stores: group commit, the conversation of two ends, restarts, full disks, many who ask at once."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.qkd.keys.config import KeyStoreConfig
from qedge.qkd.keys.fake import FakeKeyFleet
from qedge.qkd.keys.key_clock import KeyTime, advance, resume
from qedge.qkd.keys.model import DeliverableKey, FinishedBlock
from qedge.qkd.keys.vault import Vault
from qedge.store.schema import KEY_SCHEMA
from qedge.store.store import Store
from qedge.wire.keys import KeyVoid, KeyVoided, VoidGrant
from tests.unit.qkd.keys.key_site import PROVENANCE
from tests.unit.qkd.keys.store_site import StoreSite, running

OLD = Path(__file__).parents[2] / "store" / "databases"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[StoreSite]:
    """Two nodes with two blocks each way."""
    async with running(tmp_path) as made:
        await made.grow()
        yield made


async def refusal(work: object) -> str:
    with pytest.raises(QedgeError) as error:
        await work  # type: ignore[misc]  # a coroutine or a task
    return error.value.code


async def test_a_key_goes_to_its_master_and_once_to_each_slave(site: StoreSite) -> None:
    keys = await site["a"].reserve("b", "alice", ["bob", "bert"], 2, 256)
    ids = [key.key_id for key in keys]
    assert await site["b"].collect("bob", "alice", ids) == keys
    assert await site["b"].collect("bert", "alice", ids) == keys
    assert await refusal(site["b"].collect("bob", "alice", ids)) == "qkd.key_not_found"
    assert await refusal(site["a"].reserve("b", "alice", ["bob"], 1, 12)) == "qkd.bad_key_size"
    assert await refusal(site["a"].reserve("x", "alice", ["bob"], 1, 256)) == "qkd.no_link"
    status = site["a"].status("b")
    assert status is not None
    assert status.account.balanced
    assert status.deliverable_bits == 8 * 4096 - 512
    assert site.nodes["a"].metrics.value("qedge_qkd_key_bits", ("ab", "delivered")) == 512


async def test_further_slaves_get_their_copies_at_other_nodes_and_at_this_one(tmp_path: Path) -> None:
    async with running(tmp_path, "abc") as site:
        await site.grow("a", "b")
        await site.grow("a", "c")
        keys = await site["a"].reserve("b", "alice", ["bob"], 3, 128, elsewhere={"c": ["carol"], "a": ["anna"]})
        ids = [key.key_id for key in keys]
        for node, slave in (("b", "bob"), ("c", "carol"), ("a", "anna")):
            assert await site[node].collect(slave, "alice", ids) == keys
        site.network.cut.add("c")
        assert await refusal(site["a"].reserve("b", "alice", ["bob"], 1, 128, elsewhere={"c": ["carol"]})) == (
            "peer.timeout"
        )
        site.network.cut.clear()
        await site.until(lambda: _bits(site, "c", "ac", "voided") == _bits(site, "a", "ac", "voided") == 48 * 8)


async def test_keys_for_programs_of_one_node_are_cut_from_a_link_and_destroyed_at_its_far_end(site: StoreSite) -> None:
    keys = await site["a"].reserve("a", "alice", ["alice"], 1, 256)
    assert await site["a"].collect("alice", "alice", [keys[0].key_id]) == keys
    assert _bits(site, "b", "ab", "delivered") == 256


async def test_it_does_not_matter_whether_the_first_or_a_further_slave_is_at_the_masters_node(site: StoreSite) -> None:
    keys = await site["a"].reserve("a", "alice", ["anna"], 1, 256, elsewhere={"b": ["bob"]})
    for node, slave in (("a", "anna"), ("b", "bob")):
        assert await site[node].collect(slave, "alice", [keys[0].key_id]) == keys
    assert _bits(site, "a", "ab", "delivered") == _bits(site, "b", "ab", "delivered") == 256


async def test_watchers_see_what_changes(site: StoreSite) -> None:
    states = site["a"].watch()
    first = await anext(states)
    await site["a"].reserve("b", "alice", ["bob"], 1, 256)
    second = await anext(states)
    assert second[0].account.own < first[0].account.own
    usage = await site["a"].usage()
    assert [(each.consumer, each.bits) for each in usage] == [("alice", 256)]


async def test_with_the_peer_away_nobody_gets_keys_and_their_bits_are_destroyed_at_both_ends(site: StoreSite) -> None:
    site.network.cut.add("b")
    assert await refusal(site["a"].reserve("b", "alice", ["bob"], 1, 256)) == "peer.timeout"
    await site.until(lambda: _bits(site, "a", "ab", "voided") == 256)
    assert await refusal(site["a"].reserve("b", "alice", ["bob"], 1, 256)) == "peer.unreachable"
    site.network.cut.clear()
    await site.until(lambda: _bits(site, "b", "ab", "voided") == 256)
    assert _bits(site, "a", "ab", "voided") == 256, "a request to a node that is away costs no bits"
    await site.until(lambda: "b" not in site["a"]._away)
    assert await site["a"].reserve("b", "alice", ["bob"], 1, 256)


async def test_a_request_whose_program_went_away_burns_its_keys(site: StoreSite) -> None:
    asking = asyncio.create_task(site["a"].reserve("b", "alice", ["bob"], 1, 256))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await site.until(lambda: _bits(site, "a", "ab", "delivered") == 256)


async def test_both_ends_agree_after_either_was_restarted(site: StoreSite) -> None:
    kept = await site["a"].reserve("b", "alice", ["bob"], 1, 256)
    await site.nodes["b"].stop()
    await site["a"].add_block(FinishedBlock("ab", 2, bytes(100), PROVENANCE))
    await site["a"].add_block(FinishedBlock("ab", 3, bytes(100), PROVENANCE))
    await site.nodes["b"].start()
    await site["b"].add_block(FinishedBlock("ab", 3, bytes(100), PROVENANCE))
    await site.until(lambda: site.waiting("a", "ab") == 0 and site.waiting("b", "ab") == 0)
    assert _bits(site, "a", "ab", "discarded") == 68 * 8
    await site.nodes["a"].stop()
    await site.nodes["a"].start()
    assert _bits(site, "a", "ab", "own") == _bits(site, "b", "ab", "theirs")
    assert await site["b"].collect("bob", "alice", [kept[0].key_id]) == kept


async def test_a_full_disk_hands_nothing_over_and_loses_nothing_that_waits(site: StoreSite) -> None:
    waiting = await site["a"].reserve("b", "alice", ["bob"], 1, 256)

    async def full(*_args: object, **_more: object) -> None:
        raise QedgeError("store.disk_full", "Full.")

    writes = {name: node.store.write for name, node in site.nodes.items()}
    for node in site.nodes.values():
        node.store.write = full  # type: ignore[assignment,method-assign]  # a disk that is full
    assert await refusal(site["a"].reserve("b", "alice", ["bob"], 1, 256)) == "store.disk_full"
    assert await refusal(site["b"].collect("bob", "alice", [waiting[0].key_id])) == "store.disk_full"
    assert await refusal(site["a"].add_block(FinishedBlock("ab", 2, bytes(100), PROVENANCE))) == "store.disk_full"
    for name, node in site.nodes.items():
        node.store.write = writes[name]  # type: ignore[method-assign]  # room again
    assert await site["b"].collect("bob", "alice", [waiting[0].key_id]) == waiting
    assert await site["a"].reserve("b", "alice", ["bob"], 1, 256)


async def test_where_the_disk_fills_between_reserving_and_handing_over_nobody_gets_the_key(site: StoreSite) -> None:
    store = site.nodes["a"].store
    write, calls = store.write, iter((False, True, True))

    async def fills(work: object, *, accepted: bool = False) -> object:
        if next(calls, False):
            raise QedgeError("store.disk_full", "Full.")
        return await write(work, accepted=accepted)  # type: ignore[arg-type]  # passed on as it came

    store.write = fills  # type: ignore[assignment,method-assign]  # a disk that fills up
    assert await refusal(site["a"].reserve("b", "alice", ["bob"], 1, 256)) == "store.disk_full"
    await site.until(lambda: next(calls, False) is False)
    await site["a"].upkeep()
    assert _bits(site, "a", "ab", "voided") == 256
    assert _bits(site, "a", "ab", "in_flight") == 0


async def test_a_fault_in_one_operation_leaves_nobody_waiting_and_the_others_of_its_commit_alone(
    site: StoreSite,
) -> None:
    def blow_up(_ledger: object) -> None:
        raise ZeroDivisionError("a fault")

    keys = site["a"]
    results = await asyncio.gather(
        keys.do(blow_up),
        keys.reserve("b", "alice", ["bob"], 1, 256),
        keys.do(lambda ledger: ledger.open_link("az", "z")),
        return_exceptions=True,
    )
    assert isinstance(results[0], QedgeError)
    assert results[0].code == "internal.unexpected"
    assert isinstance(results[1], list)
    assert results[2] == -1


async def test_an_idle_store_writes_nothing_but_the_time_once_a_minute(site: StoreSite) -> None:
    keys = site["a"]
    await keys.upkeep()
    written = await keys.do(lambda ledger: ledger.accounts._connection.total_changes)
    for _ in range(3):
        await keys.upkeep()
        await keys.usage()
    assert await keys.do(lambda ledger: ledger.accounts._connection.total_changes) == written
    site.clock.advance_s(61)
    await keys.usage()
    assert await keys.do(lambda ledger: ledger.accounts._connection.total_changes) == written + 1


async def test_nothing_secret_shows_when_blocks_and_keys_are_printed(site: StoreSite) -> None:
    keys = await site["a"].reserve("b", "alice", ["bob"], 1, 256)
    shown = repr(keys) + repr(FinishedBlock("ab", 0, keys[0].key, PROVENANCE)) + repr(site["a"].links())
    assert repr(keys[0].key)[2:-1] not in shown
    assert keys[0].key.hex() not in shown


async def test_another_wrapping_key_opens_nothing(site: StoreSite) -> None:
    node = site.nodes["a"]
    await node.stop()
    node.vault = Vault(bytes(32))
    assert await refusal(node.start()) == "qkd.wrong_wrapping_key"
    node.vault = Vault(b"a".ljust(32))
    await node.start()
    assert await site["a"].reserve("b", "alice", ["bob"], 1, 256)


@pytest.mark.parametrize(
    ("requests", "saes"), [(2000, 20), pytest.param(100_000, 500, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
async def test_of_very_many_requests_at_once_no_key_goes_to_two_masters_and_none_is_lost(
    tmp_path: Path, requests: int, saes: int
) -> None:
    async with running(tmp_path) as site:
        size = 200_000
        await site.grow(blocks=2 * -(-requests * 16 // size), size=size)

        async def ask(number: int) -> tuple[str, str, list[DeliverableKey]]:
            node, peer = ("a", "b") if number % 2 else ("b", "a")
            keys = await site[node].reserve(peer, f"master-{number % saes}", [f"slave-{number % saes}"], 1, 256)
            return peer, str(number % saes), keys

        given: list[tuple[str, str, list[DeliverableKey]]] = []
        for start in range(0, requests, 20_000):
            given += await asyncio.gather(*(ask(each) for each in range(start, min(requests, start + 20_000))))
        assert len({keys[0].key_id for _, _, keys in given}) == requests
        assert len({keys[0].key for _, _, keys in given}) == requests
        copies = await asyncio.gather(
            *(
                site[peer].collect(f"slave-{sae}", f"master-{sae}", [key.key_id for key in keys])
                for peer, sae, keys in given
            )
        )
        assert copies == [keys for _, _, keys in given]
        for name in "ab":
            account = site[name].links()[0].account
            assert account.balanced
            assert account.delivered == requests * 256


async def test_losses_and_repetitions_on_the_way_never_make_keys_unequal_or_come_twice(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        site.network.loss, site.network.twice = 0.08, 0.3
        await site.grow(blocks=6)

        async def ask(number: int) -> list[DeliverableKey] | None:
            node, peer = ("a", "b") if number % 2 else ("b", "a")
            try:
                return await site[node].reserve(peer, "m", ["s"], 1, 64)
            except QedgeError as error:
                assert error.code in ("peer.timeout", "peer.unreachable", "qkd.out_of_step")
                await asyncio.sleep(0.15)
                return None

        given = [keys for each in range(60) if (keys := await ask(each))]
        assert 15 < len(given) < 60
        for keys in given:
            found = [copy for name in "ab" for copy in await _collected(site, name, keys[0].key_id)]
            assert found == keys
        site.network.loss = site.network.twice = 0.0
        for name in "ab":
            site[name]._tend("b" if name == "a" else "a").meet()
        await site.until(lambda: _bits(site, "a", "ab", "own") == _bits(site, "b", "ab", "theirs"))
        await site.until(lambda: _bits(site, "b", "ab", "own") == _bits(site, "a", "ab", "theirs"))


async def _collected(site: StoreSite, node: str, key_id: str) -> list[DeliverableKey]:
    try:
        return await site[node].collect("s", "m", [key_id])
    except QedgeError:
        return []


async def test_a_link_that_the_other_end_does_not_know_any_more_leaves_the_others_alone(site: StoreSite) -> None:
    await site["a"].open_link("aa", "b")  # as after the other box got a new disk, and one of two links has gone
    await site["a"].add_block(FinishedBlock("aa", 0, bytes(4096), PROVENANCE))
    site.network.cut.add("b")
    assert await refusal(site["a"].reserve("b", "alice", ["bob"], 1, 256)) == "peer.timeout"
    assert await refusal(site["a"].reserve("b", "alice", ["bob"], 1, 256)) == "peer.unreachable"
    site.network.cut.clear()
    await asyncio.sleep(1.5)
    assert len(await site["a"].reserve("b", "alice", ["bob"], 1, 256)) == 1
    assert _bits(site, "a", "aa", "waiting") > 0


async def test_a_block_with_the_last_number_there_is_does_not_end_the_comparing_of_others(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        for node, peer in ("ab", "ba"):
            await site[node].open_link("aa", peer)
            await site[node].add_block(FinishedBlock("aa", 2**63 - 1, bytes(4096), PROVENANCE))
        await site.grow()
        assert _bits(site, "b", "aa", "waiting") == _bits(site, "b", "ab", "waiting") == 0


async def test_of_very_many_ended_requests_no_more_are_remembered_than_may_be(tmp_path: Path) -> None:
    config = KeyStoreConfig(reserve_kbit=0, max_tombstones=1000)
    async with running(tmp_path, config=config) as site:
        await site.grow()
        lost = [VoidGrant(place.to_bytes(16, "big"), "ab", ()) for place in range(6_500)]
        for begin in range(0, len(lost), 200):
            void = KeyVoid(tuple(lost[begin : begin + 200]))
            await site.network.at("b").call("a", void, KeyVoided, deadline_s=1.0)
        await site["a"].upkeep()
        assert await site["a"].do(lambda ledger: ledger.book.forget(-1, 0, 5000)) == 1000


def test_the_key_clock_follows_the_box_and_not_its_wall_clock() -> None:
    start = resume(None, "one", 100, 5000)
    later = advance(start, 150, 9_000_000)  # the wall clock jumped meanwhile
    assert later.key_ns == 50
    assert resume(later, "one", 170, 0).key_ns == 70
    assert resume(later, "two", 3, 9_000_040).key_ns == 90
    assert resume(later, "two", 3, 1).key_ns == 50
    assert advance(later, 0, 0).key_ns == 50
    assert KeyTime("two", 3, 1, 50) == resume(later, "two", 3, 1)


def test_a_clock_that_is_wrong_at_every_start_never_takes_the_key_clock_beyond_what_a_database_holds() -> None:
    century_ns = 3_155_760_000_000_000_000
    time = resume(None, "boot 0", 0, 0)
    for boot in range(1, 20):
        before = time.key_ns
        time = resume(time, f"boot {boot}", 0, century_ns if boot % 2 else 0)
        assert time.key_ns - before in (0, 2 * 10**17)
    assert time.key_ns < 2**62


async def test_a_jump_of_the_wall_clock_over_a_restart_of_the_daemon_expires_nothing(site: StoreSite) -> None:
    keys = await site["a"].reserve("b", "alice", ["bob"], 1, 256)
    await site.nodes["b"].stop()
    site.clock.step_utc_s(1e7)
    await site.nodes["b"].start()
    await site["b"].upkeep()
    assert await site["b"].collect("bob", "alice", [keys[0].key_id]) == keys


@pytest.mark.parametrize("path", sorted(OLD.glob("keys-v*.sqlite3")), ids=lambda path: path.name)
async def test_key_databases_of_earlier_versions_open_with_their_keys(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "b.sqlite3"
    copy.write_bytes(path.read_bytes())
    store = Store(copy, metrics=Metrics(), schema=KEY_SCHEMA)
    told = msgspec.json.decode(await store.get_meta("golden"), type=dict[str, str])
    store.close()
    site = StoreSite(tmp_path)
    await site.nodes["b"].start()
    assert site["b"].links()[0].account.balanced
    keys = await site["b"].collect("bob", "alice", [told["id"]])
    assert keys[0].key.hex() == told["key"]
    await site.nodes["b"].stop()


async def test_the_fake_keeps_the_same_rules() -> None:
    fleet = FakeKeyFleet(ManualClock(), os.urandom)
    a, b = fleet.join("a"), fleet.join("b")
    await fleet.grow("a", "b")
    keys = await a.reserve("b", "alice", ["bob"], 2, 256)
    assert await b.collect("bob", "alice", [key.key_id for key in keys]) == keys
    assert await refusal(b.collect("bob", "alice", [keys[0].key_id])) == "qkd.key_not_found"
    own = await a.reserve("a", "alice", ["alice"], 1, 256)
    assert await a.collect("alice", "alice", [own[0].key_id]) == own
    fleet.unreachable.add("b")
    assert await refusal(a.reserve("b", "alice", ["bob"], 1, 256)) == "peer.unreachable"
    status = a.status("b")
    assert status is not None
    assert status.account.voided == 256
    a.failure = QedgeError("store.disk_full", "Full.")
    assert await refusal(a.reserve("b", "alice", ["bob"], 1, 256)) == "store.disk_full"


def _bits(site: StoreSite, node: str, link: str, place: str) -> int:
    account = next(each.account for each in site[node].links() if each.link == link)
    return int(getattr(account, place))


def test_the_database_of_keys_is_no_database_of_the_node(tmp_path: Path) -> None:
    Store(tmp_path / "k.sqlite3", metrics=Metrics(), schema=KEY_SCHEMA).close()
    with pytest.raises(QedgeError) as error:
        Store(tmp_path / "k.sqlite3", metrics=Metrics())
    assert error.value.code == "store.unavailable"
    connection = sqlite3.connect(tmp_path / "k.sqlite3")
    assert connection.execute("PRAGMA application_id").fetchone()[0] == KEY_SCHEMA.application_id
    connection.close()
