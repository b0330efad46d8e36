"""Keys over several links: the same at both ends, paid for on each link to the bit, and nothing left in between."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.qkd.keys import exchange, relaying
from qedge.qkd.keys.commitment import CHECK_BYTES
from qedge.qkd.keys.config import KeyStoreConfig
from qedge.qkd.keys.model import RELAY_SAE, Constraints, DeliverableKey, Wanted
from qedge.wire.keys import KeyReach, KeyRelay, KeyReserve, Origin, RelayHop
from tests.unit.qkd.keys.key_site import PROVENANCE, LedgerNode, tell_blocks, tell_voids
from tests.unit.qkd.keys.store_site import MemoryPeers, StoreSite, running

CONFIG = KeyStoreConfig(reserve_kbit=0)


@asynccontextmanager
async def chain(folder: Path, names: str = "abc", config: KeyStoreConfig = CONFIG) -> AsyncIterator[StoreSite]:
    """Run nodes of which each has links to its neighbours alone."""
    async with running(folder, names, config) as site:
        for one, other in itertools.pairwise(names):
            await site.grow(one, other)
        yield site


def place(site: StoreSite, node: str, link: str, name: str) -> int:
    """Return bits of a link's account."""
    account = next(each.account for each in site[node].links() if each.link == link)
    assert account.balanced
    return int(getattr(account, name))


async def refusal(work: object) -> str:
    with pytest.raises(QedgeError) as error:
        await work  # type: ignore[misc]  # a coroutine
    return error.value.code


async def test_a_node_that_never_answers_does_not_keep_those_who_ask_from_other_ways(tmp_path: Path) -> None:
    config = KeyStoreConfig(reserve_kbit=0, peer_deadline_s=0.6)
    async with chain(tmp_path, "abcd", config) as site:
        asked: list[float] = []
        call = MemoryPeers.call

        async def slow(
            self: MemoryPeers, node: str, body: msgspec.Struct, answer: type, *, deadline_s: float
        ) -> object:
            if isinstance(body, KeyReach):
                asked.append(deadline_s)
            return await call(self, node, body, answer, deadline_s=deadline_s)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MemoryPeers, "call", slow)
            assert len(await site["a"].reserve("d", "alice", ["dora"], 1, 256)) == 1
    assert asked == sorted(asked, reverse=True)
    assert asked[0] == 0.6
    assert asked[1] < 0.5, "who is asked has to answer before who asks gives up"


async def test_a_key_crosses_three_links_and_is_paid_for_on_each_to_the_bit(tmp_path: Path) -> None:
    async with chain(tmp_path, "abcd") as site:
        keys = await site["a"].reserve("d", "alice", ["dora"], 3, 256)
        ids = [key.key_id for key in keys]
        assert len({key.key for key in keys}) == 3
        assert await refusal(site["d"].collect("eve", "alice", ids)) == "qkd.key_not_yours"
        assert await site["d"].collect("dora", "alice", ids) == keys
        assert await refusal(site["d"].collect("dora", "alice", ids)) == "qkd.key_not_found"
        record = keys[0].provenance
        assert (record.origin, record.hops) == (Origin.RELAYED, 2)
        assert record.path == record.trusted_nodes == ("a", "b", "c", "d")
        # The first link's block is known; of each other one the worst was promised, for one block more than it took.
        assert record.eps_total == pytest.approx((1 + 2 + 2) * PROVENANCE.eps_total)
        assert record.simulated
        cost = 8 * (3 * 32 + CHECK_BYTES)
        for one, other in ("ab", "bc", "cd"):
            for node in (one, other):
                assert place(site, node, one + other, "delivered") == cost
                assert place(site, node, one + other, "in_flight") == 0
        for node in "bc":
            usage = [each for each in await site[node].usage() if each.consumer == RELAY_SAE]
            assert [each.bits for each in usage] == [8 * 3 * 32]


async def test_a_node_in_between_keeps_nothing(tmp_path: Path) -> None:
    async with chain(tmp_path) as site:
        keys = await site["a"].reserve("c", "alice", ["carol"], 2, 256)
        await site["b"].settle()
        raw = [bytes.fromhex(key.key_id.replace("-", "")) for key in keys]
        with sqlite3.connect(tmp_path / "b.sqlite3") as connection:
            assert connection.execute("SELECT count(*) FROM keys").fetchone() == (0,)
        connection.close()
        for key_id, key in zip(raw, keys, strict=True):
            held = b"".join(path.read_bytes() for path in tmp_path.glob("b.sqlite3*"))
            assert key.key not in held
            assert key_id not in held
        assert await refusal(site["b"].collect("carol", "alice", [keys[0].key_id])) == "qkd.key_not_found"


