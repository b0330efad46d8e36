"""Reads a policy in TOML: all faults at once, each with its line; a policy with faults is never used in part."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.layered_toml import parse_layer
from qedge.base.settings import MAX_FAULTS, Fault, Key, KeyPath, check, show
from qedge.base.toml_lines import nearest_line
from qedge.base.units import format_bytes
from qedge.security.model import Action
from qedge.security.policy.model import (
    ALWAYS,
    ANY,
    UNLIMITED,
    Conditions,
    Effect,
    PolicyDocument,
    Resources,
    Rule,
)

MAX_DOCUMENT_BYTES: Final = 180 * 1024
"""As much as fits into a signed bundle on the bus."""

_COMPARED: Final = 64

_USES: Final[tuple[tuple[str, frozenset[Action]], ...]] = (
    ("node", frozenset({Action.CONNECT})),
    ("channels", frozenset({Action.PUBLISH, Action.SUBSCRIBE})),
    ("commands", frozenset({Action.COMMAND})),
    ("apps", frozenset({Action.PUBLISH, Action.SUBSCRIBE, Action.COMMAND})),
)
"""What can be done with each kind of resource, by the key that names it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Outcome of reading: the policy where it has no faults, otherwise all of them in order of place."""

    document: PolicyDocument | None
    faults: tuple[Fault, ...]


def read_document(data: bytes, file: str = "") -> Reading:
    """Read a policy and find all its faults (at most `MAX_FAULTS`); `file` is what they say it is called."""
    if len(data) > MAX_DOCUMENT_BYTES:
        limit = f"a policy of at most {format_bytes(MAX_DOCUMENT_BYTES)}"
        return Reading(None, (Fault((), "is too large", limit, file),))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Reading(None, (Fault((), "is not UTF-8", "text in UTF-8", file, line),))
    layer = parse_layer(file, text)
    if isinstance(layer, Fault):
        return Reading(None, (_told_twice(layer),))
    faults = check(PolicyDocument, layer.values)
    document = None
    if not faults:
        document = msgspec.convert(layer.values, PolicyDocument)
        faults = list(islice(_faults(document), MAX_FAULTS))
    lines = dict(layer.lines)
    placed = [replace(each, file=file, line=nearest_line(lines, each.path)) for each in faults]
    placed.sort(key=lambda each: each.line)
    return Reading(None if placed else document, tuple(placed))


def parse_document(data: bytes, file: str = "") -> PolicyDocument:
    """Read a policy; raises `policy.invalid` with its first fault."""
    reading = read_document(data, file)
    if reading.document is not None:
        return reading.document
    first, more = reading.faults[0], len(reading.faults) - 1
    rest = f" (and {more} more)" if more else ""
    raise QedgeError(
        "policy.invalid",
        f"The policy has faults: {first}{rest}.",
        fix="`qedge policy check FILE` lists all of them; nothing of it was applied.",
        faults=len(reading.faults),
        file=first.file,
        line=first.line,
        key=first.key,
    )


def _told_twice(fault: Fault) -> Fault:
    """Say what a name that is given twice means here."""
    if "twice" in fault.problem or "overwrite" in fault.problem:
        return replace(fault, expected="every rule, segment and key once, under a name of its own")
    return fault


def _faults(document: PolicyDocument) -> Iterator[Fault]:
    """Find what the types alone do not say."""
    if not is_zone(document.zone):
        yield _no_zone(("zone",), document.zone)
    for name, segment in document.segments.items():
        yield from _once(("segments", name, "channels"), segment.channels)
    for name, rule in document.rules.items():
        path = ("rules", name)
        yield from _subject_faults(document, rule, (*path, "subjects"))
        yield from _resource_faults(document, rule.resources, (*path, "resources"))
        yield from _action_faults(rule, (*path, "actions"))
        yield from _effect_faults(rule, path)
        for key, conditions in (("when", rule.when), ("unless", rule.unless)):
            yield from _condition_faults(conditions, (*path, key))


def _subject_faults(document: PolicyDocument, rule: Rule, path: KeyPath) -> Iterator[Fault]:
    subjects = rule.subjects
    for key in ("kinds", "ids", "classes", "groups", "segments"):
        yield from _once((*path, key), getattr(subjects, key))
    for index, segment in enumerate(subjects.segments):
        if segment not in document.segments:
            yield _unknown((*path, "segments", index), "segment", segment, document.segments)


def _resource_faults(document: PolicyDocument, resources: Resources, path: KeyPath) -> Iterator[Fault]:
    if not (resources.node or resources.channels or resources.commands or resources.apps):
        wanted = "node = true, segments with channels, segments or devices with commands, or apps"
        yield Fault(path, "names nothing that can be done anything with", wanted)
    if resources.segments and not (resources.channels or resources.commands):
        yield Fault((*path, "segments"), "says segments and nothing in them", 'channels or commands, ["*"] for all')
    if resources.channels and not resources.segments:
        yield Fault((*path, "channels"), "says channels of no segment", 'segments, ["*"] for all')
    if resources.commands and not (resources.segments or resources.devices):
        yield Fault((*path, "commands"), "says commands of no device", 'segments or devices, ["*"] for all')
    if resources.devices and not resources.commands:
        yield Fault((*path, "devices"), "says devices and nothing of them", 'commands, ["*"] for all')
    for key in ("segments", "channels", "devices", "commands", "apps"):
        listed: tuple[str, ...] = getattr(resources, key)
        yield from _once((*path, key), listed)
        if ANY in listed and len(listed) > 1:
            yield Fault((*path, key), f'has "{ANY}" beside names', f'"{ANY}" alone, or names')
    for index, segment in enumerate(resources.segments):
        if segment != ANY and segment not in document.segments:
            yield _unknown((*path, "segments", index), "segment", segment, document.segments)
    yield from _channel_faults(document, resources, (*path, "channels"))


def _channel_faults(document: PolicyDocument, resources: Resources, path: KeyPath) -> Iterator[Fault]:
    """Find channels that none of the rule's segments has."""
    named = document.segments if ANY in resources.segments else resources.segments
    meant = [document.segments[each] for each in named if each in document.segments]
    if not meant or not all(each.channels for each in meant):
        return  # a segment that names no channels has all
    known = {channel for each in meant for channel in each.channels}
    for index, channel in enumerate(resources.channels):
        if channel != ANY and channel not in known:
            yield _unknown((*path, index), "channel", channel, known)


