"""What counts for and against a device, and how much: the one table. Pure.

The score of a device is `clamp(base + Σ points, 0, 100)`. A piece of evidence of severity s, 0 to 1, adds
`weight · s` points of its class; the points of a class halve every `half_life_s` and are never more than `cap`.

What others can do in a device's name without its key (`proven` is False) takes 28 points at most, all classes
together: with the default base of 50 and a quarantine below 20 nobody can have a device quarantined by failing
under its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qedge.security.model import Evidence

_HOUR_S: Final = 3600.0
_DAY_S: Final = 24 * _HOUR_S


@dataclass(frozen=True, slots=True)
class EvidenceClass:
    """`weight` in points at severity 1, negative against the device; `cap` the most points, without sign."""

    weight: float
    half_life_s: float
    cap: float
    proven: bool
    meaning: str


EVIDENCE: Final[Mapping[Evidence, EvidenceClass]] = {
    Evidence.AUTHENTICATION_FAILED: EvidenceClass(-20, _HOUR_S, 20, False, "Frames or logins that do not open."),
    Evidence.REPLAYED: EvidenceClass(-5, _HOUR_S, 8, False, "Frames that came before: one point each, five at a time."),
    Evidence.MALFORMED: EvidenceClass(-20, 6 * _HOUR_S, 50, True, "Packets or readings that cannot be read."),
    Evidence.DENIED: EvidenceClass(-10, _HOUR_S, 25, True, "Requests that policy denied, again and again."),
    Evidence.FLOODING: EvidenceClass(-20, 6 * _HOUR_S, 50, True, "Far more messages than a device ever sends."),
    Evidence.TOPIC_SPREAD: EvidenceClass(-15, 6 * _HOUR_S, 40, True, "Many channels in little time."),
    Evidence.ODD_PAYLOADS: EvidenceClass(-10, 6 * _HOUR_S, 25, True, "Rate or sizes unlike those of this device."),
    Evidence.SILENT: EvidenceClass(-5, _HOUR_S, 10, True, "Silence of a device that always spoke."),
    Evidence.REPORTED_BY_PEER: EvidenceClass(-50, _DAY_S, 50, True, "Another node of the fleet quarantined it."),
    Evidence.ATTESTED: EvidenceClass(5, _DAY_S, 30, True, "It proved the state of its software."),
    Evidence.WELL_BEHAVED: EvidenceClass(1, 7 * _DAY_S, 20, True, "An hour of messages without anything odd."),
}

ORDER: Final = tuple(EVIDENCE)
"""Evidence by number: what accounts write down, so new classes go to the end."""

NUMBER: Final[Mapping[Evidence, int]] = {evidence: number for number, evidence in enumerate(ORDER)}
CLASSES: Final = tuple(EVIDENCE.values())
