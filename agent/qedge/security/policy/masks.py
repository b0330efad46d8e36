"""Which rules match a subject and a resource, as sets of bits: bit n stands for rule n.

For each part of a rule (kinds, classes, segments, …) an index says which rules accept a value; whatever a rule does
not speak of, it accepts. The rules that match are the intersection, so the cost does not grow with rules that do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from qedge.security.model import Action, Resource, ResourceKind, Subject
from qedge.security.policy.model import ANY, Effect, PolicyDocument, Rule, attribute_values

NONE: Final = 0


class Index:
    """Rules by the values that they accept; rules that name none accept all."""

    __slots__ = ("_named", "_rest")

    def __init__(self, listed: Sequence[Iterable[str]]) -> None:
        """Index `listed`: for each rule, in order, the values it names."""
        self._rest = NONE
        named: dict[str, int] = {}
        for number, given in enumerate(listed):
            values = tuple(given)
            if not values or values == (ANY,):
                self._rest |= 1 << number
            for value in values:
                named[value] = named.get(value, NONE) | 1 << number
        self._named = {value: mask | self._rest for value, mask in named.items()}

    def accepting(self, value: str) -> int:
        """Return the rules that accept a value."""
        return self._named.get(value, self._rest)

    def accepting_any(self, values: Iterable[str]) -> int:
        """Return the rules that accept one of several values."""
        mask = self._rest
        for value in values:
            mask |= self._named.get(value, NONE)
        return mask


class SubjectMasks:
    """Which rules a subject matches."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        subjects = [rule.subjects for rule in rules]
        self._kinds = Index([each.kinds for each in subjects])
        self._ids = Index([each.ids for each in subjects])
        self._classes = Index([each.classes for each in subjects])
        self._groups = Index([each.groups for each in subjects])
        self._segments = Index([each.segments for each in subjects])
        wanted = [attribute_values(each) for each in subjects]
        keys = sorted({key for each in wanted for key in each})
        self._attributes = [(key, Index([each.get(key, ()) for each in wanted])) for key in keys]

    def matching(self, subject: Subject) -> int:
        """Return the rules that a subject matches."""
        mask = self._kinds.accepting(subject.kind) & self._ids.accepting(subject.id)
        mask &= self._classes.accepting(subject.device_class) & self._groups.accepting_any(subject.groups)
        mask &= self._segments.accepting(subject.segment)
        for key, index in self._attributes:
            # What a subject does not have is accepted by rules alone that do not ask for it; no value is empty.
            mask &= index.accepting(subject.attributes.get(key, ""))
        return mask


class ResourceMasks:
    """Which rules an action on a resource matches."""

    def __init__(self, document: PolicyDocument) -> None:
        rules = list(document.rules.values())
        resources = [rule.resources for rule in rules]
        self._actions = {action: _mask(action in rule.actions for rule in rules) for action in Action}
        self._node = _mask(each.node for each in resources)
        self._with_commands = _mask(bool(each.commands) for each in resources)
        self._commands = Index([each.commands for each in resources])
        self._devices = Index([each.devices for each in resources])
        self._with_apps = _mask(bool(each.apps) for each in resources)
        self._apps = Index([each.apps for each in resources])
        segments = Index([each.segments for each in resources])
        self._inside = {name: segments.accepting(name) for name in document.segments}
        self._elsewhere = _mask(
            not rule.resources.segments or (rule.effect is Effect.FORBID and rule.resources.segments == (ANY,))
            for rule in rules
        )
        """Rules on commands of devices in segments that are not known: those that name devices and no segments, and
        forbids that mean all. A permit that means all means those that are known: either way the safe side."""
        channels = Index([each.channels for each in resources])
        with_channels = _mask(bool(each.channels) for each in resources)
        self._channels: dict[str, tuple[Mapping[str, int] | None, Index, int]] = {}
        for name, segment in document.segments.items():
            reach = self._inside[name] & with_channels
            known = {each: channels.accepting(each) & reach for each in segment.channels} if segment.channels else None
            self._channels[name] = (known, channels, reach)

    def matching(self, action: Action, resource: Resource) -> int:
        """Return the rules that match. Segments, and channels where a segment names its own, that are unknown: none."""
        mask = self._actions.get(action, NONE)
        kind = resource.kind
        if kind is ResourceKind.SEGMENT:
            found = self._channels.get(resource.segment)
            if found is None:
                return NONE
            known, channels, reach = found
            if known is not None:
                return mask & known.get(resource.name, NONE)
            return mask & reach & channels.accepting(resource.name)
        if kind is ResourceKind.DEVICE:
            mask &= self._with_commands & self._commands.accepting(resource.name)
            mask &= self._devices.accepting(resource.owner)
            return mask & self._inside.get(resource.segment, self._elsewhere)
        if kind is ResourceKind.APP:
            return mask & self._with_apps & self._apps.accepting(resource.name)
        return mask & self._node if kind is ResourceKind.NODE else NONE


def _mask(flags: Iterable[bool]) -> int:
    return sum(1 << number for number, flag in enumerate(flags) if flag)
