"""The language of decode streams: what a control system and a node say over the WebSocket `/v1/decode`.

Text messages are JSON and rare: open, opened, close, summary, failed. Binary messages carry the rounds of detection
events to the node and the committed corrections back; all their numbers are little-endian.

Rounds (node reads): kind u8 (1; 2 where the last round of the message is the one that closes the stream), 0 u8, number
of rounds u16, 0 u32, number of the first round u64, then `round_bytes` bytes for each round: detector 0 of the round
is the least significant bit of the first byte, bits beyond the detectors of the round are 0.

Commit (node writes): kind u8 (129), flags u8 (1: the last one of the stream), 0 u16, nanoseconds in the worker u32 from
the arrival of the message that completed the window, rounds committed u64, observables that this window flips u64,
observables that all windows so far flip u64. Observable k is bit k.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from qedge.base.errors import QedgeError
from qedge.wire.problem import Problem

MAX_BATCH: Final = 0xFFFF
"""Most rounds in one message."""
MAX_ROUND: Final = (1 << 63) - 1
HEADER: Final = struct.Struct("<BBHIQ")
COMMIT: Final = struct.Struct("<BBHIQQQ")

_ROUNDS: Final = 1
_CLOSING: Final = 2
_COMMIT: Final = 129
_LAST: Final = 1
_MAX_NS: Final = 0xFFFFFFFF


class MemoryModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="memory"):
    """A logical qubit kept in a rotated surface code or a repetition code for any number of rounds.

    `error_rate` is the strength of all four kinds of circuit noise: gates, idling, resets, measurements.
    """

    code: Literal["surface", "repetition"] = "surface"
    distance: Annotated[int, msgspec.Meta(ge=2, le=31)] = 3
    basis: Literal["x", "z"] = "z"
    error_rate: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.001


class StimModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="stim"):
    """A detector error model in the text of stim, decomposed; the last coordinate of a detector is its round.

    With `repeats_from` every round from that one on, up to the last, looks like the next, so that a stream may have any
    number of rounds; without it the stream ends with the model.
    """

    text: str
    repeats_from: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0


class DecodeOpen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="decode-open/1"):
    """The first message: what is decoded, in windows of so many rounds of which `commit` are decided at a time.

    `window` 0 takes two distances of a memory and 10 rounds of another model, `commit` 0 half a window. `credit` is how
    many rounds may be under way, sent and not yet committed; 0 takes what the node gives.
    """

    model: MemoryModel | StimModel
    window: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    commit: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    credit: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0


class DecodeOpened(msgspec.Struct, frozen=True, tag_field="type", tag="decode-opened/1"):
    """The stream is open.

    `detectors` are the detectors of rounds 0, 1, …; later rounds have as many as the last one listed, the closing round
    has `closing`. `rounds` is how many a stream of this model has, the closing one included; 0 is any number.
    """

    model: str
    round_bytes: int
    detectors: tuple[int, ...]
    closing: int
    observables: int
    window: int
    commit: int
    credit: int
    rounds: int
    compile_s: float
    cached: bool


class DecodeClose(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="decode-close/1"):
    """End the stream as it is: what is not committed stays undecided."""


class DecodeSummary(msgspec.Struct, frozen=True, tag_field="type", tag="decode-summary/1"):
    """The stream has ended; times are those of `DecodeCommit.worker_ns`, over all windows.

    `flushed` says whether a closing round came, so that all rounds are committed.
    """

    rounds: int
    committed: int
    windows: int
    frame: int
    flushed: bool
    latency_p50_us: float
    latency_p99_us: float
    latency_max_us: float


class DecodeFailed(msgspec.Struct, frozen=True, tag_field="type", tag="decode-failed/1"):
    """The stream is over. `problem.details.committed` says for how many rounds commits were sent before."""

    problem: Problem


Request = DecodeOpen | DecodeClose
Answer = DecodeOpened | DecodeSummary | DecodeFailed


class Rounds(NamedTuple):
    """The head of a message of rounds."""

    first: int
    number: int
    closing: bool


class DecodeCommit(NamedTuple):
    """What is decided: observables that this window and all so far flip, good for the rounds before `committed`."""

    committed: int
    flips: int
    frame: int
    worker_ns: int
    last: bool


def pack_rounds(first: int, packed: bytes, round_bytes: int, *, closing: bool = False) -> bytes:
    """Write a message of rounds that are packed already, `round_bytes` each; raises `decode.bad_frame`."""
    count, rest = divmod(len(packed), round_bytes)
    if rest or not 1 <= count <= MAX_BATCH or not 0 <= first <= MAX_ROUND:
        raise _bad(f"{len(packed)} bytes are not 1 to {MAX_BATCH} rounds of {round_bytes} bytes")
    return HEADER.pack(_CLOSING if closing else _ROUNDS, 0, count, 0, first) + packed


def read_rounds(message: bytes, round_bytes: int) -> Rounds:
    """Read the head of a message of rounds and check its length; raises `decode.bad_frame`."""
    if len(message) < HEADER.size:
        raise _bad(f"{len(message)} bytes are shorter than the head of a message")
    kind, zero, count, more, first = HEADER.unpack_from(message)
    if kind not in (_ROUNDS, _CLOSING) or zero or more or first > MAX_ROUND:
        raise _bad("the head is not that of a message of rounds")
    if not count or len(message) != HEADER.size + count * round_bytes:
        raise _bad(f"{count} rounds of {round_bytes} bytes do not make {len(message)} bytes with the head")
    return Rounds(first, count, kind == _CLOSING)


def pack_commit(commit: DecodeCommit) -> bytes:
    """Write a commit."""
    worker_ns = min(max(commit.worker_ns, 0), _MAX_NS)
    return COMMIT.pack(_COMMIT, _LAST * commit.last, 0, worker_ns, commit.committed, commit.flips, commit.frame)


def read_commit(message: bytes) -> DecodeCommit:
    """Read a commit; raises `decode.bad_frame`."""
    if len(message) != COMMIT.size:
        raise _bad(f"{len(message)} bytes are no commit")
    kind, flags, zero, worker_ns, committed, flips, frame = COMMIT.unpack(message)
    if kind != _COMMIT or flags > _LAST or zero:
        raise _bad("the head is not that of a commit")
    return DecodeCommit(committed, flips, frame, worker_ns, bool(flags))


def pack_bits(rounds: Iterable[Iterable[int]], round_bytes: int) -> bytes:
    """Pack rounds of detection events, 0 or 1 per detector, into `round_bytes` bytes each; raises `decode.bad_frame`.

    numpy packs arrays faster: `np.packbits(rounds, axis=1, bitorder="little")`.
    """
    packed = bytearray()
    for events in rounds:
        number = 0
        for place, event in enumerate(events):
            number |= bool(event) << place
        try:
            packed += number.to_bytes(round_bytes, "little")
        except OverflowError:
            raise _bad(f"a round has events beyond its {round_bytes} bytes") from None
    return bytes(packed)


def _bad(what: str) -> QedgeError:
    return QedgeError(
        "decode.bad_frame", f"A message of the stream cannot be read: {what}.", fix="See the layout of the messages."
    )