async def test_the_way_of_fewest_links_is_taken_and_another_where_it_has_too_little_key(tmp_path: Path) -> None:
    async with running(tmp_path, "abcd", CONFIG) as site:
        for link in ("ab", "bd", "ac", "cd"):
            await site.grow(*link, size=4096 if "b" in link else 300)
        assert (await site["a"].reserve("d", "m", ["s"], 1, 256))[0].provenance.path == ("a", "b", "d")
        await site.grow("a", "d", size=300)
        assert (await site["a"].reserve("d", "m", ["s"], 1, 256))[0].provenance.path == ("a", "d")
    second = tmp_path / "second"
    second.mkdir()
    async with running(second, "abcd", CONFIG) as site:
        for link, size in (("ab", 300), ("bd", 40), ("ac", 300), ("cd", 300)):
            await site.grow(*link, size=size)
        assert (await site["a"].reserve("d", "m", ["s"], 1, 256))[0].provenance.path == ("a", "c", "d")
        reached = await site["a"].reach("d")
        assert reached is not None
        assert reached[1] == 1
        assert reached[0].deliverable_bits <= 8 * 300


async def test_one_key_reaches_several_nodes_over_ways_that_share_links_and_is_each_once(tmp_path: Path) -> None:
    async with chain(tmp_path, "abcd") as site:
        # b is a neighbour; c and d lie behind it, and c passes d's copy on beside taking its own.
        keys = await site["a"].reserve("d", "m", ["dora"], 2, 256, elsewhere={"b": ["bob"], "c": ["carol", "cleo"]})
        ids = [key.key_id for key in keys]
        for node, slave in (("b", "bob"), ("c", "carol"), ("c", "cleo"), ("d", "dora")):
            assert await site[node].collect(slave, "m", ids) == keys
            assert await refusal(site[node].collect(slave, "m", ids)) == "qkd.key_not_found"
        assert await refusal(site["b"].collect("eve", "m", ids)) == "qkd.key_not_yours"
        record = keys[0].provenance
        assert (record.origin, record.hops) == (Origin.RELAYED, 2)
        assert set(record.trusted_nodes) == set("abcd")
        assert set(record.slaves) == {"bob", "carol", "cleo", "dora"}
        cost = 8 * (2 * 32 + CHECK_BYTES)
        for link, copies in (("ab", 3), ("bc", 2), ("cd", 1)):
            for node in link:
                assert place(site, node, link, "delivered") == copies * cost
                assert place(site, node, link, "in_flight") == 0


async def test_a_key_for_several_nodes_reaches_none_where_one_way_breaks(tmp_path: Path) -> None:
    async with chain(tmp_path, "abcd") as site:
        assert len(await site["a"].reserve("b", "m", ["bob"], 1, 256, elsewhere={"d": ["dora"]})) == 1
        before = {node: place(site, node, "ab", "delivered") for node in "ab"}
        site.network.cut.add("d")
        asked = site["a"].reserve("b", "m", ["bob"], 1, 256, elsewhere={"c": ["carol"], "d": ["dora"]})
        assert (await refusal(asked)).startswith("peer.")
        site.network.cut.clear()
        cost = 8 * (32 + CHECK_BYTES)
        for node, link, copies in (("a", "ab", 3), ("b", "ab", 3), ("b", "bc", 2), ("c", "bc", 2), ("c", "cd", 1)):
            await site.until(
                partial(lambda node, link, lost: place(site, node, link, "voided") == lost, node, link, copies * cost)
            )
        assert {node: place(site, node, "ab", "delivered") for node in "ab"} == before
        for node in "bc":
            with contextlib.closing(sqlite3.connect(tmp_path / f"{node}.sqlite3")) as connection:
                open_copies = connection.execute("SELECT count(*) FROM keys WHERE state = 'reserved'").fetchone()
            assert open_copies == (1 if node == "b" else 0,)  # that of the key before


