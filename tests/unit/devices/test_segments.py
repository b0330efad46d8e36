"""Segments at work: only who policy lets in reads, at that moment; keys follow every change."""

from __future__ import annotations

import asyncio

import pytest

from qedge.base.errors import QedgeError
from qedge.devices.segments.config import SegmentConfig, check_segments
from qedge.devices.segments.fake import FakeKeep
from qedge.devices.segments.model import FOREVER, MemberId
from qedge.security.model import Action, Subject, SubjectKind
from qedge.wire.segments import segment_topic
from qedge_device.frame import parse_header
from tests.unit.devices.segment_site import FLEET, NODE, Site, segments


async def test_members_read_their_segment_and_nobody_else_can() -> None:
    async with segments() as site:
        one, two, stranger = site.device("d1"), site.device("d2"), site.device("d3", "office")
        one.ask()
        two.ask()
        await site.settle()
        site.say("d1", "level", b"7")
        await site.settle()
        topic, _ = site.bus.posted[-1]
        assert topic == segment_topic(FLEET, NODE, "plant", "level")
        assert one.listen() == two.listen() == [b"7"]
        stranger.reader = type(stranger.reader)(two.reader._base)
        for key in stranger.keys:
            stranger.reader.take(key)
        stranger.segment = "plant"
        assert stranger.listen() == []


async def test_crossing_into_another_segment_needs_a_rule_and_is_refused_clearly() -> None:
    async with segments() as site:
        crosser = site.device("d1", "plant")
        crosser.ask("office")
        assert crosser.refusals == ["office"]
        assert ("d1", Action.SUBSCRIBE, "light") in site.denials
        site.judge.permits.add(("d1", Action.SUBSCRIBE, "light"))
        crosser.ask("office")
        await site.settle()
        assert [key.segment for key in crosser.keys] == ["office"]
        with pytest.raises(QedgeError) as refused:
            site.service.subscribe(site.subjects.known[SubjectKind.DEVICE, "d1"], "nowhere")
        assert refused.value.code == "segment.not_found"


async def test_nothing_is_sealed_for_a_device_from_the_moment_it_is_shut_out() -> None:
    async with segments() as site:
        bad, good = site.device("bad"), site.device("good")
        bad.ask()
        good.ask()
        await site.settle()
        site.subjects.known[SubjectKind.DEVICE, "bad"].quarantined = True
        site.service.shut_out(SubjectKind.DEVICE, "bad", "quarantined")
        site.say("good", "level", b"secret")
        await site.settle()
        assert good.listen() == [b"secret"]
        assert bad.listen() == []
        keys = len(bad.keys)
        bad.ask()  # and asking again helps nothing, not even to a refusal
        await site.settle()
        assert len(bad.keys) == keys
        assert "none" not in bad.refusals


async def test_a_flag_that_nobody_announced_is_found_before_a_key_is_handed_over() -> None:
    async with segments() as site:
        device = site.device("d1")
        device.ask()
        site.subjects.known[SubjectKind.DEVICE, "d1"].revoked = True
        await site.settle()
        assert device.keys == []
        assert MemberId(SubjectKind.DEVICE, "d1") not in site.service._segments["plant"].membership


async def test_a_lease_that_ends_and_a_rule_that_is_gone_end_membership() -> None:
    async with segments() as site:
        first, second, third = site.device("d1"), site.device("d2"), site.device("d3")
        for each in (first, second, third):
            each.ask()
        await site.settle()
        site.subjects.known[SubjectKind.DEVICE, "d1"].lease_until_ns = site.clock.now_ns() + 10**8
        site.judge.permits -= {("d2", Action.SUBSCRIBE, "level"), ("d2", Action.SUBSCRIBE, "flow")}
        site.service.policy_changed()
        await site.settle(0.5)
        await site.settle(0.5)
        site.say("d3", "flow", b"x")
        await site.settle()
        assert third.listen() == [b"x"]
        assert first.listen() == second.listen() == []
        assert len(site.service._segments["plant"].membership) == 1


async def test_a_member_that_loses_one_channel_keeps_the_other() -> None:
    async with segments() as site:
        member = site.device("d1")
        member.ask()
        await site.settle()
        site.judge.permits.discard(("d1", Action.SUBSCRIBE, "level"))
        site.subjects.known[SubjectKind.DEVICE, "d1"].epoch += 1
        await site.settle(0.3)
        for channel in ("level", "flow"):
            site.say("d1", channel, channel.encode())
        await site.settle()
        assert member.listen() == [b"flow"]


