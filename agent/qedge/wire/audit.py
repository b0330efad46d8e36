"""The audit log: rows as they stand in its files, and what is said about it.

A file holds one JSON object a line. Each row names the hash of the row before it, in `previous`, and ends with its own,
in `hash`: SHA-256 over the bytes of the line before `,"hash"` (`qedge.security.audit.row`). Nothing is canonicalised:
the bytes count as they were written.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

Detail = str | int | float | bool
Text = Annotated[str, msgspec.Meta(max_length=500)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class AuditTrail(StrEnum):
    """The two chains of a log. They are apart so that whoever is denied often cannot push acts out of the files."""

    ACTS = "acts"
    DENIALS = "denials"


class AuditKind(StrEnum):
    """What a row is about.

    `CHECKPOINT` carries the node's signature, `GAP` counts rows that found no room, `RECOVERED` says that a row was cut
    off by a crash, `BROKEN` that rows which the node had vouched for were not there when it started.
    """

    ACT = "act"
    RESPONSE = "response"
    INCIDENT = "incident"
    DENIAL = "denial"
    CHECKPOINT = "checkpoint"
    GAP = "gap"
    RECOVERED = "recovered"
    BROKEN = "broken"


class AskedResource(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked for, as `qedge.security.model.Resource` has it."""

    kind: Text
    name: Text = ""
    segment: Text = ""
    owner: Text = ""


class AskedSubject(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked, as `qedge.security.model.Subject` was at that moment."""

    id: Text
    kind: Text
    device_class: Text = ""
    groups: tuple[Text, ...] = ()
    attributes: dict[Text, Text] = {}
    segment: Text = ""
    location: Text = ""
    posture: tuple[Text, ...] = ()
    trust: int = 50
    quarantined: bool = False
    revoked: bool = False
    safety: bool = False
    qkd_backed: bool = False
    lease_until_ns: int = 0


class DeniedRequest(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="recorded-request/1"):
    """A denied request, whole enough to be decided again under another policy. No `subject`: nobody knows who asked.

    In JSON it is a recorded request as policies are replayed against; `allowed` is always false. `now_ns` is on the
    boot-time clock.
    """

    utc_ns: Count
    now_ns: Count
    action: Text
    resource: AskedResource
    allowed: bool
    reason: Text
    rule: Text = ""
    subject: AskedSubject | None = None


class Checkpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """The node vouches for a trail up to a row: `signature` is by the key `key_id` over trail, sequence, hash and time.

    `public_key` is that key (SubjectPublicKeyInfo), so that the file can be checked by itself; whether it is the
    node's is for the reader to see by `key_id`.
    """

    trail: AuditTrail
    sequence: Count
    hash: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    utc_ns: Count
    key_id: Text
    public_key: Annotated[bytes, msgspec.Meta(max_length=4096)]
    signature: Annotated[bytes, msgspec.Meta(max_length=8192)]


class AuditRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row. `sequence` counts from 1 within its trail; `count` rows that say the same are one.

    `subject` did or suffered it, `actor` had it done, `decision` is what came of it and `rule` why.
    """

    sequence: Count
    utc_ns: Count
    kind: AuditKind
    previous: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    subject: Text = ""
    action: Text = ""
    resource: Text = ""
    decision: Text = ""
    rule: Text = ""
    actor: Text = ""
    count: Count = 1
    facts: dict[Text, Detail] = {}
    request: DeniedRequest | None = None
    checkpoint: Checkpoint | None = None
    hash: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""


class TrailReport(msgspec.Struct, frozen=True):
    """What was found in one trail. `faults` is empty where all is well.

    `proven_sequence` is the newest row that a signed checkpoint covers; rows behind it are chained, but somebody who
    can write the files could have cut them off without a trace.
    """

    trail: AuditTrail
    files: int
    rows: int
    first_sequence: int
    last_sequence: int
    head: str
    checkpoints: int
    proven_sequence: int
    key_ids: tuple[str, ...]
    faults: tuple[str, ...] = ()


class AuditReport(msgspec.Struct, frozen=True, tag_field="type", tag="audit-report/1"):
    """The outcome of a verification; `key_id` is the node's present key, empty where it was not known."""

    ok: bool
    key_id: str
    trails: tuple[TrailReport, ...]


class AuditRows(msgspec.Struct, frozen=True, tag_field="type", tag="audit-rows/1"):
    """The newest rows of a trail, oldest first."""

    trail: AuditTrail
    rows: tuple[AuditRow, ...]
