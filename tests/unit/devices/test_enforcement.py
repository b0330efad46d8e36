from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.base.metrics import Metrics
from qedge.devices.enforcement import MAX_KNOWN_CHANNELS, MAX_TALLIED_CHANNELS, Delivery, Enforcement, Outcome
from qedge.devices.fake import FakeConsumer, FakeDoorman, FakeJudge, FakeSessionBook, FakeWay, FakeWitness
from qedge.security.model import Action, Evidence, Reason, Subject, SubjectKind

NOW, UTC = 1_000, 2_000


class Site:
    """An enforcement point with one device, `d`."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.book = FakeSessionBook()
        self.judge = FakeJudge()
        self.witness = FakeWitness()
        self.consumer = FakeConsumer()
        self.subject = FakeDoorman().add("d")
        self.device = self.book.open(self.subject)
        self.way = FakeWay({"d"})
        self.enforcement = Enforcement(
            self.book, self.judge, consumers=[self.consumer], witness=self.witness, metrics=self.metrics
        )
        self.enforcement.connect([FakeWay(), self.way])

    def up(self, frame: bytes, topic: str = "", *, again: bool = False, proven: bool = True) -> int:
        return self.enforcement.up("d", topic or self.device.up_topic, frame, NOW, UTC, again, proven)

    def messages(self, outcome: str) -> float:
        self.enforcement.flush()
        return self.metrics.value("qedge_device_messages_total", (outcome,))


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_sound_reading_goes_to_the_consumers_and_is_counted(site: Site) -> None:
    frame = site.device.seal("temperature", b"21.5")
    assert site.up(frame) == Outcome.TAKEN
    assert site.consumer.taken == [("d", "temperature", b"21.5")]
    tally = site.enforcement.tallies["d"]
    assert (tally.messages, tally.bytes_in, tally.squared_bytes) == (1, len(frame), len(frame) ** 2)
    assert (tally.channels, tally.last_ns) == ({"temperature"}, NOW)
    assert site.messages("taken") == 1


def test_policy_is_asked_about_every_reading_with_channel_and_segment(site: Site) -> None:
    for channel in ("a", "b", "a"):
        site.up(site.device.seal(channel, b""))
    assert site.judge.asked == [("d", Action.PUBLISH, each) for each in ("a", "b", "a")]


def test_what_policy_denies_reaches_nobody_and_is_told(site: Site) -> None:
    site.judge.denied["secret"] = Reason.TRUST
    assert site.up(site.device.seal("secret", b"x")) == Outcome.DENIED
    assert site.consumer.taken == []
    assert site.witness.denials == [("d", Action.PUBLISH, "secret", Reason.TRUST)]
    assert site.enforcement.tallies["d"].denied == 1
    site.enforcement.flush()
    assert site.metrics.value("qedge_device_denials_total", ("trust",)) == 1


def test_a_frame_that_comes_again_has_no_effect(site: Site) -> None:
    frame = site.device.seal("t", b"x")
    site.up(frame)
    assert site.up(frame) == Outcome.REPLAYED
    assert site.up(frame, again=True) == Outcome.DUPLICATE
    assert len(site.consumer.taken) == 1
    assert site.enforcement.tallies["d"].replayed == 1
    assert site.witness.oddities == [("d", Evidence.REPLAYED)]


def test_a_frame_of_another_topic_does_not_open(site: Site) -> None:
    assert site.up(site.device.seal("t", b"x"), "qedge/v1/f/n/dev/e/up") == Outcome.UNOPENED
    assert site.up(site.device.seal("t", b"x")) == Outcome.TAKEN


def test_what_strangers_publish_in_a_devices_name_does_not_count_against_it(site: Site) -> None:
    sound = site.device.seal("t", b"x")
    site.up(sound)
    altered = bytearray(site.device.seal("t", b"x"))
    altered[-1] ^= 1
    for frame in (bytes(altered), sound, b"", b"\x09" * 40):
        assert site.up(frame, proven=False) != Outcome.TAKEN
    tally = site.enforcement.tallies["d"]
    assert (tally.failed, tally.replayed, tally.malformed, tally.denied) == (0, 0, 0, 0)
    assert site.witness.oddities == []
    strangers = site.enforcement.strangers
    assert (strangers.failed, strangers.replayed, strangers.malformed) == (3, 1, 0)


def test_a_device_that_sends_frames_of_no_session_although_it_has_one_is_noted(site: Site) -> None:
    for frame in (b"", b"\x09" * 40, b"\x01\x00\x00\x00\x63" + b"x" * 40):
        assert site.up(frame) == Outcome.UNOPENED
    assert site.enforcement.tallies["d"].failed == 3
    assert site.witness.oddities == [("d", Evidence.AUTHENTICATION_FAILED)] * 3
    frame = site.device.seal("t", b"x")
    site.book.close("d")
    assert site.up(frame) == Outcome.NO_SESSION
    assert site.enforcement.tallies["d"].failed == 3


def test_a_guest_is_let_in_to_be_enrolled_and_policy_is_not_asked(site: Site) -> None:
    site.judge.denied["_invitation"] = Reason.NO_RULE
    assert site.enforcement.admit(Subject("_invitation", SubjectKind.DEVICE), NOW, UTC)
    assert site.judge.asked == []


def test_devices_that_are_not_known_leave_nothing_behind(site: Site) -> None:
    for number in range(1000):
        outcome = site.enforcement.up(f"x{number}", "t", b"\x01" * 40, NOW, UTC, False, False)
        assert outcome == Outcome.NO_SESSION
    assert site.enforcement.tallies == {}


def test_a_session_that_is_over_takes_nothing(site: Site) -> None:
    session = site.book.current("d")
    assert session is not None
    session.expires_ns = NOW
    assert site.up(site.device.seal("t", b"x")) == Outcome.EXPIRED
    assert site.enforcement.down(site.subject, "d", "open", b"", NOW, UTC) is Delivery.NO_SESSION


@pytest.mark.parametrize("inside", [b"", b"\x00", b"\x05ab", b"\x02a/x", b"\x25" + b"a" * 40, b"\x03\xff\xfe\xfdx"])
def test_the_inside_of_a_frame_that_is_no_reading_is_malformed(site: Site, inside: bytes) -> None:
    site.up(site.device.seal("ab", b"x"))
    assert site.up(site.device.sealer.seal(inside, site.device.up_topic)) == Outcome.MALFORMED
    assert site.enforcement.tallies["d"].malformed == 1
    assert len(site.consumer.taken) == 1


@given(inside=st.binary(max_size=60))
def test_what_is_inside_a_frame_never_raises(inside: bytes) -> None:
    site = Site()
    outcome = site.up(site.device.sealer.seal(inside, site.device.up_topic))
    assert outcome in (Outcome.TAKEN, Outcome.MALFORMED)
    assert (outcome == Outcome.TAKEN) == (len(site.consumer.taken) == 1)


def test_channels_without_number_are_taken_within_bounds(site: Site) -> None:
    for number in range(MAX_KNOWN_CHANNELS + 50):
        assert site.up(site.device.seal(f"c{number}", b"x")) == Outcome.TAKEN
    assert len(site.enforcement.tallies["d"].channels) == MAX_TALLIED_CHANNELS
    assert len(site.enforcement._heads) == MAX_KNOWN_CHANNELS


@dataclass
class Broken:
    """A consumer with a fault."""

    def take(self, subject: Subject, channel: str, body: bytes, now_ns: int) -> None:
        raise RuntimeError("a fault")


def test_a_fault_of_one_consumer_neither_gets_out_nor_keeps_a_reading_from_the_others() -> None:
    site = Site()
    enforcement = Enforcement(
        site.book, site.judge, consumers=[Broken(), site.consumer], witness=site.witness, metrics=site.metrics
    )
    frame = site.device.seal("t", b"x")
    assert enforcement.up("d", site.device.up_topic, frame, NOW, UTC) == Outcome.FAILED
    assert site.consumer.taken == [("d", "t", b"x")]


def test_a_command_goes_by_the_first_way_that_reaches_the_device(site: Site) -> None:
    app = Subject("app", SubjectKind.APP)
    assert site.enforcement.down(app, "d", "open", b"now", NOW, UTC) is Delivery.SENT
    ((device, topic, frame),) = site.way.sent
    assert (device, topic) == ("d", site.device.down_topic)
    assert site.device.open(frame) == ("open", b"now")
    assert site.judge.asked == [("app", Action.COMMAND, "open")]


def test_a_command_that_policy_denies_or_nobody_asked_for_is_not_sent(site: Site) -> None:
    site.judge.denied["open"] = Reason.FORBIDDEN
    app = Subject("app", SubjectKind.APP)
    assert site.enforcement.down(app, "d", "open", b"", NOW, UTC) is Delivery.DENIED
    assert site.enforcement.down(None, "d", "close", b"", NOW, UTC) is Delivery.DENIED
    assert site.way.sent == []
    assert [reason for *_, reason in site.witness.denials] == [Reason.FORBIDDEN, Reason.UNKNOWN]


def test_a_quarantined_device_gets_no_commands(site: Site) -> None:
    site.subject.quarantined = True
    app = Subject("app", SubjectKind.APP)
    assert site.enforcement.down(app, "d", "open", b"", NOW, UTC) is Delivery.UNREACHABLE
    assert site.way.sent == []


def test_commands_that_cannot_be_say_why(site: Site) -> None:
    app = Subject("app", SubjectKind.APP)
    assert site.enforcement.down(app, "d", "no name", b"", NOW, UTC) is Delivery.BAD_NAME
    assert site.enforcement.down(app, "e", "open", b"", NOW, UTC) is Delivery.NO_SESSION
    site.way.cut("d")
    assert site.enforcement.down(app, "d", "open", b"", NOW, UTC) is Delivery.UNREACHABLE


def test_a_lease_that_ran_out_does_not_keep_a_device_from_renewing_it(site: Site) -> None:
    site.judge.denied["d"] = Reason.LEASE
    assert site.enforcement.admit(site.subject, NOW, UTC)
    site.judge.denied["d"] = Reason.QUARANTINED
    assert not site.enforcement.admit(site.subject, NOW, UTC)
    assert not site.enforcement.admit(None, NOW, UTC)


def test_a_reading_that_waits_is_decided_about_when_it_is_published(site: Site) -> None:
    reading = site.enforcement.open("d", site.device.up_topic, site.device.seal("status", b"gone"), NOW)
    assert reading is not None
    site.judge.denied["status"] = Reason.FORBIDDEN
    assert site.enforcement.publish(reading, NOW, UTC) == Outcome.DENIED
    site.judge.denied.clear()
    assert site.enforcement.publish(reading, NOW, UTC) == Outcome.TAKEN
    assert site.consumer.taken == [("d", "status", b"gone")]


def test_nothing_is_kept_of_guests_that_have_connected(site: Site) -> None:
    for number in range(100):
        site.enforcement.note_connect(f"_{number:016x}-a", NOW)
    assert not site.enforcement.tallies
    site.enforcement.note_connect("d", NOW)
    assert site.enforcement.tallies["d"].connects == 1


def test_a_device_that_is_forgotten_and_comes_back_is_counted_anew(site: Site) -> None:
    assert site.up(site.device.seal("a", b"")) == Outcome.TAKEN
    before = site.enforcement.tallies["d"]
    site.enforcement.forget("d")
    assert not site.enforcement.tallies
    site.device = site.book.open(site.subject)
    assert site.up(site.device.seal("a", b"")) == Outcome.TAKEN
    assert site.enforcement.tallies["d"] is not before


def test_a_device_that_changes_its_segment_within_a_session_is_judged_by_the_new_one(site: Site) -> None:
    assert site.up(site.device.seal("a", b"")) == Outcome.TAKEN
    site.subject.segment, site.subject.epoch = "other", site.subject.epoch + 1
    assert site.up(site.device.seal("a", b"")) == Outcome.TAKEN
    session = site.book.current("d")
    assert session is not None
    assert session.said is not None
    assert session.said[2].segment == "other"
