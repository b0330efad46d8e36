"""The secrets of one segment: epochs with numbers that are never used twice. Pure.

A generation begins with 32 random bytes; from them come the secrets of each channel, which step from epoch to epoch
as `qedge_device.group` says. Numbers up to `reserved` are on the disk as taken before any of them is used, so a number
does not come back after a crash; secrets are never written down.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from qedge.base.ids import RandomBytes
from qedge_device.frame import Sealer
from qedge_device.group import GROUP_SUITE, MAX_EPOCH, MAX_STEPS, SECRET_BYTES, epoch_keys, next_secret

RESERVE: Final = 4096
"""Numbers that are written down as taken at a time."""

MAX_FRAMES: Final = 2**32
"""Frames of one channel in one epoch."""


class Generation:
    """Secrets that follow from one random secret; `first` is the number of its first epoch."""

    __slots__ = ("_base", "_root", "_steps", "first", "opened_ns")

    def __init__(self, base: str, first: int, root: bytes, opened_ns: int) -> None:
        self._base = base
        self._root = root
        self.first = first
        self.opened_ns = opened_ns
        self._steps: dict[str, tuple[int, bytes]] = {}

    def secret(self, channel: str, epoch: int) -> bytes:
        """Return the secret of a channel for an epoch of this generation."""
        topic = f"{self._base}/{channel}"
        at, secret = self._steps.get(channel, (MAX_EPOCH + 1, b""))
        if at > epoch:
            at, secret = self.first, self._first_secret(topic)
        for _ in range(epoch - at):
            secret = next_secret(secret, topic)
        self._steps[channel] = (epoch, secret)
        return secret

    def _first_secret(self, topic: str) -> bytes:
        label = b"qedge/v1 segment channel"
        info = b"".join(len(part).to_bytes(2, "big") + part for part in (label, topic.encode()))
        return HKDFExpand(SHA256(), SECRET_BYTES, info).derive(self._root)


class EpochLine:
    """The epochs of one segment in their order. `current` is −1 until the first one begins."""

    def __init__(self, base: str, start: int, random_bytes: RandomBytes) -> None:
        self._base = base
        self._random_bytes = random_bytes
        self._next = start
        self._sealers: dict[str, Sealer] = {}
        self._frames: dict[str, int] = {}
        self.reserved = start
        self.current = -1
        self.generation: Generation | None = None
        self.stalled = True
        """No epoch is open: nothing may be sealed."""

    @property
    def used(self) -> bool:
        """Whether anything was sealed in the current epoch."""
        return bool(self._sealers)

    @property
    def wanted_reserve(self) -> int:
        """Return up to which number the next reservation has to go; 0: there are enough."""
        return min(self._next + RESERVE, MAX_EPOCH + 1) if self.reserved - self._next < RESERVE // 2 else 0

    def restart(self, start: int) -> None:
        """Go on after what an earlier run has taken; before the first epoch only."""
        self._next = self.reserved = max(start, self._next)

    def extend(self, reserved: int) -> None:
        """Hear that numbers below `reserved` are written down as taken."""
        self.reserved = max(self.reserved, reserved)

    def renew(self, now_ns: int) -> bool:
        """Begin a generation; where no number is left for it, nothing can be sealed until there is. Says whether."""
        if self._next >= min(self.reserved, MAX_EPOCH + 1):
            self.stalled = True
            self._sealers.clear()
            return False
        self.generation = Generation(self._base, self._next, self._random_bytes(SECRET_BYTES), now_ns)
        self._begin()
        return True

    def step(self, now_ns: int) -> bool:
        """Go to the next epoch of the generation, or to a new generation after 64; says whether it is a new one."""
        generation = self.generation
        if generation is None or self.stalled or self._next - generation.first >= MAX_STEPS:
            return self.renew(now_ns)
        if self._next >= self.reserved:
            self.stalled = True
            self._sealers.clear()
            return False
        self._begin()
        return False

    def seal(self, channel: str, payload: bytes) -> bytes | None:
        """Seal for the members that read a channel; None where no epoch is open."""
        generation = self.generation
        if self.stalled or generation is None:
            return None
        topic = f"{self._base}/{channel}"
        sealer = self._sealers.get(channel)
        if sealer is None:
            key, iv = epoch_keys(generation.secret(channel, self.current), topic, self.current)
            sealer = self._sealers[channel] = Sealer(GROUP_SUITE, key, iv, self.current)
        self._frames[channel] = frames = self._frames.get(channel, 0) + 1
        if frames >= MAX_FRAMES:
            self.stalled = True  # whoever tends the segment begins another generation
        return sealer.seal(payload, topic)

    def _begin(self) -> None:
        self.current = self._next
        self._next += 1
        self._sealers.clear()
        self._frames.clear()
        self.stalled = False
