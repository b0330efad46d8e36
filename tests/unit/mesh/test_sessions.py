"""Sealed sessions: the same claims for every suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.crypto.session import ExtraKey, Secret, SessionKeys
from qedge.mesh import direct
from qedge.mesh.config import MeshConfig
from qedge.wire.mesh import PeerState, Ping, Pong
from qedge.wire.topics import Channel
from qedge_device.frame import FrameError
from tests.unit.mesh.mesh_site import NoKeys, Passed, Site, SiteNode, suites_of, until


class Question(msgspec.Struct, frozen=True, tag_field="type", tag="question/1"):
    text: str
    load: bytes = b""


class Reply(msgspec.Struct, frozen=True, tag_field="type", tag="reply/1"):
    text: str
    load: bytes = b""


class Bootstrap(msgspec.Struct, frozen=True, tag_field="type", tag="bootstrap/1"):
    text: str


async def _answer_bootstrap(_peer: str, question: Bootstrap) -> Reply:
    return Reply(question.text)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    yield made
    await made.close()


@pytest.fixture(params=[1, 2, 3], ids=lambda number: f"suite{number}")
async def suite_site(request: pytest.FixtureRequest) -> AsyncIterator[tuple[int, Site]]:
    made = Site(level=5 if request.param == 2 else 3)
    yield request.param, made
    await made.close()


def answering(node: SiteNode) -> list[str]:
    heard: list[str] = []

    async def serve(peer: str, question: Question) -> Reply:
        heard.append(f"{peer}: {question.text}")
        return Reply(question.text.upper(), question.load)

    node.sessions.serve(Question, serve)
    return heard


async def ask(node: SiteNode, peer: str, text: str = "hello", load: bytes = b"") -> Reply:
    return await node.sessions.call(peer, Question(text, load), Reply, deadline_s=10)


async def test_a_question_is_answered_under_every_suite_and_nothing_of_it_is_seen_outside(
    suite_site: tuple[int, Site],
) -> None:
    number, site = suite_site
    a, b = await site.pair(suites=suites_of(number))
    heard = answering(b)
    assert (await ask(a, "b", "a secret word")).text == "A SECRET WORD"
    assert heard == ["a: a secret word"]
    view = a.sessions.view("b")
    assert (view.state, view.suite, view.path) == ("open", number, "mqtt")
    assert b.sessions.view("a").suite == number
    seen = b"".join(each.payload for each in site.broker.passed)
    assert b"secret word" not in seen
    assert b"SECRET WORD" not in seen


async def test_large_messages_travel_in_parts_under_every_suite(suite_site: tuple[int, Site]) -> None:
    number, site = suite_site
    a, b = await site.pair(suites=suites_of(number))
    answering(b)
    load = bytes(range(256)) * 3000
    assert (await ask(a, "b", "big", load)).load == load
    assert all(len(each.payload) <= 256 * 1024 for each in site.broker.passed)


async def test_the_higher_name_gets_its_session_too_under_every_suite(suite_site: tuple[int, Site]) -> None:
    number, site = suite_site
    a, b = await site.pair(suites=suites_of(number))
    answering(a)
    assert (await ask(b, "a")).text == "HELLO"
    assert a.sessions.view("b").state == "open"


async def test_both_sides_may_begin_at_once_and_end_in_one_session(suite_site: tuple[int, Site]) -> None:
    number, site = suite_site
    a, b = await site.pair(suites=suites_of(number))
    answering(a)
    answering(b)
    replies = await asyncio.gather(ask(a, "b", "one"), ask(b, "a", "two"), ask(a, "b", "three"), ask(b, "a", "four"))
    assert [reply.text for reply in replies] == ["ONE", "TWO", "THREE", "FOUR"]
    assert a.sessions._sessions["b"].id == b.sessions._sessions["a"].id


async def test_a_session_outlives_a_broker_that_forgets_everything_under_every_suite(
    suite_site: tuple[int, Site],
) -> None:
    number, site = suite_site
    a, b = await site.pair(suites=suites_of(number))
    answering(b)
    await ask(a, "b")
    before = a.sessions.view("b").opened_utc_ns
    await site.broker.restart()
    assert (await ask(a, "b", "again")).text == "AGAIN"
    assert a.sessions.view("b").opened_utc_ns == before
    await until(lambda: a.state("b") is PeerState.ALIVE and b.state("a") is PeerState.ALIVE)


async def test_a_peer_that_was_restarted_gets_a_new_session_and_its_old_frames_have_no_effect(
    suite_site: tuple[int, Site],
) -> None:
    number, site = suite_site
    a, b = await site.pair(suites=suites_of(number))
    heard = answering(a)
    await ask(b, "a", "before")
    old = site.broker.of(Channel.SEALED, "a")
    await b.kill()
    key, chain = site.fleet.member("b")
    again = await site.join(SiteNode(site, "b", key, chain, site.fleet.trust(), epoch=2, suites=suites_of(number)))
    await until(lambda: a.state("b") is PeerState.ALIVE and again.state("a") is PeerState.ALIVE)
    assert (await ask(again, "a", "after")).text == "AFTER"
    for message in old:
        site.broker.publish(message.topic, message.payload)
    await until(lambda: a.rejected("session.unknown") + a.rejected("session.replayed") >= len(old))
    assert heard == ["b: before", "b: after"]


async def test_repeated_and_altered_frames_have_no_effect_and_are_counted(suite_site: tuple[int, Site]) -> None:
    number, site = suite_site
    a, b = await site.pair(suites=suites_of(number))
    heard = answering(b)
    await ask(a, "b", "before")
    site.broker.drop = lambda message: message.topic.endswith("/b/sealed")
    asking = asyncio.create_task(ask(a, "b", "held back"))
    await until(lambda: len(site.broker.of(Channel.SEALED, "b")) == 2)
    frame = site.broker.of(Channel.SEALED, "b")[-1]
    site.broker.drop = lambda _message: False
    places = range(len(frame.payload) - 60, len(frame.payload), 7)
    for place in places:
        altered = bytearray(frame.payload)
        altered[place] ^= 1
        site.broker.publish(frame.topic, bytes(altered))
    await until(lambda: b.rejected("session.bad_frame") == len(places))
    assert heard == ["a: before"]
    site.broker.publish(frame.topic, frame.payload)
    site.broker.publish(frame.topic, frame.payload)
    assert (await asking).text == "HELD BACK"
    await until(lambda: b.rejected("session.replayed") == 1)
    assert heard == ["a: before", "a: held back"]


async def test_a_broker_that_repeats_everything_changes_nothing(site: Site) -> None:
    site.broker.twice = lambda _message: True
    a, b = await site.pair()
    heard = answering(b)
    for number in range(10):
        assert (await ask(a, "b", str(number))).text == str(number)
    assert len(heard) == 10


async def test_a_lost_flight_is_made_good_by_another_handshake(site: Site) -> None:
    lost: list[Passed] = []

    def drop(message: Passed) -> bool:
        if message.topic.endswith("/a/hello") and len(lost) < 1:
            lost.append(message)
            return True
        return False

    a, b = await site.pair()
    answering(b)
    site.broker.drop = drop
    assert (await ask(a, "b")).text == "HELLO"
    assert len(lost) == 1


async def test_nobody_but_members_gets_a_session(site: Site) -> None:
    a, _ = await site.pair()
    for name in ("nobody", "a"):
        with pytest.raises(QedgeError) as error:
            await ask(a, name)
        assert error.value.code == "peer.unknown"


async def test_an_error_of_the_peer_comes_back_as_itself(site: Site) -> None:
    a, b = await site.pair()

    async def refuse(_peer: str, _question: Question) -> Reply:
        raise QedgeError("job.queue_full", "No room.", fix="Later.", limit=3)

    async def fail(_peer: str, _ping: Ping) -> Pong:
        raise RuntimeError("a secret of the other room")

    b.sessions.serve(Question, refuse)
    b.sessions.serve(Ping, fail)
    with pytest.raises(QedgeError) as refused:
        await ask(a, "b")
    assert (refused.value.code, refused.value.details) == ("job.queue_full", {"limit": 3})
    with pytest.raises(QedgeError) as failed:
        await a.sessions.call("b", Ping(b""), Pong, deadline_s=5)
    assert failed.value.code == "internal.unexpected"
    assert "secret" not in str(failed.value)


async def test_a_question_of_a_kind_that_nobody_answers_is_refused(site: Site) -> None:
    a, _ = await site.pair()
    with pytest.raises(QedgeError) as error:
        await ask(a, "b")
    assert error.value.code == "peer.not_offered"


async def test_a_peer_that_is_too_slow_costs_its_deadline_only(site: Site) -> None:
    a, b = await site.pair()
    stuck = asyncio.Event()

    async def wait(_peer: str, _question: Question) -> Reply:
        await stuck.wait()
        return Reply("late")

    b.sessions.serve(Question, wait)
    with pytest.raises(QedgeError) as error:
        await a.sessions.call("b", Question("x"), Reply, deadline_s=0.5)
    assert error.value.code == "peer.timeout"
    await until(lambda: b.sessions._calls._served.total() == 0)


async def test_more_questions_at_once_than_one_peer_may_ask_are_refused_as_busy(site: Site) -> None:
    a, b = await site.pair()
    gate = asyncio.Event()

    async def wait(_peer: str, question: Question) -> Reply:
        await gate.wait()
        return Reply(question.text)

    b.sessions.serve(Question, wait)
    asking = [asyncio.create_task(ask(a, "b", str(number))) for number in range(70)]
    await until(lambda: sum(task.done() for task in asking) >= 6)
    gate.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    busy = [each for each in outcomes if isinstance(each, QedgeError) and each.code == "peer.busy"]
    assert len(busy) == 6
    assert sum(isinstance(each, Reply) for each in outcomes) == 64


async def test_a_session_ends_when_its_peer_leaves_and_whoever_waits_is_told(site: Site) -> None:
    a, b = await site.pair()
    gate = asyncio.Event()

    async def wait(_peer: str, _question: Question) -> Reply:
        await gate.wait()
        return Reply("never")

    b.sessions.serve(Question, wait)
    asking = asyncio.create_task(ask(a, "b"))
    await until(lambda: a.sessions.view("b").state == "open")
    await b.stop()
    with pytest.raises(QedgeError) as error:
        await asking
    assert error.value.code == "peer.unreachable"
    assert a.sessions.view("b").state == "none"


async def test_what_a_broker_lost_after_acknowledging_it_is_asked_again_and_done_once(site: Site) -> None:
    a, b = await site.pair()
    heard = answering(b)
    await ask(a, "b", "before")
    for lost in ("/b/sealed", "/a/sealed"):  # the question, then the answer
        site.broker.drop = lambda message, lost=lost: message.topic.endswith(lost)  # type: ignore[misc]
        asking = asyncio.create_task(ask(a, "b", lost))
        await asyncio.sleep(0.1)
        site.broker.drop = lambda _message: False
        await site.broker.restart()
        assert (await asking).text == lost.upper()
    assert heard == ["a: before", "a: /b/sealed", "a: /a/sealed"]


# Extra keys


async def open_with_keys(site: Site, policy: str, first: dict[str, bytes], second: dict[str, bytes]) -> SiteNode:
    keys = NoKeys(policy), NoKeys(policy)
    keys[0].shared, keys[1].shared = {"b": first}, {"a": second}
    a, b = await site.node("a", keys=keys[0]), await site.node("b", keys=keys[1])
    await until(lambda: a.state("b") is PeerState.ALIVE and b.state("a") is PeerState.ALIVE)
    answering(b)
    await ask(a, "b")
    return a


async def test_an_extra_key_that_both_have_is_mixed_in_and_used_once(site: Site) -> None:
    a = await open_with_keys(site, "prefer", {"k1": b"s" * 32}, {"k1": b"s" * 32})
    assert a.sessions.view("b").extra_key
    assert a.keys.taken == ["k1"]
    assert await a.keys.offered("b") == ()


async def test_preferred_keys_that_only_one_side_has_leave_a_session_without_one_and_say_so(site: Site) -> None:
    a = await open_with_keys(site, "prefer", {"k1": b"s" * 32}, {})
    assert not a.sessions.view("b").extra_key
    assert a.keys.taken == []


async def test_without_a_required_key_only_what_leads_to_one_is_said_in_either_direction(site: Site) -> None:
    strict, lax = NoKeys("require"), NoKeys("prefer")
    a, b = await site.node("a", keys=strict), await site.node("b", keys=lax)
    heard = [answering(a), answering(b)]
    for node in (a, b):
        node.sessions.serve(Bootstrap, _answer_bootstrap, bootstrap=True)
    await until(lambda: a.state("b") is PeerState.ALIVE and b.state("a") is PeerState.ALIVE)
    for one, other in ((a, "b"), (b, "a")):
        with pytest.raises(QedgeError) as error:
            await ask(one, other)
        assert error.value.code == "session.extra_key_missing"
        assert (await one.sessions.call(other, Bootstrap("key"), Reply, deadline_s=10)).text == "key"
        assert await one.mesh.ping(other, 1, timeout_s=5)
    assert heard == [[], []]
    assert a.sessions.view("b").restricted
    assert not b.sessions.view("a").restricted
    assert a.metrics.value("qedge_sessions_by_secrecy", ("restricted",)) == 1
    assert b.metrics.value("qedge_sessions_by_secrecy", ("post-quantum",)) == 1


async def test_a_restricted_session_opens_up_as_soon_as_both_sides_share_a_key(site: Site) -> None:
    keys = NoKeys("require"), NoKeys("require")
    a, b = await site.node("a", keys=keys[0]), await site.node("b", keys=keys[1])
    answering(b)
    await until(lambda: a.state("b") is PeerState.ALIVE and b.state("a") is PeerState.ALIVE)
    with pytest.raises(QedgeError):
        await ask(a, "b")
    keys[0].shared, keys[1].shared = {"b": {"k1": b"s" * 32}}, {"a": {"k1": b"s" * 32}}
    await until(lambda: a.sessions.view("b").extra_key and b.sessions.view("a").extra_key)
    assert (await ask(a, "b")).text == "HELLO"


async def test_sessions_get_fresh_keys_again_and_again_and_no_question_is_lost_or_answered_twice(site: Site) -> None:
    secrets = {f"k{number}": bytes([number]) * 32 for number in range(3)}
    keys = NoKeys("require"), NoKeys("require")
    keys[0].shared, keys[1].shared = {"b": dict(secrets)}, {"a": dict(secrets)}
    a, b = await site.pair_with(keys, listen="127.0.0.1:0", key_period_s=0.5)
    heard: list[str] = []

    async def slowly(peer: str, question: Question) -> Reply:
        heard.append(question.text)
        await asyncio.sleep(0.3)
        return Reply(question.text)

    b.sessions.serve(Question, slowly)
    asked = 0
    while len(keys[0].taken) < 3:
        group = [f"{asked} {number}" for number in range(4)]
        replies = await asyncio.gather(*(ask(a, "b", text) for text in group))
        assert [reply.text for reply in replies] == group
        asked += 1
    assert keys[0].taken == keys[1].taken
    assert len(heard) == len(set(heard)) == 4 * asked
    assert a.metrics.value("qedge_sessions_opened_total", ("1", "true")) == 3


async def test_keys_that_the_other_side_lost_are_let_go_and_the_next_one_is_taken(site: Site) -> None:
    a = await open_with_keys(site, "prefer", {"lost": b"x" * 32, "k": b"s" * 32, "later": b"y" * 32}, {"k": b"s" * 32})
    assert a.sessions.view("b").extra_key
    assert a.keys.taken == ["k"]
    assert await a.keys.offered("b") == ("later",)


async def test_a_key_that_differs_under_the_same_id_opens_nothing(site: Site) -> None:
    with pytest.raises(QedgeError) as error:
        await open_with_keys(site, "require", {"k1": b"s" * 32}, {"k1": b"t" * 32})
    assert error.value.code == "session.extra_key_missing"


async def test_where_keys_are_only_preferred_a_session_without_one_follows_and_says_so(site: Site) -> None:
    a = await open_with_keys(site, "prefer", {"k1": b"s" * 32}, {"k1": b"t" * 32})
    assert not a.sessions.view("b").extra_key
    assert a.metrics.value("qedge_sessions_by_secrecy", ("post-quantum",)) == 1


# Keys and epochs


def keys_of(
    suite: int = 1, channel: str = "mqtt", extra: ExtraKey | None = None, **more: int
) -> tuple[SessionKeys, SessionKeys]:
    client, server = (Secret(suite, b"s" * 16, b"e" * 64, is_client, extra) for is_client in (True, False))
    return SessionKeys(client, channel, 0, **more), SessionKeys(server, channel, 0, **more)


@pytest.mark.parametrize("suite", [1, 2, 3])
def test_keys_are_renewed_by_count_and_late_frames_of_the_epoch_before_still_open(suite: int) -> None:
    client, server = keys_of(suite, max_frames=10)
    frames = [client.seal(b"%d" % number, "t", 0) for number in range(25)]
    order = [*range(8), 12, 9, 8, *range(10, 12), *range(13, 25)]
    assert [server.open(frames[number], "t") for number in order] == [b"%d" % number for number in order]
    ids = {int.from_bytes(frame[1:5], "big") for frame in frames}
    assert len(ids) == 3


def test_keys_are_renewed_after_an_hour() -> None:
    client, server = keys_of()
    first, second = client.seal(b"1", "t", 0), client.seal(b"2", "t", 3_601 * 10**9)
    assert first[1:5] != second[1:5]
    assert (server.open(first, "t"), server.open(second, "t")) == (b"1", b"2")


def test_frames_of_an_epoch_long_gone_do_not_open() -> None:
    client, server = keys_of(max_frames=1)
    frames = [client.seal(b"x", "t", 0) for _ in range(5)]
    for frame in frames[1:]:
        server.open(frame, "t")
    with pytest.raises(FrameError) as error:
        server.open(frames[0], "t")
    assert error.value.reason == "key"


@pytest.mark.parametrize(
    "other",
    [
        keys_of(suite=3)[1],
        keys_of(channel="direct")[1],
        keys_of(extra=ExtraKey("k", b"s" * 32))[1],
        keys_of(extra=ExtraKey("j", b"s" * 32))[1],
        keys_of()[0],
    ],
    ids=["suite", "channel", "extra key", "key id", "direction"],
)
def test_two_sides_that_differ_in_anything_have_different_keys(other: SessionKeys) -> None:
    with pytest.raises(FrameError):
        other.open(keys_of()[0].seal(b"x", "t", 0), "t")


def test_an_extra_key_never_stands_alone() -> None:
    extra = ExtraKey("k", b"s" * 32)
    other = SessionKeys(Secret(1, b"s" * 16, b"f" * 64, False, extra), "mqtt", 0)
    with pytest.raises(FrameError):
        other.open(keys_of(extra=extra)[0].seal(b"x", "t", 0), "t")


def test_secrets_are_not_shown() -> None:
    assert "eeee" not in repr(Secret(1, b"s" * 16, b"e" * 64, True))
    assert "s" * 8 not in repr(ExtraKey("k", b"s" * 32))


# The direct channel


async def test_the_direct_channel_carries_what_it_can_and_mqtt_the_rest(site: Site) -> None:
    a, b = await site.pair(listen="127.0.0.1:0")
    answering(b)
    await ask(a, "b")
    await until(lambda: a.sessions.view("b").path == "direct" and b.sessions.view("a").path == "direct")
    before = len(site.broker.of(Channel.SEALED))
    load = bytes(3_000_000)
    assert (await ask(a, "b", "big", load)).load == load
    assert len(site.broker.of(Channel.SEALED)) == before
    a.direct.close(a.sessions._sessions["b"])
    assert (await ask(a, "b", "small")).text == "SMALL"
    assert len(site.broker.of(Channel.SEALED)) > before


async def test_peers_with_a_direct_channel_do_without_their_broker(site: Site) -> None:
    a, b = await site.pair(listen="127.0.0.1:0", mesh=MeshConfig(forget_s=3600))
    answering(b)
    await ask(a, "b")
    await until(lambda: a.sessions.view("b").path == "direct")
    a.bus.connected = b.bus.connected = False
    assert (await ask(a, "b", "no broker")).text == "NO BROKER"


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x40" + bytes(64), b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_stranger_at_the_direct_channel_is_shown_out(site: Site, data: bytes) -> None:
    a, b = await site.pair(listen="127.0.0.1:0")
    answering(b)
    await ask(a, "b")
    host, _, port = b.direct.addresses[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    assert await asyncio.wait_for(reader.read(100), 10) == b""
    writer.close()
    assert (await ask(a, "b")).text == "HELLO"
    await until(lambda: b.metrics.value("qedge_direct_refused_total") >= 1)


async def test_who_waits_for_a_session_while_the_sessions_come_back_hears_of_it_and_is_not_cancelled(
    site: Site,
) -> None:
    a, _ = await site.pair()
    a.bus.refuse = lambda _topic: True
    site.broker.drop = lambda message: message.topic.endswith("/hello")
    asking = asyncio.create_task(a.sessions.call("b", Ping(b"1"), Pong, deadline_s=5.0))
    await until(lambda: a.sessions.view("b").state == "opening")
    running = a._tasks[1]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with pytest.raises(QedgeError) as error:
        await asking
    assert error.value.code == "peer.unreachable"


async def test_a_fault_in_one_handshake_leaves_the_sessions_with_others(site: Site) -> None:
    a, _ = await site.pair()
    await site.node("c")
    await until(lambda: a.state("c") is PeerState.ALIVE)
    await a.mesh.ping("c", 1)
    offered = a.keys.offered

    async def faulty(peer: str) -> tuple[str, ...]:
        if peer == "b":
            raise ValueError("a row that cannot be read")
        return await offered(peer)

    a.keys.offered = faulty  # type: ignore[method-assign]
    a.sessions.forget("b", "for the test")
    with pytest.raises(QedgeError):
        await a.sessions.call("b", Ping(b"1"), Pong, deadline_s=0.3)
    assert not a._tasks[1].done()
    await a.mesh.ping("c", 1)


async def test_a_peer_that_reads_nothing_from_the_direct_channel_loses_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "SEND_LIMIT_S", 0.05)
    a, b = await site.pair(listen="auto")
    await a.mesh.ping("b", 1)
    await until(lambda: a.sessions.view("b").path == "direct" and b.sessions.view("a").path == "direct")
    stream = a.direct.stream(a.sessions._sessions["b"])
    other = b.direct.stream(b.sessions._sessions["a"])
    assert stream is not None
    assert other is not None
    monkeypatch.setattr(other, "receive", asyncio.Event().wait)
    other._writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def flood() -> None:
        while True:
            await stream.send(bytes(200_000))

    flooding = asyncio.create_task(flood())
    done, _ = await asyncio.wait({flooding}, timeout=5)
    assert done
    assert isinstance(flooding.exception(), OSError)
