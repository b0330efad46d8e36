"""The one frame codec: sealed messages of a session, on the device and on the node alike.

A frame is `version (1) || key id (4) || counter (8) || ciphertext || tag (16)`, integers big-endian. The nonce is the
session's 12-byte IV XOR the counter, right-aligned (the construction of RFC 8446 §5.3), so a (key, nonce) pair never
repeats while the counter only grows. Bound as associated data: the header as sent, the suite, and the topic.

The handshake that makes key and IV stands elsewhere; this module only seals, opens and refuses repeats. Frames of
11 bytes of overhead, for links on which 29 are too many, stand in `short`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

VERSION = 1
TAG_BYTES = 16
KEY_BYTES = 32
IV_BYTES = 12
MAX_COUNTER = 2**48 - 1
"""Hard stop: a session ends before its counter comes near the limits of the AEAD (NIST SP 800-38D §8)."""

_HEADER = struct.Struct(">BIQ")
HEADER_BYTES = _HEADER.size
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES


class Suite(IntEnum):
    """AEAD of a session; the number, that of the session's suite, is bound into every frame.

    Suites 1 and 2 differ in their key establishment, which stands elsewhere.
    """

    AES_256_GCM = 1
    AES_256_GCM_CATEGORY_5 = 2
    CHACHA20_POLY1305 = 3


class FrameError(Exception):
    """A frame has no effect. `reason` is `short`, `version`, `key`, `replay`, `open`, `exhausted` or `locked`."""

    def __init__(self, reason: str) -> None:
        super().__init__("frame refused: " + reason)
        self.reason = reason


@dataclass(frozen=True)
class FrameHeader:
    """What stands in clear before the ciphertext."""

    key_id: int
    counter: int


def parse_header(frame: bytes) -> FrameHeader:
    """Read the header of a frame without trusting it; raises `FrameError` (`short`, `version`)."""
    if len(frame) < OVERHEAD_BYTES:
        raise FrameError("short")
    version, key_id, counter = _HEADER.unpack_from(frame)
    if version != VERSION:
        raise FrameError("version")
    return FrameHeader(key_id, counter)


_MASKS: dict[int, int] = {}


def _mask(size: int) -> int:
    """Return `size` ones: one object for all windows of a size, of which a node has ten thousand."""
    return _MASKS.setdefault(size, (1 << size) - 1)


class ReplayWindow:
    """Accepts each counter at most once, out of order within the last `size` counters."""

    __slots__ = ("_mask", "_seen", "_size", "top")

    def __init__(self, size: int = 1024) -> None:
        if size < 1:
            raise ValueError("a replay window holds at least one counter")
        self._size = size
        self._mask = _mask(size)
        self.top = -1
        """The highest counter accepted, −1 before the first."""

        self._seen = 0

    def is_fresh(self, counter: int) -> bool:
        """Say whether `counter` may still be accepted."""
        if counter > self.top:
            return True
        age = self.top - counter
        return age < self._size and not (self._seen >> age) & 1

    def accept(self, counter: int) -> None:
        """Note a counter whose frame has been opened; call only after `is_fresh` and a good tag."""
        jump = counter - self.top
        if jump == 1:  # in order, as nearly all; once a whole window is, it is the same object for all windows
            if self._seen is not self._mask:
                self._seen = ((self._seen << 1) | 1) & self._mask
                if self._seen == self._mask:
                    self._seen = self._mask
            self.top = counter
        elif jump > 0:
            # Shifting by an attacker's jump would allocate that many bits, so a jump past the window starts anew.
            self._seen = 1 if jump >= self._size else ((self._seen << jump) | 1) & self._mask
            self.top = counter
        else:
            self._seen |= 1 << -jump


class _Session:
    """Key, IV and topic of one direction. The cipher, which takes kilobytes, is made when it is first needed."""

    __slots__ = ("_aead", "_bound", "_iv", "_key", "_key_id", "_limit", "_suite", "_topic")

    def __init__(self, suite: Suite, key: bytes, iv: bytes, key_id: int, limit: int = MAX_COUNTER) -> None:
        if len(key) != KEY_BYTES or len(iv) != IV_BYTES or not 0 <= key_id < 2**32:
            raise ValueError("a session needs a 32-byte key, a 12-byte IV and a 32-bit key id")
        self._key = key
        self._aead: AESGCM | ChaCha20Poly1305 | None = None
        self._iv = int.from_bytes(iv, "big")
        self._suite = suite
        self._key_id = key_id
        self._limit = min(limit, MAX_COUNTER)
        self._topic: str | None = None
        self._bound = b""

    def _cipher(self) -> AESGCM | ChaCha20Poly1305:
        aead = self._aead
        if aead is None:
            aead = ChaCha20Poly1305(self._key) if self._suite is Suite.CHACHA20_POLY1305 else AESGCM(self._key)
            self._aead = aead
            self._key = b""
        return aead

    def _bind(self, topic: str) -> bytes:
        """Return what is bound besides the header; a session mostly has one topic, so the last one is kept."""
        if topic != self._topic:
            self._bound = bytes([self._suite]) + topic.encode("utf-8")
        self._topic = topic  # the same object is known again without a look at its letters
        return self._bound


class Sealer(_Session):
    """The sending half of one direction of a session. Never rebuild it with the same key: start a new session.

    `limit` is the highest counter; after it a new session is due.
    """

    __slots__ = ("_counter",)

    def __init__(self, suite: Suite, key: bytes, iv: bytes, key_id: int, limit: int = MAX_COUNTER) -> None:
        super().__init__(suite, key, iv, key_id, limit)
        self._counter = 0

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
        header = _HEADER.pack(VERSION, self._key_id, counter)
        nonce = (self._iv ^ counter).to_bytes(IV_BYTES, "big")
        return header + self._cipher().encrypt(nonce, payload, header + self._bind(topic))


class Opener(_Session):
    """The receiving half of one direction of a session, with its replay window.

    A counter above `limit` is refused as `exhausted`: a new session is due.
    """

    __slots__ = ("_window",)

    def __init__(
        self, suite: Suite, key: bytes, iv: bytes, key_id: int, window: int = 1024, limit: int = MAX_COUNTER
    ) -> None:
        super().__init__(suite, key, iv, key_id, limit)
        self._window = ReplayWindow(window)

    @property
    def used(self) -> bool:
        """Say whether a good frame came."""
        return self._window.top >= 0

    def open(self, frame: bytes, topic: str) -> bytes:
        """Open one frame that came on `topic`; raises `FrameError` and changes nothing where it is not good."""
        if len(frame) < OVERHEAD_BYTES:
            raise FrameError("short")
        version, key_id, counter = _HEADER.unpack_from(frame)
        if version != VERSION:
            raise FrameError("version")
        if key_id != self._key_id:
            raise FrameError("key")
        if counter > self._limit:
            raise FrameError("replay" if counter > MAX_COUNTER else "exhausted")
        window = self._window
        if counter <= window.top and not window.is_fresh(counter):
            raise FrameError("replay")
        nonce = (self._iv ^ counter).to_bytes(IV_BYTES, "big")
        aead = self._aead or self._cipher()
        bound = self._bound if topic is self._topic else self._bind(topic)
        try:
            payload = aead.decrypt(nonce, frame[HEADER_BYTES:], frame[:HEADER_BYTES] + bound)
        except InvalidTag:
            raise FrameError("open") from None
        window.accept(counter)
        return payload
