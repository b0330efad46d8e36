"""The operator's audit trail: one line of JSON for every act, chained by hashes. Pure.

`hash` of a line is SHA3-256 over the `hash` of the line before it and over the line itself without its `hash`. Lines
that are changed, removed or added in between are found by `check_trail`; lines that are cut off at the end, by whoever
noted the last `hash` elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from qedge.wire.mesh import Short
from qedge.wire.trust import Utc

FIRST: Final = "0" * 64
_ENCODE: Final = msgspec.json.Encoder().encode


class Act(StrEnum):
    """What an operator did, or what came of it."""

    SENT = "sent"
    CANCELLED = "cancelled"
    APPROVED = "approved"
    WITHDRAWN = "withdrawn"
    ENDED = "ended"
    ROLLOUT_BEGUN = "rollout begun"
    ROLLOUT_TOLD = "rollout told"
    ROLLOUT_ENDED = "rollout ended"
    RENEWED = "renewed"
    RENEWAL_REFUSED = "renewal refused"


class TrailEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One act: who, what, to which node, when, and how it ended. `arguments` is SHA3-256 of the encoded arguments."""

    utc_ns: Utc
    act: Act
    operator: Short
    fleet: Short
    node: Short = ""
    kind: Short = ""
    command: Short = ""
    serial: int = 0
    expires_utc_ns: int = 0
    time_limit_s: float = 0.0
    arguments: Short = ""
    rollout: Short = ""
    outcome: Short = ""
    reason: Short = ""
    note: Short = ""
    user: Short = ""
    """Name of the account on the operator's machine."""
    node_key: Short = ""
    """Id of the key that a request is for."""


class TrailLine(msgspec.Struct, frozen=True):
    """An entry with its place in the chain."""

    number: int
    entry: TrailEntry
    hash: str = ""


@dataclass(frozen=True, slots=True)
class TrailEnd:
    """Where a trail ends: the number and hash of its last line."""

    number: int = 0
    hash: str = FIRST


_LINE: Final = msgspec.json.Decoder(TrailLine)


def add(end: TrailEnd, entries: Iterable[TrailEntry]) -> tuple[bytes, TrailEnd]:
    """Write lines behind `end`; returns them with the new end."""
    lines = []
    for entry in entries:
        number = end.number + 1
        end = TrailEnd(number, _hash(end.hash, number, entry))
        lines.append(_ENCODE(TrailLine(number, entry, end.hash)) + b"\n")
    return b"".join(lines), end


def read_end(tail: bytes) -> TrailEnd | None:
    """Return where a trail ends, given its last bytes; None where the last whole line is none of a trail."""
    lines = tail[: tail.rfind(b"\n") + 1].splitlines()
    if not lines:
        return TrailEnd()
    try:
        line = _LINE.decode(lines[-1])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return TrailEnd(line.number, line.hash)


def arguments_hash(arguments: bytes) -> str:
    """Return what a trail says of arguments, which may be large or confidential; empty for none."""
    return hashlib.sha3_256(arguments).hexdigest() if arguments else ""


def check_trail(data: bytes) -> tuple[Sequence[TrailLine], str]:
    """Read a trail and follow its chain; returns its lines and the first fault, empty where it is whole.

    A last line that a crash cut off is no fault: the act that it told was not done.
    """
    end = TrailEnd()
    found: list[TrailLine] = []
    fault = ""
    for raw in data[: data.rfind(b"\n") + 1].splitlines():
        number = len(found) + 1
        try:
            line = _LINE.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return found, fault or f"line {number} cannot be read"
        if not fault and (line.number != number or line.hash != _hash(end.hash, number, line.entry)):
            fault = f"line {number} does not follow from the lines before it"
        end = TrailEnd(number, line.hash)
        found.append(line)
    return found, fault


def _hash(before: str, number: int, entry: TrailEntry) -> str:
    return hashlib.sha3_256(before.encode() + _ENCODE(TrailLine(number, entry))).hexdigest()
