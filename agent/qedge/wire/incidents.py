"""Incidents: what nodes tell each other of them, and what operators see of them and of a device's trust."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from qedge.wire.mesh import Name

MAX_BOARD: Final = 256
"""Incidents on a board."""

MAX_EVIDENCE: Final = 32
"""Pieces of evidence kept of an incident: the first half and the newest half of all that came."""

MAX_ACTS: Final = 32
"""Responses kept of an incident, as above."""

Utc = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Uuid = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]
Word = Annotated[str, msgspec.Meta(max_length=48)]
Text = Annotated[str, msgspec.Meta(max_length=300)]
Severity = Annotated[float, msgspec.Meta(ge=0, le=1)]


class SubjectIs(StrEnum):
    """Who an incident is about: a device, or an address from which nobody has proven to be a device."""

    DEVICE = "device"
    ADDRESS = "address"


class BoardEntry(msgspec.Struct, frozen=True):
    """An incident as peers see it. `evidence` opened it, `response` is the hardest thing done so far."""

    id: Uuid
    device: Name
    evidence: Word
    state: Word
    response: Word
    severity: Severity
    opened_utc_ns: Utc


class IncidentBoard(msgspec.Struct, frozen=True, tag_field="type", tag="incident-board/1"):
    """All incidents with devices that a node has not resolved, newest first; a newer board replaces an older one.

    What is no longer on it is resolved: whoever quarantined a device for its sake alone lets it go. `serial` only
    grows.
    """

    node: Name
    serial: Utc
    entries: Annotated[tuple[BoardEntry, ...], msgspec.Meta(max_length=MAX_BOARD)] = ()


class EvidenceRow(msgspec.Struct, frozen=True):
    """One thing that was observed; `detail` says it in words and numbers."""

    utc_ns: Utc
    evidence: Word
    severity: Severity
    detail: Text = ""


class ActRow(msgspec.Struct, frozen=True):
    """One response. `outcome`: `done`, `observed` (the mode only reports), `spared` (a safety device), `held back` (the
    cap on devices touched at a time), `failed`."""

    utc_ns: Utc
    response: Word
    outcome: Word
    actor: Word = ""


class IncidentView(msgspec.Struct, frozen=True, tag_field="type", tag="incident/1"):
    """An incident. `node` is where it was found; `subject` a device or an address; `score` its trust at the last look.

    `ended_by` is an operator, or `quiet` where nothing more came for long, or `review`, or `peer`.
    """

    id: Uuid
    node: Name
    subject: Text
    subject_is: SubjectIs
    evidence: Word
    state: Word
    severity: Severity
    opened_utc_ns: Utc
    changed_utc_ns: Utc
    ended_utc_ns: Utc = 0
    device_class: Text = ""
    safety: bool = False
    score: float = -1.0
    count: int = 1
    rows: tuple[EvidenceRow, ...] = ()
    acts: tuple[ActRow, ...] = ()
    acknowledged_by: Text = ""
    ended_by: Text = ""
    note: Text = ""


class IncidentList(msgspec.Struct, frozen=True, tag_field="type", tag="incident-list/1"):
    """Incidents, newest first. `open` counts all that are not resolved."""

    incidents: tuple[IncidentView, ...]
    open: int
    mode: str


class IncidentChange(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="incident-change/1"
):
    """What an operator says to an incident. `release`: lift the device's quarantine with it."""

    note: Text = ""
    release: bool = False


class TrustRow(msgspec.Struct, frozen=True):
    """One change of a device's trust: what for, how many points, how often in a row, and the score around it.

    `evidence` is one of `qedge.security.model.Evidence`, or `quarantined`, `released`, `demanded`.
    """

    utc_ns: Utc
    evidence: str
    points: float
    count: int
    before: int
    after: int


class DeviceStory(msgspec.Struct, frozen=True, tag_field="type", tag="device-story/1"):
    """How a device came to its trust. `trust` is what policy goes by, `score` what the evidence gives now.

    They differ where the score recovers (trust follows later), where a device is a safety device, and while the mode
    only observes.
    """

    device: str
    trust: int
    score: float
    quarantined: bool
    safety: bool
    demanded: int
    rows: tuple[TrustRow, ...]
    incidents: tuple[IncidentView, ...]
