"""Recorded requests, put to another policy: what would be decided otherwise.

A log holds one JSON object a line: a `RecordedRequest`, or any object that has one under `request`. The audit log has
such rows for what was denied and for privileged acts; `qedge policy record` gives all requests of some seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.security.model import Action, Decision, Reason, Resource, ResourceKind, Subject, SubjectKind
from qedge.security.policy.model import PolicyDocument
from qedge.security.policy.table import PolicyTable
from qedge.wire.envelope import purpose_of
from qedge.wire.policy import RecordedRequest, RecordedResource, RecordedSubject

__all__ = ["RecordedRequest", "Simulation", "read_line", "record", "request_of", "simulate"]

MAX_LINE_BYTES: Final = 64 * 1024
MAX_CHANGES: Final = 1000
"""Kinds of change that are told apart; the others are only counted."""


_REQUEST: Final = msgspec.json.Decoder(RecordedRequest)
_ROW: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MARK: Final = f'"{purpose_of(RecordedRequest)}"'.encode()


@dataclass(frozen=True, slots=True)
class Change:
    """Requests that would be decided otherwise, in the same way; `example` is the first of them."""

    before: Decision
    after: Decision
    action: Action
    count: int
    example: RecordedRequest


@dataclass(slots=True)
class Simulation:
    """Outcome of a replay. `others` are rows without a request; `more` are changed requests beyond `MAX_CHANGES` kinds.

    `changes` come in the order of the log.
    """

    requests: int = 0
    same: int = 0
    newly_denied: int = 0
    newly_allowed: int = 0
    others: int = 0
    more: int = 0
    changes: list[Change] = field(default_factory=list)


def record(
    subject: Subject | None, action: Action, resource: Resource, now_ns: int, utc_ns: int, decision: Decision
) -> RecordedRequest:
    """Write down a request as it is now."""
    return RecordedRequest(
        utc_ns=utc_ns,
        now_ns=now_ns,
        action=action.value,
        resource=RecordedResource(resource.kind.value, resource.name, resource.segment, resource.owner),
        allowed=decision.allowed,
        reason=decision.reason.value,
        rule=decision.rule,
        subject=None if subject is None else _recorded(subject),
    )


def _recorded(subject: Subject) -> RecordedSubject:
    return RecordedSubject(
        id=subject.id,
        kind=subject.kind.value,
        device_class=subject.device_class,
        groups=tuple(sorted(subject.groups)),
        attributes=dict(subject.attributes),
        segment=subject.segment,
        location=subject.location,
        posture=tuple(sorted(subject.posture)),
        trust=subject.trust,
        quarantined=subject.quarantined,
        revoked=subject.revoked,
        safety=subject.safety,
        qkd_backed=subject.qkd_backed,
        lease_until_ns=subject.lease_until_ns,
    )


def request_of(recorded: RecordedRequest) -> tuple[Subject | None, Action, Resource]:
    """Read a recorded request back; raises `policy.bad_request` for kinds, actions and resources that do not exist."""
    try:
        action, kind = Action(recorded.action), ResourceKind(recorded.resource.kind)
        subject = None if recorded.subject is None else _subject_of(recorded.subject)
    except ValueError as error:
        raise QedgeError("policy.bad_request", f"A recorded request cannot be read: {error}.") from error
    resource = recorded.resource
    return subject, action, Resource(kind, resource.name, resource.segment, resource.owner)


def _subject_of(recorded: RecordedSubject) -> Subject:
    return Subject(
        id=recorded.id,
        kind=SubjectKind(recorded.kind),
        device_class=recorded.device_class,
        groups=frozenset(recorded.groups),
        attributes=recorded.attributes,
        segment=recorded.segment,
        location=recorded.location,
        posture=frozenset(recorded.posture),
        trust=recorded.trust,
        quarantined=recorded.quarantined,
        revoked=recorded.revoked,
        safety=recorded.safety,
        qkd_backed=recorded.qkd_backed,
        lease_until_ns=recorded.lease_until_ns,
    )


def read_line(line: bytes) -> RecordedRequest | None:
    """Read one line of a log; None: it holds no request. Raises `policy.bad_request` for what is no JSON object."""
    if len(line) > MAX_LINE_BYTES:
        raise QedgeError("policy.bad_request", f"It is longer than {MAX_LINE_BYTES} bytes.")
    try:
        row = _ROW.decode(line)
        if _MARK not in line:
            return None
        return _REQUEST.decode(row.get("request", line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QedgeError("policy.bad_request", f"It is no recorded request: {error}.") from error


def simulate(document: PolicyDocument, lines: Iterable[bytes]) -> Simulation:
    """Replay a log against a policy; raises `policy.bad_request` with the number of a line that cannot be read.

    Rates count anew from the first line, and from any line on whose clock is behind: the box was started again.
    """
    outcome = Simulation()
    table, last_ns = PolicyTable(document), 0
    kinds: dict[tuple[Decision, Decision, Action], int] = {}
    for number, line in enumerate(lines, 1):
        try:
            recorded = read_line(line) if line.strip() else None
            found = None if recorded is None else request_of(recorded)
        except QedgeError as error:
            problem = f"Line {number} of the log cannot be used. {error.message}"
            raise QedgeError("policy.bad_request", problem, fix="Leave the line out.", line=number) from error
        if recorded is None or found is None:
            outcome.others += bool(line.strip())
            continue
        if recorded.now_ns < last_ns:
            table = PolicyTable(document)
        last_ns = recorded.now_ns
        subject, action, resource = found
        after = table.decide(subject, action, resource, recorded.now_ns, recorded.utc_ns)
        _compare(outcome, kinds, recorded, after, action)
    return outcome


def _compare(
    outcome: Simulation,
    kinds: dict[tuple[Decision, Decision, Action], int],
    recorded: RecordedRequest,
    after: Decision,
    action: Action,
) -> None:
    outcome.requests += 1
    before = _decision_of(recorded)
    if (before.allowed, before.reason) == (after.allowed, after.reason):
        outcome.same += 1  # by another rule, perhaps; rules may be called anything
        return
    outcome.newly_denied += before.allowed and not after.allowed
    outcome.newly_allowed += after.allowed and not before.allowed
    key = (before, after, action)
    place = kinds.get(key)
    if place is not None:
        known = outcome.changes[place]
        outcome.changes[place] = Change(before, after, action, known.count + 1, known.example)
    elif len(outcome.changes) < MAX_CHANGES:
        kinds[key] = len(outcome.changes)
        outcome.changes.append(Change(before, after, action, 1, recorded))
    else:
        outcome.more += 1


def _decision_of(recorded: RecordedRequest) -> Decision:
    try:
        return Decision(recorded.allowed, Reason(recorded.reason), recorded.rule)
    except ValueError as error:
        raise QedgeError("policy.bad_request", f"A recorded request cannot be read: {error}.") from error
