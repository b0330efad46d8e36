"""Attacks on messages, identities, births and algorithms, one test each, under the number they have in the docs."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
import structlog
from OpenSSL._util import lib as openssl

from qedge.base.errors import QedgeError
from qedge.crypto.certificates import make_leaf
from qedge.crypto.handshake import Handshake, HandshakeContexts
from qedge.crypto.keys import PublicKey, generate
from qedge.crypto.model import Role, Subject
from qedge.crypto.registry import SUITES
from qedge.crypto.session import Secret, SessionKeys
from qedge.crypto.signed import sign_envelope
from qedge.mesh.birth import NodeIdentity, make_birth
from qedge.wire.envelope import MAX_BYTES, Header, SealKind, cover, encode, purpose_of
from qedge.wire.mesh import Birth, Lost, PeerState, Ping, Pong
from qedge.wire.session import Hello, Terms
from qedge.wire.topics import Channel, topic
from qedge.wire.trust import AUTHORITY, RevocationNotice
from qedge_device.frame import FrameError, ReplayWindow, Suite
from tests.integration.fleet_site import ThrowAwayFleet
from tests.unit.mesh.mesh_site import FLEET, Passed, Site, SiteNode, until

BIRTH_OF_EVIL = topic(FLEET, "evil", Channel.BIRTH)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    yield made
    await made.close()


async def ping(node: SiteNode, peer: str) -> None:
    pong = await node.sessions.call(peer, Ping(b"nonce"), Pong, deadline_s=10)
    assert pong.nonce == b"nonce"


def signed_birth(fleet: ThrowAwayFleet, node: str, *, signer: str = "", where: str = "", **changes: object) -> bytes:
    """Sign a birth of `node` with a certificate of `signer` (by default its own)."""
    key, chain = fleet.member(signer or node)
    birth = make_birth(NodeIdentity(FLEET, node, "0", "boot", 1), (), time.time_ns())
    birth = msgspec.structs.replace(birth, instance=b"i" * 16, pulse_ms=400, **changes)
    where = where or topic(FLEET, node, Channel.BIRTH)
    header = Header(where, signer or node, 0, purpose_of(Birth), time.time_ns())
    return sign_envelope(header, birth, key, chain)


# A01 – A03: replay, old sessions, counters


async def test_a01_a_frame_that_comes_again_has_no_effect_and_is_counted(site: Site) -> None:
    a, b = await site.pair()
    await ping(a, "b")
    frame = site.broker.of(Channel.SEALED, "b")[-1]
    for _ in range(5):
        site.broker.publish(frame.topic, frame.payload)
    await until(lambda: b.rejected("session.replayed") == 5)
    await ping(a, "b")


async def test_a02_frames_of_a_session_before_a_restart_have_no_effect(site: Site) -> None:
    a, b = await site.pair()
    await ping(a, "b")
    old = site.broker.of(Channel.SEALED, "b")
    await b.kill()
    key, chain = site.fleet.member("b")
    again = await site.join(SiteNode(site, "b", key, chain, site.fleet.trust(), epoch=2))
    await until(lambda: any(each.node == "b" and each.epoch == 2 for each in a.mesh.peers().peers))
    await ping(a, "b")
    for message in old:
        site.broker.publish(message.topic, message.payload)
    await until(lambda: again.rejected("session.unknown") == len(old))


def test_a02_the_start_of_both_nodes_is_part_of_the_keys() -> None:
    fleet = ThrowAwayFleet(FLEET)
    contexts = [HandshakeContexts(*fleet.member(name), fleet.trust(), (SUITES[1],)) for name in ("a", "b")]

    def shake(epoch: int) -> bytes:
        client = Handshake(
            contexts[0], session=b"s" * 16, terms=Terms("a", "boot", epoch), peer="b", utc_ns=time.time_ns
        )
        server = Handshake(
            contexts[1], session=b"s" * 16, terms=lambda _m, _t: Terms("b", "boot", 1), peer="a", utc_ns=time.time_ns
        )
        data = client.step(b"")
        while client.agreed is None:
            data = client.step(server.step(data))
        assert server.agreed is not None
        assert server.agreed.exported == client.agreed.exported
        return client.agreed.exported

    assert shake(1) != shake(2)


def test_a03_a_forged_jump_of_the_counter_moves_nothing_and_costs_no_memory() -> None:
    client, server = (SessionKeys(Secret(1, b"s" * 16, b"e" * 64, side), "mqtt", 0) for side in (True, False))
    frame = bytearray(client.seal(b"x", "t", 0))
    frame[5:13] = (2**40).to_bytes(8, "big")
    with pytest.raises(FrameError):
        server.open(bytes(frame), "t")
    assert server.open(client.seal(b"y", "t", 0), "t") == b"y"
    window = ReplayWindow(1024)
    window.accept(0)
    window.accept(2**47)
    assert window._seen.bit_length() <= 1024


def test_a03_what_is_reordered_beyond_the_window_has_no_effect() -> None:
    client, server = (SessionKeys(Secret(1, b"s" * 16, b"e" * 64, side), "mqtt", 0) for side in (True, False))
    first = client.seal(b"first", "t", 0)
    for _ in range(1024):
        server.open(client.seal(b"x", "t", 0), "t")
    with pytest.raises(FrameError) as error:
        server.open(first, "t")
    assert error.value.reason == "replay"


# A04: algorithms


async def test_a04_a_peer_below_the_floor_gets_no_session_and_log_and_metrics_say_why() -> None:
    site = Site(level=5)
    try:
        with structlog.testing.capture_logs() as logs:
            strict = await site.node("b", suites=(SUITES[2],))
            weak = await site.node("a", suites=(SUITES[1], SUITES[3]))
            await until(lambda: weak.state("b") is PeerState.ALIVE)
            with pytest.raises(QedgeError) as error:
                await ping(weak, "b")
        assert error.value.code == "crypto.refused_algorithm"
        assert strict.metrics.value("qedge_handshakes_failed_total", ("crypto.refused_algorithm",)) >= 1
        assert any(each["event"] == "session.refused" and each["code"] == "crypto.refused_algorithm" for each in logs)
        assert strict.sessions.view("a").state == "none"
    finally:
        await site.close()


@pytest.mark.parametrize("classical_side", ["client", "server"])
def test_a04_a_peer_that_offers_only_classical_groups_gets_nothing(classical_side: str) -> None:
    fleet = ThrowAwayFleet(FLEET)
    contexts = [HandshakeContexts(*fleet.member(name), fleet.trust(), (SUITES[1],)) for name in ("a", "b")]
    context = contexts[0].client if classical_side == "client" else contexts[1].server
    assert openssl.SSL_CTX_set1_curves_list(context._context, b"X25519:P-256:P-384") == 1
    client = Handshake(contexts[0], session=b"s" * 16, terms=Terms("a", "", 1), peer="b", utc_ns=time.time_ns)
    server = Handshake(contexts[1], session=b"s" * 16, terms=lambda _m, _t: Terms("b", "", 1), utc_ns=time.time_ns)
    with pytest.raises(QedgeError) as error:
        client.step(server.step(client.step(b"")))
    assert error.value.code == "crypto.refused_algorithm"
    assert client.agreed is None
    assert server.agreed is None


def test_a04_a_group_that_is_not_the_suites_own_is_refused_even_where_the_library_allowed_it() -> None:
    fleet = ThrowAwayFleet(FLEET)
    contexts = [HandshakeContexts(*fleet.member(name), fleet.trust(), (SUITES[1],)) for name in ("a", "b")]
    for context in (contexts[0].client, contexts[1].server):
        assert openssl.SSL_CTX_set1_curves_list(context._context, b"X25519") == 1
    client = Handshake(contexts[0], session=b"s" * 16, terms=Terms("a", "", 1), peer="b", utc_ns=time.time_ns)
    server = Handshake(contexts[1], session=b"s" * 16, terms=lambda _m, _t: Terms("b", "", 1), utc_ns=time.time_ns)
    with pytest.raises(QedgeError) as error:
        client.step(server.step(client.step(b"")))
    assert error.value.code == "crypto.refused_algorithm"


# A06, A07: altered handshakes, malformed keys


@pytest.mark.parametrize("flight", [0, 1, 2, 3])
def test_a06_a_bit_flipped_in_any_flight_ends_in_no_session(flight: int) -> None:
    fleet = ThrowAwayFleet(FLEET)
    contexts = [HandshakeContexts(*fleet.member(name), fleet.trust(), (SUITES[1],)) for name in ("a", "b")]
    for _ in range(12):
        client = Handshake(contexts[0], session=b"s" * 16, terms=Terms("a", "", 1), peer="b", utc_ns=time.time_ns)
        server = Handshake(
            contexts[1], session=b"s" * 16, terms=lambda _m, _t: Terms("b", "", 1), peer="a", utc_ns=time.time_ns
        )
        sides, data = (client, server), b""
        try:
            for number in range(5):
                data = sides[number % 2].step(data)
                if number == flight and data:
                    altered = bytearray(data)
                    altered[6 + secrets.randbelow(len(altered) - 6)] ^= 1 << secrets.randbelow(8)
                    data = bytes(altered)
        except QedgeError as error:
            assert error.code.startswith(("session.", "auth.", "crypto."))
        assert client.agreed is None or server.agreed is None or client.agreed.exported != server.agreed.exported


@pytest.mark.parametrize("size", [0, 10, 1951, 1953, 4000])
def test_a07_malformed_keys_and_signatures_give_typed_errors(size: int) -> None:
    key = generate("ml-dsa-65", os.urandom)
    with pytest.raises(QedgeError) as bad_key:
        PublicKey.from_der(key.public_key.der[:size] if size < 1900 else os.urandom(size))
    assert bad_key.value.code == "auth.bad_key"
    signature = key.sign(b"m", "p")
    signature = signature[:size] + bytes(max(0, size - len(signature)))
    with pytest.raises(QedgeError) as bad_signature:
        key.public_key.verify(signature, b"m", "p")
    assert bad_signature.value.code == "auth.bad_signature"


def test_a07_a_context_longer_than_all_libraries_take_is_never_used() -> None:
    key = generate("ml-dsa-65", os.urandom)
    with pytest.raises(ValueError, match="too long"):
        key.sign(b"m", "x" * 60)


# A08: births of those who do not belong here


def forged_births() -> dict[str, bytes]:
    home, elsewhere = ThrowAwayFleet(FLEET), ThrowAwayFleet(FLEET)
    expired = ThrowAwayFleet(FLEET, utc_ns=time.time_ns() - 400 * 86_400 * 10**9)
    birth = make_birth(NodeIdentity(FLEET, "evil", "0", "boot", 1), (), time.time_ns())
    unsigned = encode(Header(BIRTH_OF_EVIL, "evil", 0, purpose_of(Birth), time.time_ns()), birth)
    return {
        "unsigned": unsigned,
        "other CA": signed_birth(elsewhere, "evil"),
        "expired": signed_birth(expired, "evil"),
        "other CA's member for a name of ours": signed_birth(home, "evil", signer="other"),
    }


@pytest.mark.parametrize("kind", ["unsigned", "other CA", "expired", "other CA's member for a name of ours"])
async def test_a08_a_birth_without_a_place_in_the_fleet_makes_no_peer(site: Site, kind: str) -> None:
    a = await site.node("a")
    site.broker.publish(BIRTH_OF_EVIL, forged_births()[kind], retain=True)
    await until(lambda: a.bus.rejected)
    assert a.state("evil") is None
    with pytest.raises(QedgeError):
        await ping(a, "evil")


async def test_a08_a_member_cannot_speak_for_another(site: Site) -> None:
    a, b = await site.pair()
    where = topic(FLEET, "b", Channel.BIRTH)
    site.broker.publish(where, signed_birth(site.fleet, "b", signer="a", where=where, epoch=99), retain=True)
    wrong = signed_birth(site.fleet, "a", where=where, epoch=99)
    site.broker.publish(where, wrong, retain=True)
    await until(lambda: len(a.bus.rejected) >= 2)
    assert next(each.epoch for each in a.mesh.peers().peers if each.node == "b") == 1
    assert b.state("a") is PeerState.ALIVE


async def test_a08_certificates_of_other_roles_make_no_peer(site: Site) -> None:
    a = await site.node("a")
    for role in (Role.DEVICE, Role.OPERATOR):
        key = generate("ml-dsa-65", os.urandom)
        leaf = make_leaf(
            Subject(FLEET, role, "evil"),
            key.public_key,
            site.fleet.issuing,
            site.fleet.issuing_key,
            time.time_ns(),
            9,
            os.urandom,
        )
        birth = make_birth(NodeIdentity(FLEET, "evil", "0", "boot", 1), (), time.time_ns())
        header = Header(BIRTH_OF_EVIL, "evil", 0, purpose_of(Birth), time.time_ns())
        site.broker.publish(BIRTH_OF_EVIL, sign_envelope(header, birth, key, (leaf, site.fleet.issuing)), retain=True)
    await until(lambda: a.rejected("auth.untrusted") == 2)
    assert a.state("evil") is None


async def test_a08_a_revoked_peer_loses_its_place_its_session_and_its_births(site: Site) -> None:
    a, b = await site.pair()
    await ping(a, "b")
    key_id = next(each.key_id for each in a.mesh.peers().peers if each.node == "b")
    assert await a.mesh.take_revocations(site.fleet.revoke(key_id))
    await until(lambda: a.state("b") is PeerState.REVOKED)
    assert a.sessions.view("b").state == "none"
    with pytest.raises(QedgeError) as error:
        await ping(a, "b")
    assert error.value.code == "peer.unknown"
    before = a.rejected("auth.revoked")
    site.broker.publish(topic(FLEET, "b", Channel.BIRTH), site.broker.of(Channel.BIRTH, "b")[-1].payload)
    await until(lambda: a.rejected("auth.revoked") > before)
    with pytest.raises(QedgeError):
        await b.sessions.call("a", Ping(b"nonce"), Pong, deadline_s=1)
    assert a.kept == [1]


# A09 – A11: wills, retained state


async def test_a09_a_forged_last_will_only_makes_peers_ask(site: Site) -> None:
    a, b = await site.pair()
    where = topic(FLEET, "b", Channel.LOST)
    forged = encode(Header(where, "b", 0, purpose_of(Lost), time.time_ns()), Lost(1, b"i" * 16))
    for _ in range(20):
        site.broker.publish(where, forged)
        await asyncio.sleep(0.02)
    await asyncio.sleep(1)
    assert a.state("b") is PeerState.ALIVE
    assert b.state("a") is PeerState.ALIVE


async def test_a10_lists_of_revoked_keys_only_grow_whatever_is_retained(site: Site) -> None:
    a, b = await site.pair()
    stranger = ThrowAwayFleet(FLEET)
    old = site.fleet.revoke("0" * 32)
    new = site.fleet.revoke("0" * 32, "1" * 32)
    await a.mesh.take_revocations(new)
    await until(lambda: b.trust.serial == 2)
    where = topic(FLEET, AUTHORITY, Channel.REVOKED)
    for signed in (old, stranger.revoke("2" * 32), b"junk"):
        notice = RevocationNotice(signed)
        site.broker.publish(
            where, encode(Header(where, AUTHORITY, 0, purpose_of(RevocationNotice), 0), notice), retain=True
        )
    site.broker.publish(where, b"", retain=True)
    await asyncio.sleep(0.2)
    assert a.trust.serial == b.trust.serial == 2
    assert a.trust.revoked_keys == {"0" * 32, "1" * 32}
    newcomer = await site.node("c")
    await until(lambda: newcomer.trust.serial == 2)


async def test_a10_an_older_birth_that_is_retained_again_changes_nothing(site: Site) -> None:
    a, b = await site.pair()
    old = site.broker.of(Channel.BIRTH, "b")[0]
    b.mesh.announcer.look(force=True)
    await until(lambda: len(site.broker.of(Channel.BIRTH, "b")) >= 2)
    site.broker.publish(old.topic, old.payload, retain=True)
    await until(lambda: a.rejected("birth_older") >= 1)
    await asyncio.sleep(1.5)  # were the old chain of heartbeats taken for the new one, the peer would be dead by now
    assert a.state("b") is PeerState.ALIVE


async def test_a11_a_deleted_birth_leaves_the_peer_and_is_published_again(site: Site) -> None:
    a, b = await site.pair()
    where = topic(FLEET, "b", Channel.BIRTH)
    b.mesh.announcer._repaired_ns -= 10 * 10**9
    site.broker.publish(where, b"", retain=True)
    await until(lambda: where in site.broker.retained)
    assert a.state("b") is PeerState.ALIVE
    assert a.rejected("birth_deleted") == 1


# A13, A15, A17: topics, sizes, encodings


@pytest.mark.parametrize("name", ["..", "a\0b", "\ufeffx", "x" * 65_536, "", "+", "#", "a/b"])
def test_a13_names_that_are_no_topic_segments_make_no_topics_and_no_subjects(name: str) -> None:
    with pytest.raises(ValueError, match="names"):
        topic(FLEET, name, Channel.BIRTH)
    with pytest.raises((msgspec.ValidationError, msgspec.EncodeError)):
        msgspec.convert({"topic": "t", "sender": name, "sequence": 0, "purpose": "p", "utc_ns": 0}, Header)


async def test_a13_a_message_moved_to_another_topic_has_no_effect(site: Site) -> None:
    a, b = await site.pair()
    c = await site.node("c")
    await until(lambda: c.state("a") is PeerState.ALIVE and a.state("c") is PeerState.ALIVE)
    await ping(a, "b")
    await ping(a, "c")
    frame = site.broker.of(Channel.SEALED, "b")[-1]
    site.broker.publish(topic(FLEET, "c", Channel.SEALED), frame.payload)
    await until(lambda: c.rejected("bus.bad_message") == 1)
    birth = site.broker.of(Channel.BIRTH, "b")[-1]
    site.broker.publish(topic(FLEET, "c", Channel.BIRTH), birth.payload)
    await until(lambda: a.rejected("bus.bad_message") >= 1)
    assert b.state("a") is PeerState.ALIVE


async def test_a13_a_frame_readdressed_in_the_clear_does_not_open(site: Site) -> None:
    a, b = await site.pair()
    c = await site.node("c")
    await until(lambda: c.state("a") is PeerState.ALIVE and a.state("c") is PeerState.ALIVE)
    await ping(a, "b")
    await ping(a, "c")
    frame = site.broker.of(Channel.SEALED, "b")[-1].payload
    body = frame[-int.from_bytes(frame[6:10], "big") :]
    where = topic(FLEET, "c", Channel.SEALED)
    site.broker.publish(where, cover(SealKind.SEALED, Header(where, "a", 0, "sealed/1", 0), body))
    await until(lambda: c.rejected("session.unknown") == 1)
    assert b.sessions.view("a").state == "open"


async def test_a15_a_17_oversize_and_bombs_cost_nothing(site: Site) -> None:
    a, _ = await site.pair()
    bombs = [
        bytes(MAX_BYTES + 1),
        b"QE\x01\x00\x00\x10\xff\xff\xff\xff" + bytes(16),
        b"QE\x01\x00\x00\x05\x00\x00\x00\x05" + b"\xdd\xff\xff\xff\xff" * 2,
        b"QE\x01\x00\x03\xe8\x00\x00\x00\x00" + b"\x91" * 1000,
        b"QE\x01\x02\x00\x00\x00\x00\x00\x00",
        b"QE\x01\x01" + bytes(6) + b"\x92\xdd\xff\xff\xff\xff",
    ]
    for channel in (Channel.HELLO, Channel.SEALED):
        for bomb in bombs:
            site.broker.publish(topic(FLEET, "a", channel), bomb)
    for channel in (Channel.BIRTH, Channel.PULSE, Channel.LOST, Channel.REVOKED):
        for bomb in bombs:
            site.broker.publish(topic(FLEET, "evil", channel), bomb)
    await until(lambda: len(a.bus.rejected) >= 6 * len(bombs))
    await ping(a, "b")


# Reflection, crossing, impostors


async def test_messages_thrown_back_at_their_sender_have_no_effect(site: Site) -> None:
    a, b = await site.pair()
    await ping(a, "b")
    for message in list(site.broker.of(Channel.HELLO)) + list(site.broker.of(Channel.SEALED)):
        other = "a" if "/b/" in message.topic else "b"
        site.broker.publish(
            message.topic.replace("/a/", "/x/").replace("/b/", "/a/").replace("/x/", "/b/"), message.payload
        )
        assert other in ("a", "b")
    await asyncio.sleep(0.2)
    await ping(a, "b")
    await ping(b, "a")
    assert a.state("b") is PeerState.ALIVE


async def test_an_impostor_without_the_key_cannot_hold_a_handshake_in_a_members_name(site: Site) -> None:
    a, b = await site.pair()
    stranger = ThrowAwayFleet(FLEET)
    contexts = HandshakeContexts(*stranger.member("a"), stranger.trust(), (SUITES[1],))
    session = b"x" * 16
    fake = Handshake(contexts, session=session, terms=Terms("a", "", 9), utc_ns=time.time_ns)
    answers: list[Hello] = []
    site.broker.drop = lambda message: _catch(message, session, answers)

    def say(flight: int, data: bytes) -> None:
        where = topic(FLEET, "b", Channel.HELLO)
        hello = Hello(session, flight, data)
        site.broker.publish(where, encode(Header(where, "a", 0, purpose_of(Hello), 0), hello))

    say(0, fake.step(b""))
    await until(lambda: answers)
    with pytest.raises(QedgeError):
        say(2, fake.step(answers[0].data))
    assert b.sessions.view("a").state == "none"
    site.broker.drop = lambda _message: False
    await ping(a, "b")


def _catch(message: Passed, session: bytes, answers: list[Hello]) -> bool:
    if not message.topic.endswith("/a/hello"):
        return False
    size = int.from_bytes(message.payload[4:6], "big")
    hello = msgspec.msgpack.decode(message.payload[10 + size :], type=Hello)
    if hello.session == session:
        answers.append(hello)
    return hello.session == session


async def test_a_flood_of_handshakes_is_bounded_and_leaves_room_for_members(site: Site) -> None:
    a, b = await site.pair()
    where = topic(FLEET, "b", Channel.HELLO)
    for number in range(600):
        hello = Hello(number.to_bytes(16, "big"), 0, b"junk")
        site.broker.publish(where, encode(Header(where, f"a{number % 50}", 0, purpose_of(Hello), 0), hello))
    await until(lambda: b.rejected("session.too_many") > 0)
    assert len(b.hellos._shakes) <= 128
    await asyncio.sleep(1.1)
    site.broker.drop = lambda _message: False
    await ping(a, "b")


# A31, A39


async def test_a31_no_secret_is_in_logs_reprs_or_metrics(site: Site) -> None:
    with structlog.testing.capture_logs() as logs:
        a, b = await site.pair()
        await ping(a, "b")
        await b.stop()
    text = repr(logs)
    for node in (a, b):
        key = node.hellos._contexts()._key
        seed = key.seed
        assert seed.hex() not in text
        assert repr(seed)[2:-1] not in text
        assert seed.hex() not in repr(key)


async def test_a39_a_list_that_the_broker_withholds_reaches_nodes_by_the_serial_in_births(site: Site) -> None:
    a, b = await site.pair()
    site.broker.drop = lambda message: message.topic.endswith("/revoked")
    await a.mesh.take_revocations(site.fleet.revoke("0" * 32))
    await asyncio.sleep(0.3)
    assert b.trust.serial == 0
    site.broker.drop = lambda _message: False
    site.broker.retained.pop(topic(FLEET, AUTHORITY, Channel.REVOKED), None)
    b.mesh.announcer.look(force=True)  # its birth says that it knows of no list, so whoever has one publishes it again
    await until(lambda: b.trust.serial == 1)


def test_every_suite_has_its_number_in_the_frames() -> None:
    assert {suite.value for suite in Suite} == set(SUITES)