async def test_every_start_begins_with_an_epoch_that_was_never_used() -> None:
    keep = FakeKeep()
    epochs = []
    for _ in range(3):
        async with segments(Site(keep=keep)) as site:
            site.device("d1").ask()
            await site.settle()
            for _ in range(2):
                site.service.rekey("plant")
                site.say("d1", "level", b"x")
                await site.settle()
            epochs.append([parse_header(frame).key_id for _, frame in site.bus.posted])
    flat = [epoch for run in epochs for epoch in run]
    assert flat == sorted(set(flat))


async def test_without_a_number_on_the_disk_nothing_is_sealed() -> None:
    keep = FakeKeep()
    keep.full = True
    async with segments(Site(keep=keep)) as site:
        site.device("d1").ask()
        await site.settle()
        site.say("d1", "level", b"x")
        await site.settle()
        assert site.bus.posted == []
        assert site.service.detail("plant").segment.epoch == -1
        keep.full = False
        await site.settle(0.3)
        site.say("d1", "level", b"x")
        await site.settle()
        assert len(site.bus.posted) == 1


async def test_apps_read_through_policy_and_lose_the_feed_when_it_says_so() -> None:
    async with segments() as site:
        app = site.subjects.known[SubjectKind.APP, "dashboard"] = Subject(
            "dashboard", SubjectKind.APP, lease_until_ns=FOREVER
        )
        site.device("d1")
        for unknown in ("dashboard", "other"):
            with pytest.raises(QedgeError) as refused:
                site.service.open_feed(unknown, "plant")
            assert refused.value.code == "segment.refused"
        site.judge.permits.add(("dashboard", Action.SUBSCRIBE, "*"))
        feed = site.service.open_feed("dashboard", "plant", ("level",))
        site.say("d1", "level", b"1")
        site.say("d1", "flow", b"2")
        site.say("d1", "unheard-of", b"3")
        got = await asyncio.wait_for(anext(aiter(feed)), 5)
        assert (got.device, got.channel, got.body) == ("d1", "level", b"1")
        site.say("d1", "level", b"4")
        app.quarantined = True
        site.service.shut_out(SubjectKind.APP, "dashboard", "quarantined")
        assert [each async for each in feed] == []
        assert feed.refusal == "quarantined"
        assert site.service.detail("plant").segment.feeds == 0


async def test_a_slow_app_loses_old_readings_and_hears_how_many() -> None:
    async with segments() as site:
        site.subjects.known[SubjectKind.APP, "dashboard"] = Subject(
            "dashboard", SubjectKind.APP, lease_until_ns=FOREVER
        )
        site.judge.permits.add(("dashboard", Action.SUBSCRIBE, "*"))
        site.device("d1")
        feed = site.service.open_feed("dashboard", "plant")
        for number in range(site.service.config.feed_readings + 5):
            site.say("d1", "level", number.to_bytes(4, "big"))
        assert sum(feed.dropped.values()) == 5
        first = await anext(aiter(feed))
        assert int.from_bytes(first.body, "big") == 5


async def test_readings_of_segments_for_the_upstream_are_kept_with_their_class() -> None:
    async with segments() as site:
        site.device("d1", "office")
        site.device("d2", "plant")
        site.say("d1", "light", b"on")
        site.say("d2", "level", b"1")
        assert [(each[0], each[3].value) for each in site.onward.kept] == [("d1", "critical")]


async def test_a_device_that_cannot_be_reached_gets_the_key_when_it_asks_again() -> None:
    async with segments() as site:
        member, other = site.device("d1"), site.device("d2")
        member.ask()
        other.ask()
        await site.settle()
        site.downlink.away.add("d1")
        site.service.rekey("plant")
        await site.settle()
        site.downlink.away.clear()
        site.say("d2", "level", b"x")
        await site.settle()
        assert member.listen() == []
        assert member.refusals == ["ahead"]
        member.ask()
        await site.settle()
        site.say("d2", "level", b"y")
        await site.settle()
        assert member.listen()[-1] == b"y"


async def test_a_broker_that_is_down_costs_readings_of_the_bus_and_nothing_else() -> None:
    async with segments() as site:
        site.device("d1").ask()
        await site.settle()
        site.bus.down = True
        site.say("d1", "level", b"x")
        await site.settle()
        assert site.service.detail("plant").segment.dropped == 1


