"""The seven tenets of zero trust (NIST SP 800-207, §2.1), one test each, on what is behind the enforcement point.

Segments, consumers, commands and the way upstream are the real ones; policy, sessions and the broker are stand-ins, so
that each test says what holds whatever those do.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.devices.onward.sealing import OnwardSealer, new_recipient, read_recipient
from qedge.devices.segments.fake import FakeJudge, FakeKeep
from qedge.devices.segments.model import FOREVER
from qedge.security.model import Action, Decision, Reason, Resource, ResourceKind, Subject, SubjectKind
from qedge.wire.segments import CommandAsk, OnwardReading, OnwardReadings
from qedge_device.frame import parse_header
from tests.unit.devices.onward_site import FakeUplink, spooling
from tests.unit.devices.segment_site import NODE, Site, segments

APP = Subject("dashboard", SubjectKind.APP, lease_until_ns=FOREVER)


class WatchingJudge(FakeJudge):
    """Keeps every question, and permits only who is trusted enough and has the posture that is asked for."""

    def __init__(self) -> None:
        super().__init__(("*", Action.SUBSCRIBE, "*"), ("*", Action.COMMAND, "*"))
        self.questions: list[tuple[str, Action, Resource]] = []
        self.least_trust = 0
        self.posture = ""

    def decide(self, subject: Subject | None, action: Action, resource: Resource, now_ns: int, utc_ns: int) -> Decision:
        self.questions.append((subject.id if subject is not None else "", action, resource))
        if subject is not None and subject.trust < self.least_trust:
            return Decision(False, Reason.TRUST)
        if subject is not None and self.posture and self.posture not in subject.posture:
            return Decision(False, Reason.POSTURE)
        return super().decide(subject, action, resource, now_ns, utc_ns)


def watched() -> tuple[Site, WatchingJudge]:
    site, judge = Site(), WatchingJudge()
    site.judge = site.service._judge = site.desk._judge = judge
    site.subjects.known[SubjectKind.APP, "dashboard"] = APP
    return site, judge


async def test_1_all_data_sources_and_services_are_resources() -> None:
    site, judge = watched()
    async with segments(site):
        member = site.device("d1")
        member.ask()
        site.service.open_feed("dashboard", "plant", ("level",))
        site.subjects.known[SubjectKind.PEER, "box-2"] = Subject("box-2", SubjectKind.PEER, lease_until_ns=FOREVER)
        await site.visitor.open_feed(NODE, "office", ("light",))
        site.desk.issue(APP, "d1", "open")
        asked = {(who, action, resource.kind, resource.name) for who, action, resource in judge.questions}
        assert asked == {
            ("d1", Action.SUBSCRIBE, ResourceKind.SEGMENT, "level"),
            ("d1", Action.SUBSCRIBE, ResourceKind.SEGMENT, "flow"),
            ("dashboard", Action.SUBSCRIBE, ResourceKind.SEGMENT, "level"),
            ("box-2", Action.SUBSCRIBE, ResourceKind.SEGMENT, "light"),
            ("dashboard", Action.COMMAND, ResourceKind.DEVICE, "open"),
        }


async def test_2_all_communication_is_secured_whatever_the_location(tmp_path: Path) -> None:
    site, _ = watched()
    async with segments(site):
        member = site.device("d1")
        member.ask()
        await site.settle()
        secret = os.urandom(24)
        site.say("d1", "level", secret)
        await site.settle()
        # the broker is the child of this very node, and is told no more than any other
        assert site.bus.posted
        assert not any(secret in frame for _, frame in site.bus.posted)
        assert member.listen() == [secret]
    public = new_recipient(os.urandom)[1]
    readings = OnwardReadings((OnwardReading("d1", 1, "plant", "level", 0, secret),))
    assert secret not in OnwardSealer("fleet", NODE, read_recipient(public)).seal(readings).sealed
    async with spooling(tmp_path, FakeUplink(up=False)) as spool:
        assert spool.onward.view().waiting == 0
    assert (tmp_path / "spool.sqlite3").stat().st_mode & 0o077 == 0


async def test_3_access_is_granted_per_session() -> None:
    keep = FakeKeep()
    epochs = []
    for _ in range(2):
        async with segments(Site(keep=keep)) as site:
            member, idle = site.device("d1"), site.device("d2")
            member.ask()
            await site.settle()
            site.say("d1", "level", b"x")
            await site.settle()
            epochs.append(parse_header(site.bus.posted[-1][1]).key_id)
            assert idle.keys == []  # permitted is not enough: who does not ask gets nothing
            site.subjects.known[SubjectKind.PEER, "box-2"] = Subject("box-2", SubjectKind.PEER, lease_until_ns=FOREVER)
            site.judge.permits.add(("box-2", Action.SUBSCRIBE, "level"))
            feed = await site.visitor.open_feed(NODE, "plant", ("level",))
            await site.settle()
            site.clock.advance_s(site.service.config.subscription_s + 1)
            await site.settle(0.6)
            assert feed.closed
    assert epochs[0] < epochs[1]  # a new run of the node is a new session for everybody


async def test_4_access_is_decided_by_dynamic_policy() -> None:
    site, judge = watched()
    async with segments(site):
        member, other = site.device("d1"), site.device("d2")
        feed = site.service.open_feed("dashboard", "plant")
        for each in (member, other):
            each.ask()
        await site.settle()
        site.say("d1", "level", b"1")
        await site.settle()
        judge.least_trust = 40
        subject = site.subjects.known[SubjectKind.DEVICE, "d1"]
        subject.trust, subject.epoch = 30, subject.epoch + 1  # what it did has cost it trust
        await site.settle(0.5)
        site.say("d2", "level", b"2")
        await site.settle()
        assert member.listen() == [b"1"]
        assert other.listen() == [b"1", b"2"]
        judge.permits.clear()
        site.service.policy_changed()
        await site.settle(0.5)
        site.say("d2", "level", b"3")
        await site.settle()
        assert other.listen() == [b"1", b"2"]
        assert feed.closed


async def test_5_the_posture_of_every_device_counts_at_every_moment() -> None:
    site, judge = watched()
    judge.posture = "signed-firmware"
    async with segments(site):
        member, other = site.device("d1"), site.device("d2")
        subjects = [site.subjects.known[SubjectKind.DEVICE, name] for name in ("d1", "d2")]
        for subject in subjects:
            subject.posture = frozenset({"signed-firmware"})
        for each in (member, other):
            each.ask()
        await site.settle()
        subjects[0].posture, subjects[0].epoch = frozenset(), 1
        subjects[1].lease_until_ns = site.clock.now_ns() + 3600 * 10**9
        await site.settle(0.5)
        site.say("d2", "level", b"x")
        await site.settle()
        assert (member.listen(), other.listen()) == ([], [b"x"])
        site.clock.advance_s(3601)  # and an identity that nobody checked any more counts no more
        await site.settle(0.5)
        assert len(site.service._segments["plant"].membership) == 0


async def test_6_authentication_and_authorization_come_before_access_and_again() -> None:
    site, judge = watched()
    async with segments(site):
        member = site.device("d1")
        member.ask()
        site.subjects.known[SubjectKind.DEVICE, "d1"].quarantined = True  # between the decision and the key
        await site.settle()
        assert member.keys == []
        with pytest.raises(QedgeError) as refused:
            await site.desk.command(APP, CommandAsk("d1", "open", key="k"), client="c")
        assert refused.value.code == "command.unreachable"
        assert site.keep.commands == {}  # refused before anything was begun
        with pytest.raises(QedgeError) as unknown:
            await site.visitor.open_feed(NODE, "plant", ("level",))
        assert unknown.value.code == "segment.refused"
        judge.permits.clear()
        with pytest.raises(QedgeError):
            site.desk.issue(APP, "d1", "open")
        assert site.downlink.sent == []


async def test_7_what_is_observed_is_collected_for_better_decisions() -> None:
    site, judge = watched()
    judge.permits = {("d1", Action.SUBSCRIBE, "level")}
    async with segments(site):
        site.device("d1", reads=False).ask()
        with pytest.raises(QedgeError):
            site.desk.issue(APP, "d1", "open")
        await site.settle()
        for channel in ("level", "flow", "unheard-of"):
            site.say("d1", channel, b"x")
        site.service.shut_out(SubjectKind.DEVICE, "d1", "quarantined")
        await site.settle(0.6)
        assert site.denials == [("d1", Action.SUBSCRIBE, "flow"), ("dashboard", Action.COMMAND, "open")]
        assert site.metrics.value("qedge_segment_readings_total", ("plant", "taken")) == 2
        assert site.metrics.value("qedge_segment_strays_total") == 1
        assert site.metrics.value("qedge_commands_total", ("refused",)) == 1
        assert site.service.detail("plant").epochs["left"] == 1
