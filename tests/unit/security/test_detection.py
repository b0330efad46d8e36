"""Detection: limits speak at once, habits after two windows, and what is ordinary raises nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from qedge.security.config import DetectionConfig
from qedge.security.detection.detector import TICK_S, Detector
from qedge.security.detection.model import WINDOW_S, Finding
from qedge.security.detection.tallies import TallyBook
from qedge.security.model import Evidence, Subject, SubjectKind
from qedge.security.tally import Tally


class Watch:
    """A detector on a virtual clock."""

    def __init__(self, **settings: int | float) -> None:
        self.config = DetectionConfig(**settings)  # type: ignore[arg-type]  # numbers of either kind
        self.book = TallyBook(self.config.max_addresses)
        self.detector = Detector(self.config, self.book, 0)
        self.now_s = 0.0

    @property
    def now_ns(self) -> int:
        return round(self.now_s * 1e9)

    def tally(self, name: str = "d", device_class: str = "") -> Tally:
        return self.book.device(Subject(name, SubjectKind.DEVICE, device_class), self.now_ns)

    def send(self, number: int, size: int = 100, name: str = "d", channel: str = "reading", kind: str = "") -> None:
        tally = self.tally(name, kind)
        tally.messages += number
        tally.bytes_in += number * size
        tally.channels.add(channel)
        tally.last_ns = self.now_ns

    def run(self, seconds: float, each_second: Callable[[], None] = lambda: None) -> list[Finding]:
        found = []
        for tick in range(round(seconds / TICK_S)):
            if tick % round(1 / TICK_S) == 0:
                each_second()
            self.now_s += TICK_S
            found += self.detector.tick(self.now_ns)
        return found


def kinds(findings: list[Finding]) -> list[Evidence]:
    return [each.evidence for each in findings]


def test_a_flood_is_found_within_a_second() -> None:
    watch = Watch()
    watch.run(3)
    watch.send(1001)
    (found,) = watch.run(0.5)
    assert (found.evidence, found.device) == (Evidence.FLOODING, "d")
    assert found.severity >= 0.5
    assert watch.run(WINDOW_S) == []  # once a window


def test_messages_within_the_limit_are_no_flood_even_where_the_node_was_held_up() -> None:
    watch = Watch(messages=100)
    watch.run(WINDOW_S, lambda: watch.send(20))
    assert watch.run(60, lambda: watch.send(20)) == []
    watch = Watch(connects=10)
    watch.tally().connects = 10
    assert watch.run(WINDOW_S) == []


@pytest.mark.parametrize(
    ("field", "number", "evidence"),
    [
        ("malformed", 3, Evidence.MALFORMED),
        ("failed", 3, Evidence.AUTHENTICATION_FAILED),
        ("replayed", 3, Evidence.REPLAYED),
        ("denied", 5, Evidence.DENIED),
        ("connects", 11, Evidence.FLOODING),
    ],
)
def test_each_limit_speaks_when_it_is_passed_and_not_before(field: str, number: int, evidence: Evidence) -> None:
    watch = Watch()
    setattr(watch.tally(), field, number - 1)
    assert watch.run(WINDOW_S) == []
    setattr(watch.tally(), field, number)
    assert kinds(watch.run(WINDOW_S)) == [evidence]
    assert getattr(watch.tally(), field) == 0


def test_many_channels_in_a_window_are_a_spread() -> None:
    watch = Watch()
    for number in range(33):
        watch.send(1, channel=f"channel-{number}")
    assert kinds(watch.run(WINDOW_S)) == [Evidence.TOPIC_SPREAD]


def test_guessing_once_a_second_or_slower_is_found_by_its_failures_not_by_its_rate() -> None:
    for every_s in (1, 10, 60):
        watch = Watch()
        attempts = 0
        while not (found := watch.run(every_s)):
            watch.book.address("192.0.2.1", watch.now_ns).failed += 1
            attempts += 1
            assert attempts <= 20
        assert [(each.evidence, each.address) for each in found] == [(Evidence.AUTHENTICATION_FAILED, "192.0.2.1")]


def test_a_forgotten_password_now_and_then_is_no_guessing() -> None:
    watch = Watch()

    def fail() -> None:
        if round(watch.now_s) % 300 == 0:
            watch.book.address("192.0.2.1", watch.now_ns).failed += 1

    assert watch.run(4 * 3600 / 10, fail) == []


def test_addresses_are_bounded_and_the_worst_is_kept() -> None:
    watch = Watch(max_addresses=16)
    watch.book.address("192.0.2.1", 0).failed += 9
    for number in range(1000):
        watch.book.address(f"198.51.100.{number}", 0).failed += 1
    assert len(watch.book.addresses) == 16
    assert "192.0.2.1" in watch.book.addresses


def test_an_address_that_does_nothing_is_forgotten() -> None:
    watch = Watch(failures_half_life_s=10)
    watch.book.address("192.0.2.1", 0).failed += 3
    watch.run(60)
    assert watch.book.addresses == {}


def test_a_device_that_suddenly_sends_far_more_than_ever_is_unusual_in_the_second_window() -> None:
    watch = Watch()
    assert watch.run(300, lambda: watch.send(2)) == []
    assert watch.run(WINDOW_S, lambda: watch.send(100)) == []
    found = watch.run(WINDOW_S, lambda: watch.send(100))
    assert kinds(found) == [Evidence.ODD_PAYLOADS]
    assert "as many messages" in found[0].detail


def test_payloads_of_another_size_than_ever_are_unusual() -> None:
    watch = Watch()
    assert watch.run(300, lambda: watch.send(2, size=40)) == []
    found = watch.run(2 * WINDOW_S, lambda: watch.send(2, size=4000))
    assert kinds(found) == [Evidence.ODD_PAYLOADS]
    assert "4000 bytes where 41 are usual" in found[0].detail


def test_a_whole_class_that_wakes_up_is_no_attack_and_one_of_it_alone_is_odd() -> None:
    for awake, expected in ((300, 0), (1, 1)):
        watch = Watch()
        numbers = [1] * 300

        def speak(watch: Watch = watch, numbers: list[int] = numbers) -> None:
            if round(watch.now_s) % WINDOW_S == 0:
                for each, number in enumerate(numbers):
                    watch.send(number, name=f"d{each}", kind="meter")

        assert watch.run(130, speak) == []
        numbers[:awake] = [100] * awake
        assert len({each.device for each in watch.run(20, speak)}) == expected


def test_nobody_learns_a_device_that_was_hardly_seen() -> None:
    watch = Watch()
    watch.run(60, lambda: watch.send(1))
    assert watch.run(30, lambda: watch.send(100, size=5000)) == []


def test_a_device_that_always_spoke_is_missed_and_one_that_speaks_now_and_then_is_not() -> None:
    watch = Watch()

    def speak() -> None:
        watch.send(1, name="steady")
        if round(watch.now_s) % 60 == 0:
            watch.send(1, name="seldom")

    assert watch.run(900, speak) == []
    found = watch.run(300)
    assert [(each.evidence, each.device) for each in found] == [(Evidence.SILENT, "steady")]
    assert watch.run(300, speak) == []


def test_an_hour_without_anything_odd_speaks_for_a_device() -> None:
    watch = Watch()
    found = watch.run(3700, lambda: watch.send(1))
    assert kinds(found) == [Evidence.WELL_BEHAVED]


def test_ordinary_devices_of_all_kinds_raise_nothing() -> None:
    dice = random.Random(5)
    watch = Watch()

    def speak() -> None:
        watch.send(1, size=dice.randrange(60, 80), name="steady")
        watch.send(dice.randrange(0, 4), size=dice.choice((20, 90)), name="ragged")
        if dice.random() < 0.05:
            watch.send(dice.randrange(1, 6), size=int(dice.lognormvariate(4, 1)), name="bursts")

    assert watch.run(1500, speak) == []


def test_a_device_that_is_forgotten_is_watched_no_more() -> None:
    watch = Watch()
    watch.send(5000)
    watch.book.forget("d")
    assert len(watch.book) == 0
    assert watch.run(WINDOW_S) == []


def test_following_looks_only_at_what_is_new_and_forgets_what_is_gone() -> None:
    class Unread(dict[str, Tally]):
        looks = 0

        def __getitem__(self, name: str) -> Tally:
            Unread.looks += 1
            return super().__getitem__(name)

    known = {f"d{number}": Subject(f"d{number}", SubjectKind.DEVICE) for number in range(101)}
    book, theirs = TallyBook(8), Unread({name: Tally() for name in list(known)[:100]})
    book.follow(theirs, known.get, 0)
    assert len(book) == 100
    Unread.looks = 0
    book.follow(theirs, known.get, 1)
    assert Unread.looks == 1, "once a second, for ten thousand devices, all would be far too many"
    theirs["d100"] = Tally()
    book.follow(theirs, known.get, 2)
    assert len(book) == 101
    del theirs["d50"]
    book.follow(theirs, known.get, 3)
    assert len(book) == 100
    theirs["d50"] = again = Tally()
    del theirs["d7"]
    theirs["stranger"] = Tally()
    book.follow(theirs, known.get, 4)
    assert len(book) == 100
    assert {each.subject.id for each in book.watched()} == set(known) - {"d7"}
    assert book.device(known["d50"], 5) is again
