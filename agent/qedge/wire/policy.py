"""Policies that a fleet's authority signed, recorded requests, and what a node says of its policy.

What a policy may say is not the wire's business: `text` is TOML (`qedge.security.policy`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from qedge.wire.mesh import Name, Short
from qedge.wire.trust import Der, Utc

Serial = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Label = Annotated[str, msgspec.Meta(max_length=200)]
Labels = Annotated[tuple[Label, ...], msgspec.Meta(max_length=200)]


class PolicyBundle(msgspec.Struct, frozen=True, tag_field="type", tag="policy-bundle/1"):
    """A policy of a whole fleet. Of two the higher `serial` counts; after `expires_utc_ns` it counts no more."""

    fleet: Name
    serial: Serial
    utc_ns: Utc
    expires_utc_ns: Utc
    text: Annotated[bytes, msgspec.Meta(max_length=180 * 1024)]


class SignedPolicy(msgspec.Struct, frozen=True, tag_field="type", tag="signed-policy/1"):
    """A bundle as the authority signed it: `body` is an encoded `PolicyBundle`, `issuer` the issuing certificate."""

    body: Annotated[bytes, msgspec.Meta(max_length=190 * 1024)]
    signature: Annotated[bytes, msgspec.Meta(max_length=8192)]
    issuer: Der


class PolicyNotice(msgspec.Struct, frozen=True, tag_field="type", tag="policy-notice/1"):
    """The newest bundle as its authority signed it; whoever has it may publish it again."""

    signed: Annotated[bytes, msgspec.Meta(max_length=220 * 1024)]


class PolicyView(msgspec.Struct, frozen=True, tag_field="type", tag="policy-view/1"):
    """The policy that a node enforces. `source` is `fleet`, `file` or `none`; the last denies everything.

    `serial` is the highest that the node has seen, `expires_utc_ns` 0: never; `sha256` is that of the text, in hex.
    `refused` says why the newest text that was offered was not taken, empty where it was.
    """

    source: Short
    rules: int
    segments: int
    sha256: str = ""
    serial: int = 0
    expires_utc_ns: int = 0
    since_utc_ns: int = 0
    file: str = ""
    refused: str = ""


class RecordedSubject(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked, as it was then; the fields of `qedge.security.model.Subject`."""

    id: Label
    kind: Short
    device_class: Label = ""
    groups: Labels = ()
    attributes: Annotated[dict[Label, Label], msgspec.Meta(max_length=200)] = {}
    segment: Label = ""
    location: Label = ""
    posture: Labels = ()
    trust: int = 50
    quarantined: bool = False
    revoked: bool = False
    safety: bool = False
    qkd_backed: bool = False
    lease_until_ns: int = 0


class RecordedResource(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked for; the fields of `qedge.security.model.Resource`."""

    kind: Short
    name: Label = ""
    segment: Label = ""
    owner: Label = ""


class RecordedRequest(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="recorded-request/1"):
    """One request and its decision; no `subject`: nobody knew who asked. `now_ns` is on the boot-time clock."""

    utc_ns: int
    now_ns: int
    action: Short
    resource: RecordedResource
    allowed: bool
    reason: Short
    rule: Short = ""
    subject: RecordedSubject | None = None


class RecordCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="record-command/1"):
    """Have a node record the next `count` requests, for at most `seconds`."""

    count: Annotated[int, msgspec.Meta(ge=1, le=2000)] = 1000
    seconds: Annotated[float, msgspec.Meta(gt=0, le=20)] = 10.0


class RecordedRequests(msgspec.Struct, frozen=True, tag_field="type", tag="recorded-requests/1"):
    """What was recorded."""

    requests: tuple[RecordedRequest, ...] = ()
