"""Attacks on segments, their keys, commands and the spool, under the numbers of the attack list in the docs."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.devices.onward.config import KeepConfig, OnwardConfig
from qedge.devices.segments.epochs import EpochLine
from qedge.devices.segments.fake import FakeKeep
from qedge.devices.segments.model import FOREVER, RetentionClass
from qedge.security.model import Action, Subject, SubjectKind
from qedge.wire.segments import SegmentReading, SegmentReadings, segment_topic
from qedge_device.frame import HEADER_BYTES, Sealer
from qedge_device.group import GROUP_SUITE, MAX_STEPS, GroupError, GroupReader, epoch_keys, next_secret
from tests.unit.devices.onward_site import FakeUplink, spooling
from tests.unit.devices.segment_site import FLEET, NODE, Member, Site, segments

TOPIC = segment_topic(FLEET, NODE, "plant", "level")


async def member_of(site: Site, name: str = "d1") -> Member:
    member = site.device(name)
    member.ask()
    await site.settle()
    return member


async def one_frame(site: Site, body: bytes = b"x") -> bytes:
    site.say("d1", "level", body)
    await site.settle()
    return site.bus.posted[-1][1]


async def test_a01_the_broker_repeats_a_frame_of_a_segment() -> None:
    async with segments() as site:
        member = await member_of(site)
        frame = await one_frame(site)
        site.bus.posted += [(TOPIC, frame)] * 3
        assert member.listen() == [b"x"]
        assert member.refusals == ["replay"] * 3


async def test_a02_frames_and_keys_of_an_earlier_run_are_worth_nothing() -> None:
    keep = FakeKeep()
    async with segments(Site(keep=keep)) as site:
        old = await member_of(site)
        frame = await one_frame(site)
    async with segments(Site(keep=keep)) as site:
        member = await member_of(site)
        site.bus.posted.append((TOPIC, frame))
        assert member.listen() == []
        assert member.refusals == ["old"]
        fresh = await one_frame(site, b"y")
        with pytest.raises(GroupError) as ahead:
            old.reader.open("level", fresh)
        assert ahead.value.reason == "ahead"


async def test_a03_forged_epochs_and_counters_have_no_effect_and_bounded_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def counted(secret: bytes, topic: str) -> bytes:
        steps.append(topic)
        return next_secret(secret, topic)

    async with segments() as site:
        member = await member_of(site)
        frame = await one_frame(site)
        epoch = struct.unpack(">I", frame[1:5])[0]
        monkeypatch.setattr("qedge_device.group.next_secret", counted)
        for jump in (1, MAX_STEPS - 1, MAX_STEPS, 2**20, 2**32 - 1 - epoch):
            forged = frame[:1] + struct.pack(">IQ", epoch + jump, 2**40) + frame[HEADER_BYTES:]
            steps.clear()
            with pytest.raises(GroupError):
                member.reader.open("level", forged)
            assert len(steps) <= MAX_STEPS + 1
        monkeypatch.undo()
        assert member.listen() == [b"x"]


async def test_a13_a_frame_moved_to_another_channel_segment_or_node_does_not_open() -> None:
    async with segments() as site:
        member = await member_of(site)
        frame = await one_frame(site)
        with pytest.raises(GroupError):
            member.reader.open("flow", frame)
        other = GroupReader(f"qedge/v1/{FLEET}/box-2/seg/plant")
        for key in member.keys:
            other.take(key)
        with pytest.raises(GroupError):
            other.open("level", frame)
        for channel in ("..", "a/b", "\0", "\ufeff", "x" * 65536):
            site.say("d1", channel, b"x")
        await site.settle()
        assert len(site.bus.posted) == 1


async def test_a16_nothing_is_decompressed_and_a_bomb_is_carried_as_it_is() -> None:
    bomb = zlib.compress(bytes(10_000_000), 9)
    async with segments() as site:
        member = await member_of(site)
        frame = await one_frame(site, bomb)
        assert len(frame) < 2 * len(bomb)
        assert member.listen() == [bomb]
    for root in ("devices", "security"):
        for file in (Path(__file__).resolve().parents[2] / "agent" / "qedge" / root).rglob("*.py"):
            assert not {"zlib", "gzip", "lzma", "bz2", "zipfile"} & set(file.read_text("utf-8").split()), file


async def test_a17_a_member_that_forges_huge_lists_is_refused_before_they_are_made() -> None:
    # any member has the group key and could seal this; what opens it must not allocate what it claims
    async with segments() as site:
        site.subjects.known[SubjectKind.PEER, "box-2"] = Subject("box-2", SubjectKind.PEER, lease_until_ns=FOREVER)
        site.judge.permits.add(("box-2", Action.SUBSCRIBE, "*"))
        feed = await site.visitor.open_feed(NODE, "plant", ("level",))
        await site.settle()
        claim = b"\x82\xa4type\xb2segment-readings/1\xa8readings\xdd\xff\xff\xff\xff"
        many = msgspec.msgpack.encode(SegmentReadings((SegmentReading("d", 0, b""),) * 5000))
        line = site.service._segments["plant"].membership.line
        for payload in (claim, many, b"", b"\xc1", msgspec.msgpack.encode({"type": "segment-readings/2"})):
            frame = line.seal("level", payload)
            assert frame is not None
            site.bus.posted.append((TOPIC, frame))
        site.device("d1")
        site.say("d1", "level", b"sound")
        await site.settle()
        await site.bus.deliver()
        feed.close()
        assert [each.body async for each in feed] == [b"sound"]


async def test_a22_who_carries_or_reads_one_channel_learns_nothing_of_another() -> None:
    # the broker in the middle has no key; a member of one channel has none of the others, nor of what comes after it
    async with segments() as site:
        half = site.device("half", reads=False)
        site.judge.permits.add(("half", Action.SUBSCRIBE, "level"))
        half.ask(channels=("level", "flow"))
        await member_of(site)
        site.say("d1", "flow", b"hidden")
        site.say("d1", "level", b"shown")
        await site.settle()
        assert half.listen() == [b"shown"]
        assert all(set(key.secrets) == {"level"} for key in half.keys)
        assert not any(b"hidden" in frame or b"shown" in frame for _, frame in site.bus.posted)
        site.service.shut_out(SubjectKind.DEVICE, "half", "revoked")
        site.say("d1", "level", b"after")
        await site.settle()
        assert half.listen() == [b"shown"]


async def test_a27_a_full_spool_or_disk_is_bounded_and_counted(tmp_path: Path) -> None:
    config = OnwardConfig(bulk=KeepConfig(1, 3600, "oldest"), queue_readings=1024)
    async with spooling(tmp_path, FakeUplink(up=False), config) as site:
        for _ in range(40):
            for _ in range(64):
                site.onward.put("d", "plant", "level", RetentionClass.BULK, site.clock.utc_ns(), os.urandom(2048))
            await site.onward.settled()
        view = site.onward.view()
        assert view.waiting_bytes <= 2**20
        assert view.waiting + sum(view.dropped.values()) == 40 * 64
        assert not site.onward.put("d", "plant", "level", RetentionClass.BULK, 0, bytes(2**20))
        assert site.onward.view().dropped["bulk.size"] == 1
    # pages of rows that are gone are used again, so the file is bounded too
    assert (tmp_path / "spool.sqlite3").stat().st_size < 4 * 2**20


async def test_a34_many_leaves_at_once_cost_one_round_of_keys() -> None:
    async with segments() as site:
        members = [site.device(f"d{number}") for number in range(40)]
        for member in members:
            member.ask()
        await site.settle()
        before = {member.name: len(member.keys) for member in members}
        for member in members[:20]:
            site.service.shut_out(SubjectKind.DEVICE, member.name, "quarantined")
        await site.settle()
        assert [len(member.keys) - before[member.name] for member in members] == [0] * 20 + [1] * 20


async def test_a39_a_revocation_that_is_withheld_ends_with_the_lease() -> None:
    # the broker holds back every list: what was checked last is good for a day at most, and then nothing goes out
    async with segments() as site:
        member, other = await member_of(site), site.device("d2")
        other.ask()
        await site.settle()
        subject = site.subjects.known[SubjectKind.DEVICE, "d1"]
        site.judge.permits.add(("control", Action.COMMAND, "*"))
        app = Subject("control", SubjectKind.APP, lease_until_ns=FOREVER)
        subject.lease_until_ns = site.clock.now_ns() + 86_400 * 10**9
        site.desk.issue(app, "d1", "open")
        site.clock.advance_s(86_401)
        await site.settle(0.6)
        commands = len(site.downlink.sent)
        with pytest.raises(QedgeError) as refused:
            site.desk.issue(app, "d1", "open")
        assert refused.value.code == "command.unreachable"
        member.ask()
        site.say("d2", "level", b"later")
        await site.settle()
        assert other.listen() == [b"later"]
        assert member.listen() == []
        assert [name for name, _, _ in site.downlink.sent[commands:] if name == "d1"] == []


async def test_a40_names_from_outside_never_become_topics_or_statements(tmp_path: Path) -> None:
    async with spooling(tmp_path, FakeUplink()) as site:
        evil = "x'); DROP TABLE telemetry; --"
        site.onward.put(evil, evil, evil, RetentionClass.TELEMETRY, 1, b"x")
        await site.until_sent(1)
        assert site.uplink.got[0].device == evil
    for name in ("a/b", "+", "#", "", "x" * 37):
        with pytest.raises(ValueError, match="name"):
            segment_topic(FLEET, NODE, name, "level")
        with pytest.raises(ValueError, match="name"):
            segment_topic(FLEET, NODE, "plant", name)


def test_no_key_and_nonce_are_used_twice_over_many_epochs() -> None:
    made: set[tuple[bytes, bytes]] = set()
    line = EpochLine("qedge/v1/f/n/seg/s", 0, os.urandom)
    line.extend(4096)
    line.renew(0)
    for _ in range(300):
        generation = line.generation
        assert generation is not None
        for channel in ("a", "b"):
            pair = epoch_keys(generation.secret(channel, line.current), f"qedge/v1/f/n/seg/s/{channel}", line.current)
            assert pair not in made
            made.add(pair)
            assert isinstance(Sealer(GROUP_SUITE, *pair, line.current), Sealer)
        line.step(0)