@pytest.mark.parametrize(
    ("constraints", "code"),
    [
        (Constraints(route="direct"), "qkd.unmeetable"),
        (Constraints(max_hops=2), "qkd.unmeetable"),
        (Constraints(max_hops=3), ""),
        (Constraints(route="relayed", min_security="its"), ""),
        (Constraints(allow_simulated=False), "qkd.unmeetable"),
    ],
)
async def test_a_request_may_refuse_relayed_keys_or_long_ways(
    tmp_path: Path, constraints: Constraints, code: str
) -> None:
    async with chain(tmp_path, "abcd") as site:
        asked = site["a"].reserve("d", "alice", ["dora"], 1, 256, constraints)
        if code:
            assert await refusal(asked) == code
            assert place(site, "a", "ab", "own") == 8 * 4096
        else:
            assert len(await asked) == 1


async def test_a_node_may_pass_nothing_on_and_may_want_keys_of_its_links_alone(tmp_path: Path) -> None:
    for config in (msgspec.structs.replace(CONFIG, relay=False), msgspec.structs.replace(CONFIG, max_hops=0)):
        folder = tmp_path / str(config.max_hops)
        folder.mkdir()
        async with chain(folder, "abc", config) as site:
            assert await refusal(site["a"].reserve("c", "alice", ["carol"], 1, 256)) == "qkd.no_link"
            assert await site["a"].reach("c") is None
            assert len(await site["a"].reserve("b", "alice", ["bob"], 1, 256)) == 1


async def test_a_way_that_breaks_gives_nobody_the_key_and_its_bits_are_destroyed_on_all_links(tmp_path: Path) -> None:
    async with chain(tmp_path) as site:
        first = await site["a"].reserve("c", "alice", ["carol"], 1, 256)  # the way is known from now on
        site.network.cut.add("c")
        assert (await refusal(site["a"].reserve("c", "alice", ["carol"], 1, 256))).startswith("peer.")
        site.network.cut.clear()
        cost = 8 * (32 + CHECK_BYTES)
        for node, link in (("a", "ab"), ("b", "ab"), ("b", "bc"), ("c", "bc")):
            await site.until(partial(lambda node, link: place(site, node, link, "voided") == cost, node, link))
        assert await site["c"].collect("carol", "alice", [first[0].key_id]) == first


async def test_losses_and_repetitions_on_the_way_never_make_keys_unequal_or_come_twice(tmp_path: Path) -> None:
    async with chain(tmp_path) as site:
        await site["a"].reserve("c", "m", ["s"], 1, 64)
        site.network.loss, site.network.twice = 0.06, 0.3
        given: list[DeliverableKey] = []
        for number in range(60):
            node, peer = ("a", "c") if number % 2 else ("c", "a")
            try:
                given += await site[node].reserve(peer, "m", ["s"], 1, 64)
            except QedgeError as error:
                assert error.code in ("peer.timeout", "peer.unreachable", "qkd.out_of_step", "qkd.no_link")
                await asyncio.sleep(0.1)
        assert 10 < len(given) < 60
        assert len({key.key for key in given}) == len(given)
        for key in given:
            copies = []
            for node in "ac":
                try:
                    copies += await site[node].collect("s", "m", [key.key_id])
                except QedgeError as error:
                    assert error.code == "qkd.key_not_found"
            assert copies == [key]
        site.network.loss = site.network.twice = 0.0
        for node, peer in ("ab", "ba", "bc", "cb"):
            site[node]._tend(peer).meet()
        for link in ("ab", "bc"):
            one, other = link
            for here, there in ((one, other), (other, one)):
                await site.until(
                    partial(
                        lambda link, here, there: place(site, here, link, "own") == place(site, there, link, "theirs"),
                        link,
                        here,
                        there,
                    )
                )


# Step by step


