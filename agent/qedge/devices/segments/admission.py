"""Who may read what of a segment, asked of the policy engine channel by channel. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qedge.base.errors import QedgeError
from qedge.devices.segments.ports import Denied
from qedge.security.model import Action, Decision, Reason, Resource, ResourceKind, Subject
from qedge.security.ports import Judge


@dataclass(frozen=True, slots=True)
class Admission:
    """What policy let through, and what not with the reason."""

    granted: tuple[str, ...]
    refused: tuple[tuple[str, Reason], ...]


def admit(
    judge: Judge,
    subject: Subject | None,
    segment: str,
    channels: Sequence[str],
    declared: Sequence[str],
    now_ns: int,
    utc_ns: int,
    denied: Denied,
) -> Admission:
    """Judge SUBSCRIBE for each channel; a channel that the segment does not declare is refused as no other would be."""
    granted: list[str] = []
    refused: list[tuple[str, Reason]] = []
    for channel in dict.fromkeys(channels):
        resource = Resource(ResourceKind.SEGMENT, channel, segment)
        decision = judge.decide(subject, Action.SUBSCRIBE, resource, now_ns, utc_ns)
        if decision.allowed and channel not in declared:
            decision = Decision(False, Reason.NO_RULE)
        if decision.allowed:
            granted.append(channel)
        else:
            refused.append((channel, decision.reason))
            denied(subject, Action.SUBSCRIBE, resource, decision)
    return Admission(tuple(granted), tuple(refused))


def is_out(subject: Subject, now_ns: int) -> bool:
    """Say whether a subject has lost its place, so that nothing may be handed to it whatever a rule says."""
    return subject.quarantined or subject.revoked or subject.lease_until_ns <= now_ns


def refusal(segment: str, admission: Admission) -> QedgeError:
    """Make the error for somebody who may read nothing of a segment."""
    reasons = ", ".join(f"{channel}: {reason}" for channel, reason in admission.refused[:4])
    return QedgeError(
        "segment.refused",
        f"Policy lets nothing of the segment {segment!r} be read ({reasons or 'nothing was asked for'}).",
        fix="`qedge policy explain` says which rule would have to permit it.",
        reason=str(admission.refused[0][1]) if admission.refused else "",
    )
