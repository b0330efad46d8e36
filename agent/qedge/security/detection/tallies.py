"""The tallies of one node: of its devices, and of addresses from which nobody has proven to be a device. Pure.

Whoever takes messages asks once for the tally and increments it, or has tallies of its own that are followed here; the
detector reads and resets them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Final

from qedge.security.detection.baseline import Baseline
from qedge.security.detection.model import SLICES
from qedge.security.model import Subject
from qedge.security.tally import Tally


class Watched:
    """One device. `flagged`: its flood in this window was reported already. `calm_ns`: since when nothing was odd."""

    __slots__ = ("baseline", "calm_ns", "flagged", "subject", "tally")

    def __init__(self, subject: Subject, now_ns: int) -> None:
        self.subject = subject
        self.tally = Tally()
        self.baseline: Baseline | None = None
        self.flagged = False
        self.calm_ns = now_ns


class Source:
    """One address. `failures` as they had decayed at `at_ns`; `reported` at that many."""

    __slots__ = ("at_ns", "failures", "reported", "tally")

    def __init__(self, now_ns: int) -> None:
        self.tally = Tally()
        self.failures = 0.0
        self.at_ns = now_ns
        self.reported = 0.0


class TallyBook:
    """All tallies. Addresses are bounded: the one with the fewest failures of some old ones makes room."""

    def __init__(self, max_addresses: int) -> None:
        self._max_addresses = max_addresses
        self._devices: dict[str, tuple[int, Watched]] = {}
        self.slices: Final = tuple(dict[str, Watched]() for _ in range(SLICES))
        self.addresses: Final = dict[str, Source]()
        self._next = cycle(range(SLICES))
        self._unknown: set[str] = set()

    def __len__(self) -> int:
        return len(self._devices)

    def device(self, subject: Subject, now_ns: int) -> Tally:
        """Return the tally of a device; it stays the same one as long as the device is not forgotten."""
        known = self._devices.get(subject.id)
        if known is None:
            number, watched = next(self._next), Watched(subject, now_ns)
            self._devices[subject.id] = number, watched
            self.slices[number][subject.id] = watched
            return watched.tally
        known[1].subject = subject
        return known[1].tally

    def follow(self, tallies: dict[str, Tally], find: Callable[[str], Subject | None], now_ns: int) -> None:
        """Watch devices by tallies that somebody else keeps: new ones are taken up, those gone are forgotten.

        New ones stand at the end, so where nothing has changed one look is enough, and ten thousand devices do not
        hold up the loop once a second. Only where one was taken away are all looked at.
        """
        for device_id in reversed(tallies):
            known = self._devices.get(device_id)
            if known is not None and known[1].tally is tallies[device_id]:
                break
            self._take_up(device_id, tallies[device_id], find, now_ns)
        if len(self._devices) + len(self._unknown) != len(tallies):
            self._unknown.clear()
            for device_id in self._devices.keys() - tallies.keys():
                self.forget(device_id)
            for device_id in tallies.keys() - self._devices.keys():
                self._take_up(device_id, tallies[device_id], find, now_ns)

    def _take_up(self, device_id: str, tally: Tally, find: Callable[[str], Subject | None], now_ns: int) -> None:
        subject = find(device_id)
        if subject is None:
            self._unknown.add(device_id)
            return
        self._unknown.discard(device_id)
        self.device(subject, now_ns)
        self._devices[device_id][1].tally = tally

    def follow_addresses(self, tallies: Mapping[str, Tally], now_ns: int) -> None:
        """Watch those addresses that have failed, by tallies that somebody else keeps."""
        for address, tally in tallies.items():
            if tally.failed or tally.malformed:
                self.address(address, now_ns)
                self.addresses[address].tally = tally

    def address(self, address: str, now_ns: int) -> Tally:
        """Return the tally of an address, to be asked for at every attempt."""
        source = self.addresses.get(address)
        if source is None:
            if len(self.addresses) >= self._max_addresses:
                self._make_room()
            source = self.addresses[address] = Source(now_ns)
        return source.tally

    def forget(self, device_id: str) -> None:
        """Forget a device."""
        number, _ = self._devices.pop(device_id, (0, None))
        self.slices[number].pop(device_id, None)

    def watched(self) -> Iterator[Watched]:
        """Return all devices."""
        return (watched for _, watched in self._devices.values())

    def _make_room(self) -> None:
        oldest = [address for address, _ in zip(self.addresses, range(_CANDIDATES), strict=False)]
        weakest = min(oldest, key=lambda each: self.addresses[each].failures + self.addresses[each].tally.failed)
        del self.addresses[weakest]


_CANDIDATES: Final = 16