def test_segments_that_cannot_work_are_faults_of_the_configuration() -> None:
    faulty = {
        "a": SegmentConfig(("_key",)),
        "b": SegmentConfig(("x", "x")),
        "c": SegmentConfig(("x",), upstream=True),
        "d": SegmentConfig(("x",)),
    }
    assert [fault.path[2] for fault in check_segments(faulty, "")] == ["a", "b", "c"]
    assert [fault.path[2] for fault in check_segments(faulty, "cloud.pub")] == ["a", "b"]


class OneWay:
    """The connection of one device to this node."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.sent: list[tuple[str, bytes]] = []

    def send(self, device_id: str, topic: str, payload: bytes) -> bool:
        if device_id != self.device:
            return False
        self.sent.append((topic, payload))
        return True

    def cut(self, device_id: str) -> bool:
        return device_id == self.device


async def test_a_device_on_a_direct_connection_hears_its_segment_while_policy_lets_it() -> None:
    async with segments() as site:
        member, other = site.device("d1"), site.device("d2", reads=False)
        ways = [OneWay("d1"), OneWay("d2")]
        site.service.bind(ways=ways)
        where = {channel: segment_topic(FLEET, NODE, "plant", channel) for channel in ("level", "flow")}
        now = (site.clock.now_ns(), site.clock.utc_ns())
        subject, unlucky = (site.subjects.known[SubjectKind.DEVICE, name] for name in ("d1", "d2"))
        assert all(site.service.join(subject, topic, *now) for topic in where.values())
        assert not site.service.join(unlucky, where["level"], *now)
        for foreign in (
            segment_topic(FLEET, NODE, "office", "light"),
            segment_topic(FLEET, "box-9", "plant", "level"),
            segment_topic(FLEET, NODE, "nowhere", "level"),
            "qedge/v1/fleet/box-1/dev/d2/up",
        ):
            assert not site.service.join(subject, foreign, *now)
        await site.settle()
        site.service.leave("d1", where["flow"])
        for channel in ("level", "flow"):
            site.say("d2", channel, channel.encode())
        await site.settle()
        assert [topic for topic, _ in ways[0].sent] == [where["level"]]
        assert sorted(member.listen()) == [b"flow", b"level"]
        site.service.shut_out(SubjectKind.DEVICE, "d1", "quarantined")
        other.ask()
        site.say("d2", "level", b"more")
        await site.settle()
        assert len(ways[0].sent) == 1
        assert ways[1].sent == []


# Peers


async def test_a_peer_reads_a_segment_through_policy_and_follows_its_keys() -> None:
    async with segments() as site:
        site.device("d1")
        with pytest.raises(QedgeError) as refused:
            await site.visitor.open_feed(NODE, "plant", ("level",))
        assert refused.value.code == "segment.refused"
        site.subjects.known[SubjectKind.PEER, "box-2"] = Subject("box-2", SubjectKind.PEER, lease_until_ns=FOREVER)
        site.judge.permits.add(("box-2", Action.SUBSCRIBE, "level"))
        feed = await site.visitor.open_feed(NODE, "plant", ("level", "flow"))
        await site.settle()
        for number in range(3):
            site.say("d1", "level", str(number).encode())
            site.service.rekey("plant")
            await site.settle()
            await site.bus.deliver()
        got = aiter(feed)
        assert [(await asyncio.wait_for(anext(got), 5)).body for _ in range(3)] == [b"0", b"1", b"2"]


async def test_a_peer_that_is_shut_out_hears_why_and_reads_nothing_more() -> None:
    async with segments() as site:
        site.device("d1")
        site.subjects.known[SubjectKind.PEER, "box-2"] = Subject("box-2", SubjectKind.PEER, lease_until_ns=FOREVER)
        site.judge.permits.add(("box-2", Action.SUBSCRIBE, "level"))
        feed = await site.visitor.open_feed(NODE, "plant", ("level",))
        await site.settle()
        site.service.shut_out(SubjectKind.PEER, "box-2", "revoked")
        site.say("d1", "level", b"x")
        await site.settle()
        await site.bus.deliver()
        assert [each async for each in feed] == []
        assert feed.refusal == "revoked"


async def test_a_subscription_of_a_peer_that_is_not_renewed_ends() -> None:
    async with segments() as site:
        site.subjects.known[SubjectKind.PEER, "box-2"] = Subject("box-2", SubjectKind.PEER, lease_until_ns=FOREVER)
        site.judge.permits.add(("box-2", Action.SUBSCRIBE, "level"))
        feed = await site.visitor.open_feed(NODE, "plant", ("level",))
        await site.settle()
        site.clock.advance_s(site.service.config.subscription_s + 1)
        await site.settle(0.6)
        assert len(site.service._segments["plant"].membership) == 0
        assert feed.refusal == "lease"
