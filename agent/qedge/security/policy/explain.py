"""Why a request is decided as it is: every rule looked at by itself, by the words of the document.

Written apart from the decision table, which has to agree with it: tests compare the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from qedge.security.model import Action, Decision, Reason, Resource, ResourceKind, Subject
from qedge.security.policy.model import (
    ALWAYS,
    ANY,
    DENIALS,
    UNLIMITED,
    Conditions,
    Effect,
    PolicyDocument,
    Rule,
    Subjects,
    attribute_values,
)
from qedge.security.policy.windows import MINUTE_NS, minute_of_week, spans


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one rule. `applies` is False with the part that does not match, or the condition that fails.

    `part` is `subject`, `action` or `resource`; `condition` a reason of the model, or `when` or `unless` of a forbid.
    """

    rule: str
    effect: Effect
    applies: bool
    part: str = ""
    condition: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and how it came about; rates are taken as not used up."""

    decision: Decision
    findings: tuple[Finding, ...]


def explain(
    document: PolicyDocument, subject: Subject | None, action: Action, resource: Resource, now_ns: int, utc_ns: int
) -> Explanation:
    """Decide one request and tell of every rule."""
    if subject is None:
        return Explanation(Decision(False, Reason.UNKNOWN), ())
    minute = utc_ns // MINUTE_NS
    findings = tuple(
        _find(document, name, rule, subject, action, resource, minute) for name, rule in document.rules.items()
    )
    barred = (
        (subject.revoked, Reason.REVOKED),
        (subject.quarantined, Reason.QUARANTINED),
        (now_ns >= subject.lease_until_ns, Reason.LEASE),
    )
    for holds, reason in barred:
        if holds:
            return Explanation(Decision(False, reason), findings)
    return Explanation(_decide(findings), findings)


def _decide(findings: tuple[Finding, ...]) -> Decision:
    forbids = [each for each in findings if each.effect is Effect.FORBID and each.applies]
    if forbids:
        return Decision(False, Reason.FORBIDDEN, forbids[0].rule)
    permits = [each for each in findings if each.effect is Effect.PERMIT and not each.part]
    if not permits:
        return Decision(False, Reason.NO_RULE)
    for each in permits:
        if each.applies:
            return Decision(True, Reason.ALLOWED, each.rule)
    furthest = max(permits, key=lambda each: DENIALS.index(Reason(each.condition)))
    return Decision(False, Reason(furthest.condition), furthest.rule)


def _find(
    document: PolicyDocument,
    name: str,
    rule: Rule,
    subject: Subject,
    action: Action,
    resource: Resource,
    minute: int,
) -> Finding:
    mismatch = _subject_mismatch(rule.subjects, subject)
    if mismatch:
        return Finding(name, rule.effect, False, "subject", "", mismatch)
    if action not in rule.actions:
        return Finding(name, rule.effect, False, "action", "", f"it is about {', '.join(rule.actions)}")
    mismatch = _resource_mismatch(document, rule, resource)
    if mismatch:
        return Finding(name, rule.effect, False, "resource", "", mismatch)
    if rule.effect is Effect.FORBID:
        failed = _failed(document, rule.when, subject, minute)
        if failed:
            return Finding(name, rule.effect, False, "", "when", failed[1])
        if rule.unless != ALWAYS and not _failed(document, rule.unless, subject, minute):
            return Finding(name, rule.effect, False, "", "unless", "its `unless` holds")
        return Finding(name, rule.effect, True)
    if resource.segment and resource.segment != subject.segment and not rule.crossing:
        told = f"{resource.segment} is not the subject's own segment, and the rule does not cross"
        return Finding(name, rule.effect, False, "", Reason.SEGMENT.value, told)
    failed = _failed(document, rule.when, subject, minute)
    if failed:
        return Finding(name, rule.effect, False, "", failed[0].value, failed[1])
    limit = "" if rule.rate == UNLIMITED else f"at most {rule.rate.per_second:g} a second, {rule.rate.burst} at once"
    return Finding(name, rule.effect, True, "", "", limit)


def _subject_mismatch(wanted: Subjects, subject: Subject) -> str:
    """Say in what a subject is not the one that a rule is about; empty: it is."""
    single = (
        ("kind", wanted.kinds, subject.kind.value),
        ("id", wanted.ids, subject.id),
        ("class", wanted.classes, subject.device_class),
        ("segment", wanted.segments, subject.segment),
    )
    for what, listed, has in single:
        if listed and has not in listed:
            return f"{what} is {has or 'none'}, wanted {_listed(listed)}"
    if wanted.groups and not any(each in subject.groups for each in wanted.groups):
        return f"in none of the groups {_listed(wanted.groups)}"
    for key, values in attribute_values(wanted).items():
        has = subject.attributes.get(key, "")
        if has not in values:
            return f"attribute {key} is {has or 'none'}, wanted {_listed(values)}"
    return ""


def _resource_mismatch(document: PolicyDocument, rule: Rule, resource: Resource) -> str:
    """Say why a rule is not about a resource; empty: it is."""
    wanted = rule.resources
    if resource.kind is ResourceKind.NODE:
        return "" if wanted.node else "it is not about the node"
    if resource.kind is ResourceKind.APP:
        return "" if _among(wanted.apps, resource.name) else "it is not about this app"
    known = document.segments.get(resource.segment)
    if resource.kind is ResourceKind.DEVICE:
        if not _among(wanted.commands, resource.name):
            return "it is not about this command"
        if wanted.devices and not _among(wanted.devices, resource.owner):
            return "it is not about this device"
        if not wanted.segments or (rule.effect is Effect.FORBID and wanted.segments == (ANY,)):
            return ""
        inside = known is not None and _among(wanted.segments, resource.segment)
        return "" if inside else "it is not about devices of this segment"
    if known is None:
        return f"the policy knows no segment {resource.segment}"
    if not _among(wanted.segments, resource.segment):
        return "it is not about this segment"
    if known.channels and resource.name not in known.channels:
        return f"segment {resource.segment} has no channel {resource.name}"
    return "" if _among(wanted.channels, resource.name) else "it is not about this channel"


def _failed(
    document: PolicyDocument, conditions: Conditions, subject: Subject, minute: int
) -> tuple[Reason, str] | None:
    """Return which condition fails first, and how."""
    if subject.trust < conditions.trust:
        return Reason.TRUST, f"trust is {subject.trust}, wanted at least {conditions.trust}"
    if conditions.time:
        zone = conditions.zone or document.zone
        now = minute_of_week(minute, ZoneInfo(zone))
        if not any(begin <= now < end for begin, end in spans(conditions.time)):
            return Reason.TIME, f"no window is open now ({zone})"
    if conditions.locations and subject.location not in conditions.locations:
        return Reason.LOCATION, f"location is {subject.location or 'none'}, wanted {_listed(conditions.locations)}"
    missing = [each for each in conditions.posture if each not in subject.posture]
    if missing:
        return Reason.POSTURE, f"posture lacks {', '.join(missing)}"
    if conditions.qkd and not subject.qkd_backed:
        return Reason.QKD, "the session is not QKD-backed"
    return None


def _among(listed: tuple[str, ...], name: str) -> bool:
    return name in listed or listed == (ANY,)


def _listed(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else f"one of {', '.join(values[:5])}{' …' if len(values) > 5 else ''}"