class Three:
    """The ledgers of `a`, `b` and `c`, with links `ab` and `bc`."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.a, self.b, self.c = (LedgerNode(name, self.clock) for name in "abc")
        for one, other in ((self.a, self.b), (self.b, self.c)):
            link = one.name + other.name
            for number in range(2):
                bits = bytes(one.dice.randbytes(1032))
                one.add(link, other.name, number, bits)
                other.add(link, one.name, number, bits)
            tell_blocks(one, other, link)
        self.hop = self.b.do(partial(relaying.offer, peer="c", num_bytes=32))[0]
        self.draft = self.a.reserve(Wanted("b", "alice", ("carol",), 1, 32, onward=(self.hop,)))
        ((_, self.grant, _),) = self.draft.messages

    def pass_on(self, message: KeyRelay | None = None) -> relaying.Passage:
        """Have `b` take what `a` sent."""
        message = message or KeyRelay(self.grant, (self.hop,))
        return self.b.do(partial(relaying.pass_on, peer="a", message=message))

    def arrive(self, passage: relaying.Passage) -> str:
        """Have `c` take what `b` sent."""
        assert passage.grant is not None
        message = KeyReserve((passage.grant,))
        return self.c.do(partial(exchange.take_over, peer="b", message=message)).outcomes[0]

    def voided(self) -> list[int]:
        """Return the voided bits of both ends of both links."""
        at = ((self.a, "ab"), (self.b, "ab"), (self.b, "bc"), (self.c, "bc"))
        return [node.status(link).account.voided for node, link in at]


COST = 8 * (32 + CHECK_BYTES)


def test_a_node_in_between_that_is_killed_gives_its_bits_up_and_the_key_reaches_nobody() -> None:
    site = Three()
    passage = site.pass_on()
    assert site.b.do(lambda ledger: ledger.give_up_all_but(frozenset())) == 1  # what it does when it starts again
    tell_voids(site.b, site.c)
    assert site.arrive(passage) == exchange.OUT_OF_STEP  # a message that comes late
    site.a.do(lambda ledger: ledger.give_up(site.draft.grant_id))
    tell_voids(site.a, site.b)
    assert site.voided() == [COST] * 4


def test_keys_that_have_arrived_are_recalled_where_their_master_never_got_them() -> None:
    site = Three()
    passage = site.pass_on()
    assert site.arrive(passage) == ""
    assert passage.grant is not None
    sent = passage.grant.id
    site.b.do(lambda ledger: ledger.passed_on(sent))
    site.a.do(lambda ledger: ledger.give_up(site.draft.grant_id))
    tell_voids(site.a, site.b)
    tell_voids(site.b, site.c)
    key_id = site.draft.keys[0][0].hex()
    with pytest.raises(QedgeError, match="not here"):
        site.c.collect("carol", "alice", key_id)
    assert site.voided() == [COST] * 4
    with pytest.raises(QedgeError, match="cannot be passed on"):
        site.pass_on()


def test_the_same_message_again_is_answered_as_before_and_passes_nothing_on_twice() -> None:
    site = Three()
    passage = site.pass_on()
    with pytest.raises(QedgeError, match="cannot be passed on"):
        site.pass_on()  # while the first is under way
    assert site.arrive(passage) == ""
    assert passage.grant is not None
    sent = passage.grant.id
    site.b.do(lambda ledger: ledger.passed_on(sent))
    assert site.pass_on() == relaying.Passage((site.hop,), None)
    (key,) = site.a.hand_over(site.draft)
    assert site.c.collect("carol", "alice", key.key_id) == [key]
    assert site.b.status("bc").account.delivered == COST


@pytest.mark.parametrize("field", ["pad", "ids", "master", "slaves", "provenance", "mac", "link", "cuts"])
def test_who_bends_a_key_on_its_way_gets_nothing_passed_on(field: str) -> None:
    site = Three()
    value = getattr(site.grant, field)
    bent: object = {"pad": bytes(32), "ids": bytes(16), "mac": bytes(16), "slaves": ("eve",)}.get(field, value)
    if field == "master":
        bent = "mallory"
    elif field == "provenance":
        bent = msgspec.structs.replace(value, origin=Origin.DIRECT)
    elif field == "link":
        bent = "bc"
    elif field == "cuts":
        bent = (msgspec.structs.replace(value[0], start=100),)
    before = site.b.status("bc").account
    message = KeyRelay(msgspec.structs.replace(site.grant, **{field: bent}), (site.hop,))
    try:
        assert site.pass_on(message) == relaying.Passage((), None)
    except QedgeError as error:
        assert error.code == exchange.OUT_OF_STEP
    assert site.b.status("bc").account == before


def test_a_node_that_cannot_keep_its_promise_passes_nothing_on() -> None:
    site = Three()
    better = RelayHop("c", "bb84", 0.0, 0.0, 0.0, 0.0, simulated=True)
    with pytest.raises(QedgeError, match="cannot be passed on"):
        site.pass_on(KeyRelay(site.grant, (better,)))
    with pytest.raises(QedgeError, match="cannot be passed on"):
        site.pass_on(KeyRelay(site.grant, (msgspec.structs.replace(site.hop, simulated=False),)))
    assert site.b.status("ab").account.voided == 0
    assert site.arrive(site.pass_on()) == ""
