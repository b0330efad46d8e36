"""Short frames, for links on which every byte counts (LoRaWAN, NB-IoT): 11 bytes of overhead, 13 after long silence.

A frame is `header (1) || counter (2 or 4) || ciphertext || tag (8)`. The header is `1 L E E E E E E`: L says that the
counter has 4 bytes, E is the epoch that the node gave the session. Of the 32-bit counter the lower 16 bits are sent;
the receiver takes the one value next to the highest it has accepted. AES-256-CCM with an 8-byte tag (NIST SP 800-38C);
the nonce is the session's 13-byte IV XOR the counter, right-aligned. Bound as associated data: header, the whole
counter in 4 bytes, and the topic.

A forger's chance is 2^-64 a try, so the receiver counts failures and shuts after `MAX_FAILURES`; whoever has a clock
calls `forgive` once an hour.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from qedge_device.frame import FrameError, ReplayWindow

KEY_BYTES = 32
IV_BYTES = 13
TAG_BYTES = 8
EPOCHS = 64
SHORT_OVERHEAD_BYTES = 11
LONG_OVERHEAD_BYTES = 13
MAX_FAILURES = 32
MAX_SHORT_COUNTER = 2**32 - 1
WINDOW = 256

_MARK = 0x80
_LONG = 0x40
_HALF = 1 << 15
_SPAN = 1 << 16
_LONG_EVERY = 1 << 14


def first_bytes(epoch: int) -> tuple[bytes, bytes]:
    """Return the two possible first bytes of the frames of an epoch."""
    return bytes([_MARK | epoch]), bytes([_MARK | _LONG | epoch])


def rebuild_counter(low: int, top: int) -> int:
    """Return the counter whose lower 16 bits are `low` and that is nearest to the one expected after `top`."""
    expected = top + 1
    counter = (expected & ~0xFFFF) | low
    if counter + _HALF < expected:
        return counter + _SPAN
    if counter >= expected + _HALF and counter >= _SPAN:
        return counter - _SPAN
    return counter


class _ShortSession:
    __slots__ = ("_aead", "_epoch", "_iv")

    def __init__(self, key: bytes, iv: bytes, epoch: int) -> None:
        if len(key) != KEY_BYTES or len(iv) != IV_BYTES or not 0 <= epoch < EPOCHS:
            raise ValueError("a short session needs a 32-byte key, a 13-byte IV and a 6-bit epoch")
        self._aead = AESCCM(key, TAG_BYTES)
        self._iv = int.from_bytes(iv, "big")
        self._epoch = epoch

    @property
    def epoch(self) -> int:
        """Return the epoch that stands in every frame."""
        return self._epoch

    def _nonce(self, counter: int) -> bytes:
        return (self._iv ^ counter).to_bytes(IV_BYTES, "big")


class ShortSealer(_ShortSession):
    """The sending half. Now and then it sends the whole counter, so that long loss does not end the session."""

    __slots__ = ("_counter", "_limit")

    def __init__(self, key: bytes, iv: bytes, epoch: int, limit: int = MAX_SHORT_COUNTER) -> None:
        super().__init__(key, iv, epoch)
        self._counter = 0
        self._limit = min(limit, MAX_SHORT_COUNTER)

    @property
    def sealed(self) -> int:
        """Return how many messages were sealed."""
        return self._counter

    def seal(self, payload: bytes, topic: str) -> bytes:
        """Seal one message for `topic`; raises `FrameError` (`exhausted`) where a new session is due."""
        counter = self._counter
        if counter > self._limit:
            raise FrameError("exhausted")
        self._counter = counter + 1
        whole = counter.to_bytes(4, "big")
        is_long = counter > 0 and counter % _LONG_EVERY == 0
        header = bytes([_MARK | (_LONG if is_long else 0) | self._epoch])
        sealed = self._aead.encrypt(self._nonce(counter), payload, header + whole + topic.encode("utf-8"))
        return header + (whole if is_long else whole[2:]) + sealed


class ShortOpener(_ShortSession):
    """The receiving half, with replay window and lock."""

    __slots__ = ("_failures", "_limit", "_window")

    def __init__(self, key: bytes, iv: bytes, epoch: int, window: int = WINDOW, limit: int = MAX_SHORT_COUNTER) -> None:
        super().__init__(key, iv, epoch)
        self._window = ReplayWindow(window)
        self._failures = 0
        self._limit = min(limit, MAX_SHORT_COUNTER)

    @property
    def used(self) -> bool:
        """Say whether a good frame came."""
        return self._window.top >= 0

    @property
    def locked(self) -> bool:
        """Say whether too many frames failed to take any more."""
        return self._failures >= MAX_FAILURES

    def forgive(self) -> None:
        """Forget the failures; to be called once an hour."""
        self._failures = 0

    def open(self, frame: bytes, topic: str) -> bytes:
        """Open one frame that came on `topic`; raises `FrameError` and changes nothing where it is not good."""
        if len(frame) < SHORT_OVERHEAD_BYTES:
            raise FrameError("short")
        first = frame[0]
        if not first & _MARK:
            raise FrameError("version")
        if first & (EPOCHS - 1) != self._epoch:
            raise FrameError("key")
        if self._failures >= MAX_FAILURES:
            raise FrameError("locked")
        if first & _LONG:
            if len(frame) < LONG_OVERHEAD_BYTES:
                raise FrameError("short")
            counter, start = int.from_bytes(frame[1:5], "big"), 5
        else:
            counter, start = rebuild_counter(frame[1] << 8 | frame[2], self._window.top), 3
        if counter > self._limit:
            raise FrameError("exhausted")
        if not self._window.is_fresh(counter):
            raise FrameError("replay")
        bound = frame[:1] + counter.to_bytes(4, "big") + topic.encode("utf-8")
        try:
            payload = self._aead.decrypt(self._nonce(counter), frame[start:], bound)
        except InvalidTag:
            self._failures += 1
            raise FrameError("open") from None
        self._window.accept(counter)
        return payload
