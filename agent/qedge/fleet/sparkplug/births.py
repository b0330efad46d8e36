"""What hosts know: the metrics of the births of a session, and what of them has changed since. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from qedge.fleet.sparkplug.model import BD_SEQ, REBIRTH, DataType, Quality, Reading

MAX_BORN: Final = 2000
"""Most metrics of one birth."""

MAX_MESSAGE_BYTES: Final = 120_000
"""Of a birth or of data: some servers end the connection of whoever sends more than 128 KiB."""

MAX_NAME: Final = 200
MAX_TEXT_BYTES: Final = 1024


def admissible(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """Return what may stand in a birth, within its limits: legal names, none twice but for upper and lower case.

    tck-id-case-sensitivity-metric-names. Long texts are cut.
    """
    found: dict[str, Reading] = {}
    folded = {BD_SEQ.lower(), REBIRTH.lower()}
    room = MAX_MESSAGE_BYTES
    for name, reading in readings.items():
        low = name.lower()
        if name and len(name) <= MAX_NAME and low not in folded and len(found) < MAX_BORN:
            short = _short(reading)
            room -= size_of(name, short)
            if room < 0:
                break
            folded.add(low)
            found[name] = short
    return found


def size_of(name: str, reading: Reading) -> int:
    """Return about how many bytes a metric takes, rather too many."""
    text = len(reading.value.encode()) if isinstance(reading.value, str) else 0
    return len(name.encode()) + text + 48


def distinct(names: Iterable[str]) -> list[str]:
    """Return the names in their order without those that differ from an earlier one only in upper and lower case.

    tck-id-case-sensitivity-sparkplug-ids, tck-id-topic-structure-namespace-unique-device-id.
    """
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(name.lower(), name)
    return list(found.values())


def _short(reading: Reading) -> Reading:
    value = reading.value
    if isinstance(value, str) and len(value) * 4 > MAX_TEXT_BYTES and len(value.encode()) > MAX_TEXT_BYTES:
        text = value.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
        return Reading(reading.datatype, text, reading.utc_ms, reading.quality)
    if isinstance(value, float) and not math.isfinite(value):
        # hosts store it in data bases that have no such numbers
        return Reading(reading.datatype, None, reading.utc_ms, Quality.BAD)
    return reading


class Births:
    """The birth certificates of a session by owner (a device, empty: the node), each with the value said last.

    `deadband_ratio`: a real number that differs by less than this share from what was said last has not changed.
    """

    def __init__(self, deadband_ratio: float) -> None:
        self._deadband = deadband_ratio
        self._said: dict[str, dict[str, Reading]] = {}

    @property
    def owners(self) -> tuple[str, ...]:
        """Whose births were published and hold."""
        return tuple(self._said)

    def clear(self) -> None:
        """Forget all: a new NBIRTH makes every older birth void."""
        self._said.clear()

    def born(self, owner: str, readings: Mapping[str, Reading]) -> None:
        """Take note of a birth."""
        self._said[owner] = dict(readings)

    def died(self, owner: str) -> None:
        """Take note of a DDEATH."""
        self._said.pop(owner, None)

    def datatype(self, owner: str, name: str) -> DataType | None:
        """Return the type of a metric in its birth; None where no birth holds it."""
        reading = self._said.get(owner, {}).get(name)
        return reading.datatype if reading is not None else None

    def new(self, owner: str, readings: Mapping[str, Reading]) -> dict[str, Reading]:
        """Return what the birth does not have, or has with another type: with any of it a new birth is due."""
        said = self._said.get(owner, {})
        return {
            name: each
            for name, each in readings.items()
            if name not in said or said[name].datatype is not each.datatype
        }

    def changed(self, owner: str, readings: Mapping[str, Reading], utc_ms: int) -> dict[str, Reading]:
        """Return what differs from what was said last.

        tck-id-principles-rbe-recommended, tck-id-operational-behavior-data-publish-{nbirth,dbirth}-change.
        A metric that is not there any more becomes null and stale, once.
        """
        found: dict[str, Reading] = {}
        for name, said in self._said.get(owner, {}).items():
            now = readings.get(name)
            if now is None:
                if said.value is not None or said.quality is not Quality.STALE:
                    found[name] = Reading(said.datatype, None, utc_ms, Quality.STALE)
            elif self._differs(said, now):
                found[name] = now
        return found

    def say(self, owner: str, readings: Mapping[str, Reading]) -> None:
        """Take note of what was published."""
        if owner in self._said:
            self._said[owner].update(readings)

    def _differs(self, said: Reading, now: Reading) -> bool:
        if said.quality is not now.quality:
            return True
        old, new = said.value, now.value
        if isinstance(old, float) and isinstance(new, float):
            return abs(new - old) > self._deadband * abs(old)
        return old != new
