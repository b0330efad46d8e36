"""Makes of frames that may be lost, doubled, late or bent a sequence of messages that is complete and in order.

Frames are numbered within an epoch and acknowledged together; what is not acknowledged in time is sent again. An end
that cannot go on begins a new epoch, and the other one follows when it hears of it: whatever was under way is gone then
for both. Nothing here is trusted for security: that messages are the other end's own is what tags are for.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.wire.qkd import LinkFrame

WINDOW_BYTES: Final = 8 << 20
"""What may be under way unacknowledged."""

RESEND_NS: Final = 1_500_000_000
STALL_NS: Final = 15_000_000_000
"""A frame so long unacknowledged by an end that is heard means that the ends no longer mean the same."""

_ACK_NS: Final = 100_000_000
"""For so long a receipt waits for something to go along with: each costs both nodes a message and an answer."""

_ACK_FRAMES: Final = 16
_MAX_EARLY: Final = 256
_MAX_LEAP: Final = 1 << 20
_DECODER: Final = msgspec.msgpack.Decoder(LinkFrame)
_ENCODE: Final = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class _Sent:
    number: int
    body: bytes
    first_ns: int
    last_ns: int


class Conduit:
    """One end. `take` what arrives, `post` what is to go, then send every frame that `due` returns."""

    def __init__(self, *, resend_ns: int = RESEND_NS, stall_ns: int = STALL_NS) -> None:
        self._resend_ns = resend_ns
        self._stall_ns = stall_ns
        self.epoch = 0
        self.sent_bytes = 0
        """Of messages, each counted once."""
        self._clear()

    def _clear(self) -> None:
        self._next_out = 0
        self._next_in = 0
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._away: OrderedDict[int, _Sent] = OrderedDict()
        self._away_bytes = 0
        self._early: dict[int, bytes] = {}
        self._unacked = 0
        self._ack_ns = -1
        self._heard_ns = -1

    @property
    def waiting_bytes(self) -> int:
        """Bytes of messages that the other end has not acknowledged."""
        return self._queued_bytes + self._away_bytes

    def begin_anew(self) -> None:
        """Begin the next epoch; everything under way is forgotten."""
        self.epoch += 1
        self._clear()

    def post(self, body: bytes) -> None:
        """Put a message on its way."""
        self._queue.append(body)
        self._queued_bytes += len(body)
        self.sent_bytes += len(body)

    def take(self, data: bytes, now_ns: int) -> tuple[bool, list[bytes]]:
        """Take a frame: whether it began a new epoch here, and the messages that are now complete and in order.

        Whatever is no frame, or is none of this time, has no effect.
        """
        try:
            frame = _DECODER.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False, []
        turned = False
        if frame.epoch > self.epoch:
            if frame.epoch - self.epoch > _MAX_LEAP:
                return False, []
            self.epoch = frame.epoch
            self._clear()
            turned = True
        elif frame.epoch < self.epoch:
            self._ack_ns = now_ns  # tell the other end where this one is
            return False, []
        self._heard_ns = now_ns
        self._acknowledge(frame.ack)
        return turned, self._arrange(frame, now_ns)

    def _acknowledge(self, ack: int) -> None:
        while self._away and (first := next(iter(self._away))) < ack:
            self._away_bytes -= len(self._away.pop(first).body)

    def _arrange(self, frame: LinkFrame, now_ns: int) -> list[bytes]:
        if not frame.body:
            return []
        self._unacked += 1
        if self._ack_ns < 0:
            self._ack_ns = now_ns + _ACK_NS
        if frame.number < self._next_in or frame.number >= self._next_in + _MAX_EARLY:
            return []
        self._early.setdefault(frame.number, frame.body)
        bodies = []
        while (body := self._early.pop(self._next_in, None)) is not None:
            self._next_in += 1
            bodies.append(body)
        return bodies

    def due(self, now_ns: int) -> list[bytes]:
        """Return the frames to send now: new ones, those to send again, or a mere receipt."""
        frames = []
        for sent in self._away.values():
            if now_ns - sent.last_ns >= self._resend_ns:
                sent.last_ns = now_ns
                frames.append(self._frame(sent.number, sent.body))
        while self._queue and len(self._away) < _MAX_EARLY and self._away_bytes < WINDOW_BYTES:
            body = self._queue.popleft()
            self._queued_bytes -= len(body)
            self._away_bytes += len(body)
            self._away[self._next_out] = _Sent(self._next_out, body, now_ns, now_ns)
            frames.append(self._frame(self._next_out, body))
            self._next_out += 1
        if not frames and self._ack_ns >= 0 and (self._unacked >= _ACK_FRAMES or now_ns >= self._ack_ns):
            frames.append(self._frame(self._next_out, b""))
        if frames:
            self._unacked, self._ack_ns = 0, -1
        return frames

    def is_stalled(self, now_ns: int) -> bool:
        """Say whether the other end is heard, and yet does not acknowledge what it was sent long ago."""
        if not self._away:
            return False
        oldest = next(iter(self._away.values()))
        return now_ns - oldest.first_ns > self._stall_ns and self._heard_ns > oldest.first_ns

    def next_deadline(self) -> int | None:
        """Return when `due` or `is_stalled` may have something new to say; None: not before something happens."""
        times = [self._ack_ns] if self._ack_ns >= 0 else []
        if self._away:
            times.append(min(sent.last_ns for sent in self._away.values()) + self._resend_ns)
        return min(times, default=None)

    def _frame(self, number: int, body: bytes) -> bytes:
        return _ENCODE(LinkFrame(self.epoch, number, self._next_in, body))
