"""Attacks on the state that nodes share: by the broker, by members that lie, and by nodes whose clock is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.crypto.signed import join_signed, sign_envelope
from qedge.orchestrator.state.config import StateConfig
from qedge.orchestrator.state.exchange import pack
from qedge.orchestrator.state.hybrid_clock import stamp_of
from qedge.orchestrator.state.namespaces import NAMESPACES
from qedge.orchestrator.state.proof import Signer, message_of, topic_of
from qedge.wire.envelope import Header, SealKind, cover, encode, purpose_of
from qedge.wire.state import BUCKETS, SharedEntry, SignedEntry, StateEntry, StateHeads, StateLoad, StateSums, StateWants
from qedge.wire.topics import Channel, topic
from tests.unit.mesh.mesh_site import FLEET, until
from tests.unit.orchestrator.state_site import StateNode, StateSite

SHARED_OF_A = topic(FLEET, "a", Channel.SHARED)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[StateSite]:
    made = StateSite(tmp_path)
    yield made
    await made.close()


def said(node: StateNode, value: bytes = b"evil", *, ahead_s: float = 0.0, **changes: object) -> SharedEntry:
    stamp = stamp_of(node.clock.utc_ns() + round(ahead_s * 1e9))
    return msgspec.structs.replace(SharedEntry("settings", "k", stamp, value=value), **changes)


async def quiet(site: StateSite, node: StateNode) -> None:
    """Let the node handle everything, and see that it holds nothing."""
    marker = await site.node("marker") if "marker" not in site.nodes else site.nodes["marker"]
    await marker.state.put("calibration", "marker", b"x")
    await until(lambda: node.state.get("calibration", "marker", "marker") is not None)
    assert node.value("settings", "k") is None


async def test_a_member_cannot_speak_for_another(site: StateSite) -> None:
    b = await site.node("b")
    key, chain = site.fleet.member("evil")
    entry = said(b)
    # as evil on a topic of a; in the name of a; with the sender of one and the topic of the other
    for sender, where in (("evil", SHARED_OF_A), ("a", SHARED_OF_A), ("a", topic(FLEET, "evil", Channel.SHARED))):
        header = Header(where, sender, 0, purpose_of(SharedEntry), b.clock.utc_ns())
        message = sign_envelope(header, entry, key, chain)
        site.broker.publish(SHARED_OF_A, message)
        site.broker.publish(topic(FLEET, "evil", Channel.SHARED), message)
    await quiet(site, b)
    assert b.bus.rejected.count("bus.bad_message") >= 4
    assert b.bus.rejected.count("auth.untrusted") >= 1


async def test_what_nobody_or_another_fleet_signed_has_no_effect(site: StateSite, tmp_path: Path) -> None:
    b = await site.node("b")
    header = Header(SHARED_OF_A, "a", 0, purpose_of(SharedEntry), b.clock.utc_ns())
    site.broker.publish(SHARED_OF_A, encode(header, said(b)))
    site.broker.publish(SHARED_OF_A, b"")
    site.broker.publish(
        SHARED_OF_A, cover(SealKind.SIGNED, header, msgspec.msgpack.encode(said(b))) + b"\x92\x90\xc4\x00"
    )
    (tmp_path / "other").mkdir()
    key, chain = StateSite(tmp_path / "other").fleet.member("a")
    site.broker.publish(SHARED_OF_A, message_of(Signer(FLEET, "a", key, chain).sign(said(b))))
    await quiet(site, b)


async def test_a_changed_byte_anywhere_is_noticed(site: StateSite) -> None:
    b = await site.node("b")
    key, chain = site.fleet.member("a")
    message = message_of(Signer(FLEET, "a", key, chain).sign(said(b)))
    for place in (12, 60, 200, len(message) // 2, len(message) - 5):
        site.broker.publish(SHARED_OF_A, message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :])
    await quiet(site, b)


async def test_a_stamp_far_ahead_cannot_lock_a_key(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    evil, chain = site.fleet.member("evil")
    entry = Signer(FLEET, "evil", evil, chain).sign(said(b, ahead_s=3600))
    site.broker.publish(topic_of(FLEET, entry), message_of(entry))
    await until(lambda: b.outcome("ahead") == 1 and a.outcome("ahead") == 1)
    await b.peers.servers[StateWants]("evil", StateWants("fleet", (), pack([entry])))
    assert b.value("settings", "k") is None
    assert b.outcome("ahead") == 2
    await a.state.put("settings", "k", b"mine")
    await until(lambda: b.value("settings", "k") == b"mine")


async def test_a_node_whose_own_clock_is_ahead_is_refused_and_moves_nobodys_clock(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    a.clock.shift_ns = 3600 * 10**9
    await a.state.put("settings", "k", b"tomorrow")
    await until(lambda: b.outcome("ahead") >= 1)
    row = await b.state.put("settings", "other", b"now")
    assert row.utc_ns <= b.clock.utc_ns() + 10**9


async def test_old_words_that_come_again_change_nothing(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    await a.state.put("settings", "k", b"old")
    await until(lambda: b.value("settings", "k") == b"old")
    old = site.broker.of(Channel.SHARED, "a")[-1]
    await a.state.delete("settings", "k")
    await until(lambda: b.value("settings", "k") is None)
    for _ in range(20):
        site.broker.publish(old.topic, old.payload)
    await quiet(site, b)
    assert b.outcome("old") >= 20


async def test_words_of_one_scope_or_topic_are_not_taken_on_another(site: StateSite) -> None:
    b = await site.node("b")
    key, chain = site.fleet.member("a")
    entry = said(b)
    where = topic(FLEET, "a", Channel.STATE)
    header = Header(where, "a", 0, purpose_of(SharedEntry), b.clock.utc_ns())
    site.broker.publish(where, sign_envelope(header, entry, key, chain))
    site_words = StateEntry("settings", "k", entry.stamp, value=b"evil")
    header = msgspec.structs.replace(header, topic=SHARED_OF_A, purpose=purpose_of(StateEntry))
    site.broker.publish(SHARED_OF_A, sign_envelope(header, site_words, key, chain))
    site.broker.publish(where, message_of(Signer(FLEET, "a", key, chain).sign(entry)))
    await quiet(site, b)
    assert b.bus.rejected.count("bus.bad_message") == 3


async def test_a_writer_that_floods_pushes_out_its_own_words_alone(site: StateSite) -> None:
    b = await site.node("b", StateConfig(compare_s=0.5, entries_per_s=10_000))
    good = await site.node("good", StateConfig(compare_s=0.5, entries_per_s=10_000))
    await good.state.put("templates", "f" * 64)
    key, chain = site.fleet.member("evil")
    signer, most = Signer(FLEET, "evil", key, chain), NAMESPACES["templates"].per_writer
    for number in range(most + 30):
        entry = signer.sign(StateEntry("templates", f"{number:064x}", stamp_of(b.clock.utc_ns()) + number))
        site.broker.publish(topic_of(FLEET, entry), message_of(entry))
    await until(lambda: b.state.get("templates", f"{most + 29:064x}", "evil") is not None)
    assert b.state.get("templates", "f" * 64, "good") is not None
    assert len([each for each in b.state.under("templates") if each.writer == "evil"]) == most


async def test_a_flood_is_not_even_looked_at_and_others_are_heard_meanwhile(site: StateSite) -> None:
    a, b = [await site.node(name, StateConfig(compare_s=0.5, entries_per_s=5)) for name in "ab"]
    key, chain = site.fleet.member("evil")
    for number in range(60):
        header = Header(topic(FLEET, "evil", Channel.SHARED), "evil", 0, purpose_of(SharedEntry), b.clock.utc_ns())
        entry = said(b, bytes([number]))
        site.broker.publish(
            header.topic, join_signed(cover(SealKind.SIGNED, header, msgspec.msgpack.encode(entry)), chain, b"s")
        )
    await a.state.put("settings", "mine", b"x")
    await until(lambda: b.value("settings", "mine") == b"x")
    assert b.bus.rejected.count("state_flood") >= 40
    assert key.key_id


async def test_what_is_too_large_for_its_namespace_has_no_effect(site: StateSite) -> None:
    b = await site.node("b")
    key, chain = site.fleet.member("a")
    for entry in (said(b, bytes(4097)), said(b, namespace="nowhere"), said(b, b"x", deleted=True), said(b, serial=9)):
        where = topic(FLEET, "a", Channel.SHARED)
        header = Header(where, "a", 0, purpose_of(SharedEntry), b.clock.utc_ns())
        site.broker.publish(where, sign_envelope(header, entry, key, chain))
    await quiet(site, b)


async def test_a_revoked_writer_is_forgotten_and_heard_no_more(site: StateSite) -> None:
    b = await site.node("b")
    key, chain = site.fleet.member("a")
    entry = Signer(FLEET, "a", key, chain).sign(said(b))
    site.broker.publish(topic_of(FLEET, entry), message_of(entry))
    await until(lambda: b.value("settings", "k") == b"evil")
    b.trust.take_revocations(site.fleet.revoke(key.key_id), b.clock.utc_ns())
    b.state._book.expire(b.clock.utc_ns(), b.trust.is_revoked)
    assert b.value("settings", "k") is None
    again = Signer(FLEET, "a", key, chain).sign(said(b))
    site.broker.publish(topic_of(FLEET, again), message_of(again))
    await quiet(site, b)


async def test_a_certificate_that_ended_signs_nothing_new(site: StateSite) -> None:
    b = await site.node("b")
    key, chain = site.fleet.member("a", days=1)
    later = SharedEntry("settings", "k", stamp_of(b.clock.utc_ns() + 2 * 86_400 * 10**9), value=b"x")
    b.clock.shift_ns = 2 * 86_400 * 10**9
    entry = Signer(FLEET, "a", key, chain).sign(later)
    site.broker.publish(topic_of(FLEET, entry), message_of(entry))
    await until(lambda: "auth.untrusted" in b.bus.rejected)
    assert b.value("settings", "k") is None


async def test_a_peer_that_hands_over_forgeries_is_not_believed(site: StateSite) -> None:
    b = await site.node("b")
    key, chain = site.fleet.member("evil")
    _, chain_of_a = site.fleet.member("a")
    good = Signer(FLEET, "evil", key, chain).sign(said(b))
    forged = Signer(FLEET, "a", key, chain_of_a).sign(said(b))
    assert good.proof is not None
    assert forged.proof is not None
    loads = (
        StateLoad((chain_of_a,), (SignedEntry(forged.proof.covered, 0, forged.proof.signature),)),
        StateLoad((chain,), (SignedEntry(forged.proof.covered, 0, forged.proof.signature),)),
        StateLoad((), (SignedEntry(good.proof.covered, 0, good.proof.signature),)),
        StateLoad((chain,), (SignedEntry(b"", 0, b""), SignedEntry(good.proof.covered, 0, b"x"))),
    )
    for load in loads:
        await b.peers.servers[StateWants]("evil", StateWants("fleet", (), load))
    assert b.value("settings", "k") is None


async def test_a_peer_that_asks_for_what_is_not_there_gets_nothing_and_one_that_lies_ends_soon(site: StateSite) -> None:
    b = await site.node("b")
    with pytest.raises(QedgeError, match="scope"):
        await b.peers.servers[StateSums]("evil", StateSums("galaxy", (bytes(16),) * BUCKETS))
    answer = await b.peers.servers[StateWants]("evil", StateWants("site", (bytes(16),) * 5))
    assert answer == StateLoad()
    liar = await site.node("liar")

    async def heads(_peer: str, _asked: msgspec.Struct) -> msgspec.Struct:
        return StateHeads(tuple(range(BUCKETS)), tuple(msgspec.json.decode(b"[]", type=tuple)))

    async def nothing(_peer: str, _asked: msgspec.Struct) -> msgspec.Struct:
        return StateLoad()

    liar.peers.servers |= {StateSums: heads, StateWants: nothing}
    await b.state.put("settings", "k", b"x")
    async with asyncio.timeout(30):
        found = await b.state._with("liar", tuple(b.state._book.replicas))
    assert found is not None
    assert found.got == 0