def _action_faults(rule: Rule, path: KeyPath) -> Iterator[Fault]:
    """Find actions for which the rule has no resource, and resources for which it has no action."""
    yield from _once(path, rule.actions)
    given = [(key, uses) for key, uses in _USES if getattr(rule.resources, key)]
    possible = frozenset[Action]().union(*(uses for _, uses in given))
    for index, action in enumerate(rule.actions):
        if given and action not in possible:
            keys = " or ".join(key for key, uses in _USES if action in uses)
            yield Fault((*path, index), f"nothing in resources can be done {show('', action)} with", f"{keys} there")
    for key, uses in given:
        if uses.isdisjoint(rule.actions):
            wanted = " or ".join(sorted(uses))
            yield Fault((*path[:-1], "resources", key), "none of the actions is for it", wanted)


def _effect_faults(rule: Rule, path: KeyPath) -> Iterator[Fault]:
    if rule.effect is Effect.PERMIT and rule.unless != ALWAYS:
        yield Fault((*path, "unless"), "a permit has no unless", "`when`, or a rule of its own that forbids")
    if rule.effect is Effect.FORBID and rule.rate != UNLIMITED:
        yield Fault((*path, "rate"), "a forbid has no rate", "the rate at the rule that permits")
    if rule.effect is Effect.FORBID and rule.crossing:
        yield Fault((*path, "crossing"), "a forbid counts in every segment", "no such key")


def _condition_faults(conditions: Conditions, path: KeyPath) -> Iterator[Fault]:
    if conditions.zone and not conditions.time:
        yield Fault((*path, "zone"), "says a zone and no time", "time = [ … ] beside it")
    if conditions.zone and not is_zone(conditions.zone):
        yield _no_zone((*path, "zone"), conditions.zone)
    for key in ("locations", "posture"):
        yield from _once((*path, key), getattr(conditions, key))
    for index, window in enumerate(conditions.time):
        yield from _once((*path, "time", index, "days"), window.days)
        if window.begin == window.until or window.begin == "24:00" or window.until == "00:00":
            problem = f"is no time: {window.begin} to {window.until}"
            yield Fault((*path, "time", index), problem, "another end; leave both out for whole days")


def is_zone(name: str) -> bool:
    """Say whether this box knows a time zone."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a folder, a file that is no zone, no file
        return False
    return True


def _no_zone(path: KeyPath, zone: str) -> Fault:
    return Fault(path, f"this box knows no zone {show('', zone)}", '"UTC" or a zone of IANA as "Europe/Vienna"')


def _unknown(path: KeyPath, what: str, name: str, known: Collection[str]) -> Fault:
    # Comparing with hundreds of names for each of a thousand faults would take seconds.
    near = difflib.get_close_matches(name, known, n=1) if len(known) <= _COMPARED else []
    wanted = f"{near[0]!r}, the nearest known {what}" if near else f"a {what} that [segments] knows"
    return Fault(path, f"no {what} is called {show('', name)}", wanted)


def _once(path: KeyPath, listed: Sequence[str]) -> Iterator[Fault]:
    """Find what a list says twice."""
    if len(set(listed)) == len(listed):
        return
    seen: set[str] = set()
    for index, each in enumerate(listed):
        if each in seen:
            place: tuple[Key, ...] = (*path, index)
            yield Fault(place, f"{show('', each)} stands twice", "each once")
        seen.add(each)
