"""What a policy may say. Every struct is strict: a key that is not here is a fault.

A rule names subjects, actions and resources, all of which must match, and conditions. Inside a list one match is
enough; different keys all have to match.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from qedge.security.model import MAX_TRUST, Action, Reason, SubjectKind

ANY: Final = "*"
"""Stands alone in a list of segments, channels, devices, commands or apps and means all of them."""

MAX_RULES: Final = 1000
MAX_SEGMENTS: Final = 500
MAX_LISTED: Final = 1000
MAX_WINDOWS: Final = 32

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

DENIALS: Final = (
    Reason.SEGMENT,
    Reason.TRUST,
    Reason.TIME,
    Reason.LOCATION,
    Reason.POSTURE,
    Reason.QKD,
    Reason.RATE,
)
"""What the conditions of permits deny for, in the order in which they are looked at."""

_NAME_WORDS: Final = "at most 36 letters, digits, - and _"
_WORD_WORDS: Final = "at most 64 letters, digits, -, _, . and :"
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,36}\Z", title=_NAME_WORDS)]
NameOrAny = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9_-]{1,36}|\*)\Z", title=f"{_NAME_WORDS}, or *")]
Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z", title=_WORD_WORDS)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Clock = Annotated[
    str, msgspec.Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)\Z", title='"HH:MM", 00:00 to 24:00')
]
Zone = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}\Z", max_length=64, title="a zone of IANA")
]

_LIST: Final = msgspec.Meta(min_length=1, max_length=MAX_LISTED)
Names = Annotated[tuple[Name, ...], _LIST]
NamesOrAny = Annotated[tuple[NameOrAny, ...], _LIST]
Words = Annotated[tuple[Word, ...], _LIST]


class Effect(StrEnum):
    """What a rule does with the requests it matches."""

    PERMIT = "permit"
    FORBID = "forbid"


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[segments.NAME]`: a segment; where `channels` are named, it has no others."""

    channels: Names = ()
    description: Text = ""


class Subjects(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who a rule is about. `kinds` is always said; what is left out does not matter.

    `groups`: in one of them; `segments`: the subject's own; `attributes`: each has the value, or one of the values.
    """

    kinds: Annotated[tuple[SubjectKind, ...], msgspec.Meta(min_length=1, max_length=len(SubjectKind))]
    ids: Names = ()
    classes: Words = ()
    groups: Words = ()
    segments: Names = ()
    attributes: Annotated[
        dict[Word, Text | Annotated[tuple[Text, ...], _LIST]], msgspec.Meta(min_length=1, max_length=32)
    ] = {}


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rule is about: the node, channels of segments, commands of devices (or of all in segments), apps."""

    node: bool = False
    segments: NamesOrAny = ()
    channels: NamesOrAny = ()
    devices: NamesOrAny = ()
    commands: NamesOrAny = ()
    apps: NamesOrAny = ()


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A time of the day, on days of the week. `from` after `until` goes past midnight, and belongs to the first day."""

    days: Annotated[tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...], _LIST] = DAYS
    begin: Clock = msgspec.field(default="00:00", name="from")
    until: Clock = "24:00"


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What has to hold, all of it: `trust` at least, one `time` window, one location, all of `posture`, QKD-backed."""

    trust: Annotated[int, msgspec.Meta(ge=1, le=MAX_TRUST)] = 0
    time: Annotated[tuple[Window, ...], msgspec.Meta(min_length=1, max_length=MAX_WINDOWS)] = ()
    zone: Zone = ""
    locations: Words = ()
    posture: Words = ()
    qkd: bool = False


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often each subject may use a rule: `per_second` a second in the long run, up to `burst` at once."""

    per_second: Annotated[float, msgspec.Meta(ge=0.0001, le=1_000_000)]
    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1


ALWAYS: Final = Conditions()
UNLIMITED: Final = Rate(0.0)
"""Stands where a rule says no rate."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[rules.NAME]`: a rule applies where subject, action and resource match, `when` holds and `unless` does not.

    `unless` is for forbids. `crossing` and `rate` are for permits: without the one, only what is in the subject's own
    segment is permitted; the other counts for each subject by itself.
    """

    effect: Effect
    subjects: Subjects
    actions: Annotated[tuple[Action, ...], msgspec.Meta(min_length=1, max_length=len(Action))]
    resources: Resources
    when: Conditions = ALWAYS
    unless: Conditions = ALWAYS
    crossing: bool = False
    rate: Rate = UNLIMITED
    description: Text = ""


class PolicyDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole policy: `zone` is that of time windows which name none."""

    version: Literal[1]
    zone: Zone = "UTC"
    description: Text = ""
    segments: Annotated[dict[Name, Segment], msgspec.Meta(max_length=MAX_SEGMENTS)] = {}
    rules: Annotated[dict[Name, Rule], msgspec.Meta(max_length=MAX_RULES)] = {}


NOTHING: Final = PolicyDocument(version=1)
"""The policy of a node that has none: everything is denied."""


def attribute_values(subjects: Subjects) -> Mapping[str, tuple[str, ...]]:
    """Return the values that each attribute may have."""
    return {key: (given,) if isinstance(given, str) else given for key, given in subjects.attributes.items()}
