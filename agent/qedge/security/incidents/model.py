"""The nouns of incidents: their states, and what a node does about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qedge.base.machine import StateTable
from qedge.security.model import Evidence


class IncidentState(StrEnum):
    """The life of an incident."""

    OPENED = "opened"
    CONTAINED = "contained"
    RESOLVED = "resolved"


class IncidentEvent(StrEnum):
    """What happens to an incident. `WORSENED`: what was done about it is not enough any more."""

    RESPONDED = "responded"
    WORSENED = "worsened"
    RESOLVED = "resolved"


INCIDENT_STATES: Final = StateTable(
    "incident",
    IncidentState.OPENED,
    frozenset({IncidentState.RESOLVED}),
    {
        (IncidentState.OPENED, IncidentEvent.RESPONDED): IncidentState.CONTAINED,
        (IncidentState.CONTAINED, IncidentEvent.WORSENED): IncidentState.OPENED,
        (IncidentState.OPENED, IncidentEvent.RESOLVED): IncidentState.RESOLVED,
        (IncidentState.CONTAINED, IncidentEvent.RESOLVED): IncidentState.RESOLVED,
    },
)


class Response(StrEnum):
    """What a node does by itself, from the mildest to the hardest."""

    ALARM = "alarm"
    DEMAND_TRUST = "demand_trust"
    REKEY = "rekey"
    THROTTLE = "throttle"
    CUT_OFF = "cut_off"
    BLOCK = "block"
    QUARANTINE = "quarantine"


HARDNESS: Final[Mapping[str, int]] = {response.value: number for number, response in enumerate(Response)}


class Outcome(StrEnum):
    """What came of a response. `OBSERVED`: the mode only reports; `SPARED`: it is a safety device; `HELD_BACK`: the cap
    is reached; `ABSENT`: it is no device of this node, yet."""

    DONE = "done"
    OBSERVED = "observed"
    SPARED = "spared"
    HELD_BACK = "held_back"
    ABSENT = "absent"
    FAILED = "failed"


RESPONSES: Final[Mapping[Evidence, Response]] = {
    Evidence.AUTHENTICATION_FAILED: Response.REKEY,
    Evidence.REPLAYED: Response.REKEY,
    Evidence.MALFORMED: Response.CUT_OFF,
    Evidence.DENIED: Response.DEMAND_TRUST,
    Evidence.FLOODING: Response.THROTTLE,
    Evidence.TOPIC_SPREAD: Response.DEMAND_TRUST,
    Evidence.ODD_PAYLOADS: Response.ALARM,
    Evidence.SILENT: Response.ALARM,
    Evidence.REPORTED_BY_PEER: Response.QUARANTINE,
}
"""What each kind of evidence brings on, once it is severe enough for an incident. An address is blocked instead, and a
device whose score is below `quarantine_below` is quarantined whatever brought it there."""

BY_OPERATOR: Final = "operator"
"""What stands for evidence where an operator quarantined a device."""

UNCAPPED: Final = frozenset({Response.ALARM, Response.THROTTLE, Response.BLOCK})
"""Responses that the blast-radius cap does not count: they take nothing from a device that stays within its limits."""


@dataclass(frozen=True, slots=True)
class Act:
    """A response to carry out; `incident` is what it is for."""

    incident: str
    response: Response
    subject: str
    reason: str
