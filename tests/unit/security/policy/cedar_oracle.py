"""The same policy in Cedar (https://www.cedarpolicy.com), which decides requests by an implementation of others.

Cedar knows neither reasons nor rates: `context.stage` says how many of the conditions of permits are looked at, so that
the first stage at which a request is denied is its reason, and `context.tokens` names rules that have a use left, which
a plain model of buckets counts here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import cedarpy

from qedge.security.model import Reason, Subject
from qedge.security.policy.model import (
    ALWAYS,
    DAYS,
    DENIALS,
    UNLIMITED,
    Conditions,
    Effect,
    PolicyDocument,
    Rule,
    Window,
    attribute_values,
)
from tests.unit.security.policy.random_policies import Request

ALL = len(DENIALS)
BARRED = {"revoked": Reason.REVOKED, "quarantined": Reason.QUARANTINED}


def translate(document: PolicyDocument) -> str:
    """Write a policy in Cedar."""
    barred = [f'@id("{name}") forbid(principal, action, resource) when {{ principal.{name} }};' for name in BARRED]
    return "\n".join([*barred, *(_rule(document, name, rule) for name, rule in document.rules.items())])


def _rule(document: PolicyDocument, name: str, rule: Rule) -> str:
    actions = ", ".join(f'Action::"{each}"' for each in rule.actions)
    tests = [*_subjects(rule), _resources(document, rule)]
    if rule.effect is Effect.FORBID:
        tests += [test for _, test in _conditions(document, rule.when)]
        unless = " && ".join(f"({test})" for _, test in _conditions(document, rule.unless))
        tail = f" unless {{ {unless} }}" if rule.unless != ALWAYS else ""
        return f'@id("{name}") forbid(principal, action in [{actions}], resource) when {{ {_all(tests)} }}{tail};'
    staged = [(Reason.SEGMENT, 'resource.segment == "" || resource.segment == principal.segment')]
    staged = [] if rule.crossing else staged
    staged += _conditions(document, rule.when)
    if rule.rate != UNLIMITED:
        staged.append((Reason.RATE, f'context.tokens.contains("{name}")'))
    tests += [f"context.stage <= {DENIALS.index(reason)} || ({test})" for reason, test in staged]
    return f'@id("{name}") permit(principal, action in [{actions}], resource) when {{ {_all(tests)} }};'


def _all(tests: Sequence[str]) -> str:
    return " && ".join(f"({test})" for test in tests) or "true"


def _among(values: Sequence[str], what: str) -> str:
    return f"{json.dumps(list(values))}.contains({what})"


def _subjects(rule: Rule) -> list[str]:
    subjects = rule.subjects
    tests = [" || ".join(f"principal is {kind.value.capitalize()}" for kind in subjects.kinds)]
    for listed, what in (
        (subjects.ids, "principal.name"),
        (subjects.classes, "principal.class"),
        (subjects.segments, "principal.segment"),
    ):
        if listed:
            tests.append(_among(listed, what))
    if subjects.groups:
        groups = ", ".join(f'Group::"{each}"' for each in subjects.groups)
        tests.append(f"principal in [{groups}]")
    for key, values in attribute_values(subjects).items():
        tests.append(f'principal.attributes has "{key}" && {_among(values, f"principal.attributes.{key}")}')
    return tests


def _resources(document: PolicyDocument, rule: Rule) -> str:
    wanted, arms = rule.resources, []
    if wanted.node:
        arms.append("resource is Node")
    if wanted.apps:
        arms.append(f"resource is App_ && ({_listed(wanted.apps, 'resource.name')})")
    segments = list(document.segments) if wanted.segments == ("*",) else list(wanted.segments)
    if wanted.commands:
        tests = ["resource is Actuator", _listed(wanted.commands, "resource.name")]
        if wanted.segments and not (rule.effect is Effect.FORBID and wanted.segments == ("*",)):
            tests.append(_among(segments, "resource.segment"))
        if wanted.devices:
            tests.append(_listed(wanted.devices, "resource.owner"))
        arms.append(_all(tests))
    if wanted.channels:
        for name in segments:
            tests = ["resource is Channel", f'resource.segment == "{name}"', _listed(wanted.channels, "resource.name")]
            if document.segments[name].channels:
                tests.append(_among(document.segments[name].channels, "resource.name"))
            arms.append(_all(tests))
    return " || ".join(f"({arm})" for arm in arms)


def _listed(values: Sequence[str], what: str) -> str:
    return "true" if tuple(values) == ("*",) else _among(values, what)


def _conditions(document: PolicyDocument, conditions: Conditions) -> list[tuple[Reason, str]]:
    tests = []
    if conditions.trust:
        tests.append((Reason.TRUST, f"principal.trust >= {conditions.trust}"))
    if conditions.time:
        zone = conditions.zone or document.zone
        tests.append((Reason.TIME, " || ".join(f"({_window(each, zone)})" for each in conditions.time)))
    if conditions.locations:
        tests.append((Reason.LOCATION, _among(conditions.locations, "principal.location")))
    if conditions.posture:
        tests.append((Reason.POSTURE, f"principal.posture.containsAll({json.dumps(list(conditions.posture))})"))
    if conditions.qkd:
        tests.append((Reason.QKD, "principal.qkd"))
    return tests


def _window(window: Window, zone: str) -> str:
    clock = f'context.clocks["{zone}"]'
    begin, until = (int(each[:2]) * 60 + int(each[3:]) for each in (window.begin, window.until))
    on = _among(window.days, f"{clock}.day")
    if begin < until:
        return f"{on} && {clock}.minute >= {begin} && {clock}.minute < {until}"
    after = [DAYS[(DAYS.index(day) + 1) % 7] for day in window.days]
    return f"({on} && {clock}.minute >= {begin}) || ({_among(after, f'{clock}.day')} && {clock}.minute < {until})"


class Buckets:
    """Buckets of uses, counted in fractions."""

    def __init__(self, document: PolicyDocument) -> None:
        self._rates = {name: rule.rate for name, rule in document.rules.items() if rule.rate != UNLIMITED}
        self._left: dict[tuple[str, str], tuple[Fraction, int]] = {}

    def _now(self, rule: str, subject: str, now_ns: int) -> Fraction:
        rate = self._rates[rule]
        left, then_ns = self._left.get((rule, subject), (Fraction(rate.burst), now_ns))
        return min(Fraction(rate.burst), left + Fraction(rate.per_second) * Fraction(now_ns - then_ns, 10**9))

    def tokens(self, request: Request) -> list[str]:
        """Name the rules that the subject of a request may use now."""
        if request.subject is None:
            return []
        return [rule for rule in self._rates if self._now(rule, request.subject.id, request.now_ns) >= 1]

    def use(self, rule: str, request: Request) -> None:
        """Count a use."""
        if rule in self._rates and request.subject is not None:
            left = self._now(rule, request.subject.id, request.now_ns) - 1
            self._left[rule, request.subject.id] = (left, request.now_ns)


class Oracle:
    """Asks Cedar about requests on one policy."""

    def __init__(self, document: PolicyDocument) -> None:
        self._policies = cedarpy.PolicySet.from_str(translate(document))
        self._zones = sorted({document.zone, *(each.zone or document.zone for each in _all_conditions(document))})

    def ask(self, asked: Sequence[tuple[Request, list[str], int]]) -> list[tuple[bool, set[str]]]:
        """Return, for requests with tokens and stage, whether each is allowed and the rules that decided it."""
        entities: dict[str, dict[str, Any]] = {}
        requests = []
        for number, (request, tokens, stage) in enumerate(asked):
            principal = _principal(number, request.subject, entities)
            resource = _resource(request, entities)
            context = {
                "stage": stage,
                "tokens": tokens,
                "clocks": {zone: _clock(request, zone) for zone in self._zones},
            }
            requests.append(
                {
                    "principal": principal,
                    "action": f'Action::"{request.action}"',
                    "resource": resource,
                    "context": context,
                }
            )
        results = cedarpy.is_authorized_batch(requests, self._policies, list(entities.values()))
        return [(each.allowed, set(each.diagnostics.id_annotations_by_reason.values())) for each in results]


def _all_conditions(document: PolicyDocument) -> list[Conditions]:
    return [each for rule in document.rules.values() for each in (rule.when, rule.unless)]


def _clock(request: Request, zone: str) -> dict[str, object]:
    moment = datetime.fromtimestamp(request.utc_ns // 10**9, UTC).astimezone(ZoneInfo(zone))
    return {"day": DAYS[moment.weekday()], "minute": moment.hour * 60 + moment.minute}


def _principal(number: int, subject: Subject | None, entities: dict[str, dict[str, Any]]) -> str:
    if subject is None:
        return 'Stranger::"nobody"'
    kind, name = subject.kind.value.capitalize(), f"{subject.id}-{subject.epoch}"
    uid = f'{kind}::"{name}"'
    if uid not in entities:
        entities[uid] = {
            "uid": {"type": kind, "id": name},
            "attrs": {
                "name": subject.id,
                "class": subject.device_class,
                "segment": subject.segment,
                "attributes": dict(subject.attributes),
                "location": subject.location,
                "posture": sorted(subject.posture),
                "trust": subject.trust,
                "qkd": subject.qkd_backed,
                "revoked": subject.revoked,
                "quarantined": subject.quarantined,
            },
            "parents": [{"type": "Group", "id": each} for each in sorted(subject.groups)],
        }
    return uid


def _resource(request: Request, entities: dict[str, dict[str, Any]]) -> str:
    resource = request.resource
    kind = {"node": "Node", "app": "App_", "device": "Actuator", "segment": "Channel"}[resource.kind.value]
    name = f"{resource.segment}/{resource.owner}/{resource.name}"
    uid = f'{kind}::"{name}"'
    if uid not in entities:
        entities[uid] = {
            "uid": {"type": kind, "id": name},
            "attrs": {"name": resource.name, "segment": resource.segment, "owner": resource.owner},
            "parents": [],
        }
    return uid
