"""Tests of a policy, in TOML: what each of some requests has to come to.

Every expectation starts with rates that nobody has used; `times` asks so often at one moment, and the last counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.layered_toml import parse_layer
from qedge.base.settings import Fault, KeyPath, check
from qedge.base.toml_lines import nearest_line
from qedge.security.model import MAX_TRUST, Action, Decision, Reason, Resource, ResourceKind, Subject, SubjectKind
from qedge.security.policy.model import Name, PolicyDocument, Text, Word
from qedge.security.policy.rates import RateBook
from qedge.security.policy.table import PolicyTable

MAX_EXPECTATIONS: Final = 10_000
MAX_TIMES: Final = 1000
DEFAULT_MOMENT: Final = "2027-01-04T12:00:00"
"""A Monday noon."""

RESOURCE_WORDS: Final = "node, segment:NAME/CHANNEL, device:ID/COMMAND, device:ID/COMMAND@SEGMENT or app:NAME"
_PART: Final = "[A-Za-z0-9_-]{1,36}"
_RESOURCE: Final = (
    f"node|segment:(?P<segment>{_PART})/(?P<channel>{_PART})|app:(?P<app>{_PART})"
    f"|device:(?P<owner>{_PART})/(?P<command>{_PART})(@(?P<of>{_PART}))?"
)
_RESOURCE_PATTERN: Final = re.sub(r"\?P<\w+>", "", f"^({_RESOURCE})\\Z")
_MOMENT_PATTERN: Final = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z?\Z"
Moment = Annotated[str, msgspec.Meta(pattern=_MOMENT_PATTERN, title='UTC as "2027-01-04T12:00:00"')]
_SOME: Final = msgspec.Meta(max_length=100)


class SubjectWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[subjects.NAME]`: who asks, in an expectation; its id is the name unless it says another."""

    kind: SubjectKind = SubjectKind.DEVICE
    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{0,36}\Z")] = ""
    device_class: Annotated[str, msgspec.Meta(max_length=64)] = msgspec.field(default="", name="class")
    groups: Annotated[tuple[Word, ...], _SOME] = ()
    attributes: Annotated[dict[Word, Text], _SOME] = {}
    segment: Annotated[str, msgspec.Meta(max_length=36)] = ""
    location: Annotated[str, msgspec.Meta(max_length=64)] = ""
    posture: Annotated[tuple[Word, ...], _SOME] = ()
    trust: Annotated[int, msgspec.Meta(ge=0, le=MAX_TRUST)] = 50
    qkd: bool = False
    quarantined: bool = False
    revoked: bool = False
    lease: bool = True


class Expectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[expect]]`: one request, and the reason code that it has to come to; `rule` empty: whichever."""

    subject: Name
    action: Action
    resource: Annotated[str, msgspec.Meta(pattern=_RESOURCE_PATTERN, title=RESOURCE_WORDS)]
    reason: Reason
    rule: Annotated[str, msgspec.Meta(max_length=36)] = ""
    at: Moment = DEFAULT_MOMENT
    times: Annotated[int, msgspec.Meta(ge=1, le=MAX_TIMES)] = 1


class Expectations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file; `policy` is the path of the policy, from where the file is. Who is not in `subjects` is unknown."""

    policy: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    subjects: Annotated[dict[Name, SubjectWords], msgspec.Meta(max_length=1000)] = {}
    expect: Annotated[tuple[Expectation, ...], msgspec.Meta(max_length=MAX_EXPECTATIONS)] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one expectation; `line` is where it stands."""

    expectation: Expectation
    decision: Decision
    line: int

    @property
    def met(self) -> bool:
        """Whether it came as expected."""
        wanted = self.expectation
        return self.decision.reason is wanted.reason and wanted.rule in ("", self.decision.rule)


def read_expectations(text: str, file: str = "") -> tuple[Expectations, tuple[int, ...]]:
    """Read a file of expectations, and the line of each; raises `client.data` with the first fault."""
    layer = parse_layer(file, text)
    if isinstance(layer, Fault):
        raise _bad(layer, 0)
    lines = dict(layer.lines)
    faults = check(Expectations, layer.values)
    if not faults:
        found = msgspec.convert(layer.values, Expectations)
        faults = [_bad_moment(index) for index, each in enumerate(found.expect) if moment_ns(each.at) is None]
    if faults:
        first = faults[0]
        raise _bad(replace(first, file=file, line=nearest_line(lines, first.path)), len(faults) - 1)
    return found, tuple(nearest_line(lines, ("expect", index)) for index in range(len(found.expect)))


def run_expectations(document: PolicyDocument, expectations: Expectations, lines: tuple[int, ...]) -> Iterator[Outcome]:
    """Put every request to a policy."""
    rates = RateBook()
    table = PolicyTable(document, rates)
    for wanted, line in zip(expectations.expect, lines, strict=True):
        rates.clear()
        words = expectations.subjects.get(wanted.subject)
        subject = None if words is None else subject_of(wanted.subject, words, lease_until_ns=1)
        resource, utc_ns = resource_of(wanted.resource), moment_ns(wanted.at) or 0
        for _ in range(wanted.times):
            decision = table.decide(subject, wanted.action, resource, 0, utc_ns)
        yield Outcome(wanted, decision, line)


def subject_of(name: str, words: SubjectWords, *, lease_until_ns: int) -> Subject:
    """Make a subject of what is written of it."""
    return Subject(
        id=words.id or name,
        kind=words.kind,
        device_class=words.device_class,
        groups=frozenset(words.groups),
        attributes=words.attributes,
        segment=words.segment,
        location=words.location,
        posture=frozenset(words.posture),
        trust=words.trust,
        quarantined=words.quarantined,
        revoked=words.revoked,
        qkd_backed=words.qkd,
        lease_until_ns=lease_until_ns if words.lease else 0,
    )


def resource_of(text: str) -> Resource:
    """Read a resource as it is written on the command line; raises `policy.bad_request`."""
    match = re.fullmatch(_RESOURCE, text)
    if match is None:
        raise QedgeError(
            "policy.bad_request", f"{text[:80]!r} is no resource.", fix=f"Write {RESOURCE_WORDS}.", resource=text[:80]
        )
    if match["segment"]:
        return Resource(ResourceKind.SEGMENT, match["channel"], match["segment"])
    if match["app"]:
        return Resource(ResourceKind.APP, match["app"])
    if match["owner"]:
        return Resource(ResourceKind.DEVICE, match["command"], match["of"] or "", match["owner"])
    return Resource(ResourceKind.NODE)


def moment_ns(text: str) -> int | None:
    """Read a moment in UTC as nanoseconds since 1970; None where there is no such moment."""
    try:
        return int(datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC).timestamp()) * 1_000_000_000
    except ValueError:
        return None


def _bad_moment(index: int) -> Fault:
    path: KeyPath = ("expect", index, "at")
    return Fault(path, "there is no such moment", 'UTC as "2027-01-04T12:00:00"')


def _bad(fault: Fault, more: int) -> QedgeError:
    rest = f" (and {more} more)" if more > 0 else ""
    return QedgeError(
        "client.data",
        f"The expectations cannot be used: {fault}{rest}.",
        fix="See docs/guides/write-a-policy.md for how they are written.",
        line=fault.line,
    )
