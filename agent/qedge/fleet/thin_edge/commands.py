"""The life cycle of thin-edge.io commands, as far as it can be said without waiting. Pure.

`init → executing → successful | failed`. A requester publishes `init`, retained, under an id of its own, and alone
takes the command away with an empty message once it has ended; every other state here is published by this service. A
message without a status is `init` as well; fields that are not known are carried through all states; states that others
own (of workflows) are left alone. A command that is known is never begun twice, whatever comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from qedge.fleet.thin_edge.mapping import Json

MAX_PAYLOAD_BYTES: Final = 64 * 1024
_MAX_REASON: Final = 400
_DECODER: Final = msgspec.json.Decoder(dict)
_ENCODE: Final = msgspec.json.Encoder(order="deterministic").encode


class Status(StrEnum):
    """States of a command; `CLEARED`: its requester has taken it away, only its id is kept."""

    INIT = "init"
    EXECUTING = "executing"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    CLEARED = "cleared"


PAST: Final = frozenset({Status.SUCCESSFUL, Status.FAILED, Status.CLEARED})
MOST_KNOWN: Final = 1000
"""Commands that are remembered; the oldest that are past are forgotten: anybody at the broker can make new ones."""

_SPOKEN: Final = frozenset(each.value for each in Status if each is not Status.CLEARED)


@dataclass(frozen=True, slots=True)
class LocalCommand:
    """One command: the topic it came on, its kind and id, its state here, and all its fields but `status`."""

    topic: str
    kind: str
    id: str
    status: Status
    fields: Mapping[str, Json]

    def to(self, status: Status, more: Mapping[str, Json] | None = None, reason: str = "") -> LocalCommand:
        """Return it in another state; `more` fields are added, and a reason where it failed."""
        fields = {**self.fields, **(more or {})}
        fields.pop("reason", None)
        if reason:
            fields["reason"] = reason[:_MAX_REASON]
        return replace(self, status=status, fields=fields)

    @property
    def payload(self) -> bytes:
        """What stands on its topic."""
        return _ENCODE({"status": self.status.value, **self.fields}) if self.status is not Status.CLEARED else b""


class Act(StrEnum):
    """What is to be done about a message."""

    NOTHING = "nothing"
    BEGIN = "begin"
    TELL = "tell"
    """Publish the state that is known here again."""

    FAIL = "fail"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, to which command."""

    act: Act
    command: LocalCommand | None = None


DENIED: Final[Mapping[str, str]] = {
    "config_update": "configuration comes by signed commands of the fleet, not from a local tool",
}
"""Kinds that are never carried out, and why."""


def parse(topic: str, payload: bytes) -> LocalCommand | None:
    """Read a message on `…/cmd/{kind}/{id}`; None where it is no command, or in a state that others own."""
    kind, name = topic.split("/")[-2:]
    if not payload:
        return LocalCommand(topic, kind, name, Status.CLEARED, {})
    if len(payload) > MAX_PAYLOAD_BYTES or not (kind and name):
        return None
    try:
        fields: dict[str, Json] = _DECODER.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    status = fields.pop("status", Status.INIT.value)
    if not isinstance(status, str) or status not in _SPOKEN:
        return None
    return LocalCommand(topic, kind, name, Status(status), fields)


def decide(came: LocalCommand, known: LocalCommand | None, *, retained: bool, allowed: frozenset[str]) -> Decision:
    """Say what follows from a message; `retained`: it stood at the broker before."""
    if came.status is Status.CLEARED:
        return Decision(Act.CLEAR, known) if known is not None else Decision(Act.NOTHING)
    if known is not None:
        if known.status is Status.CLEARED or came.status is known.status:
            return Decision(Act.NOTHING)
        # An echo of our own states says nothing; what stood there from before, or asks again, gets our word.
        if retained or came.status is Status.INIT:
            return Decision(Act.TELL, known)
        return Decision(Act.NOTHING)
    if came.status is Status.INIT:
        if came.kind in allowed:
            return Decision(Act.BEGIN, came)
        why = DENIED.get(came.kind, f"{came.kind} is not among fleet.thin_edge.commands")
        return Decision(Act.FAIL, came.to(Status.FAILED, reason=why))
    if came.status is Status.EXECUTING and came.kind in allowed:
        return Decision(Act.FAIL, came.to(Status.FAILED, reason="state lost: this command is not known here any more"))
    return Decision(Act.NOTHING)
