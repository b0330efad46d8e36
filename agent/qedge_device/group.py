"""Group keys of segments: the node seals a reading once, and all members of the segment can open it.

A segment's keys change with its epochs, which are numbered and never used twice. Every topic of a segment (one for
each channel) has secrets of its own:

    secret(n + 1)  = HKDF-Expand(secret(n), "qedge/v1 segment next" ‖ topic, 32)             within a generation
    key ‖ iv (n)   = HKDF-Expand(secret(n), "qedge/v1 segment key" ‖ topic ‖ n, 32 + 12)     RFC 5869, with SHA-256

each field after its length in two bytes. A new generation begins with a new random secret, which the node hands to
every member inside that member's own session. So whoever joins gets the secret of the next epoch and cannot go back
to the one before, and whoever has left does not get the next generation. Frames are those of `qedge_device.frame`
with the number of the epoch as key id.
"""

from __future__ import annotations

import contextlib
import struct
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from qedge_device.frame import IV_BYTES, KEY_BYTES, FrameError, Opener, Suite, parse_header

GROUP_SUITE = Suite.AES_256_GCM
SECRET_BYTES = 32
MAX_EPOCH = 2**32 - 1
MAX_STEPS = 64
"""Epochs of one generation: what a forged frame costs its reader at most, in derivations."""

KEPT_EPOCHS = 4
KEPT_GENERATIONS = 3
MAX_WAITING = 256
_EPOCH = struct.Struct(">I")


class GroupError(Exception):
    """A frame of a segment has no effect, or not yet.

    `reason`: `ahead` (of an epoch whose key has not come: ask for it), `old` (of an epoch before this member joined, or
    forgotten since), `channel` (no key for this channel), or that of a `FrameError`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("frame of a segment refused: " + reason)
        self.reason = reason


@dataclass(frozen=True)
class GroupKey:
    """What the node hands to a member: secrets of channels of a segment, from epoch `epoch` on.

    Empty `secrets`: the member is no member any more, or was refused.
    """

    segment: str
    epoch: int
    secrets: dict[str, bytes] = field(repr=False)


def next_secret(secret: bytes, topic: str) -> bytes:
    """Return the secret of the epoch after that of `secret`."""
    return _expand(secret, b"qedge/v1 segment next", SECRET_BYTES, topic.encode())


def epoch_keys(secret: bytes, topic: str, epoch: int) -> tuple[bytes, bytes]:
    """Return key and IV of an epoch."""
    both = _expand(secret, b"qedge/v1 segment key", KEY_BYTES + IV_BYTES, topic.encode(), _EPOCH.pack(epoch))
    return both[:KEY_BYTES], both[KEY_BYTES:]


def _expand(secret: bytes, label: bytes, size: int, *fields: bytes) -> bytes:
    info = b"".join(len(part).to_bytes(2, "big") + part for part in (label, *fields))
    return HKDFExpand(SHA256(), size, info).derive(secret)


def pack_group_key(key: GroupKey) -> bytes:
    """Write a key: `length (1) ‖ segment ‖ epoch (4)`, then for each channel `length (1) ‖ channel ‖ secret (32)`."""
    parts = [_short(key.segment), _EPOCH.pack(key.epoch)]
    for channel, secret in key.secrets.items():
        parts += [_short(channel), secret]
    return b"".join(parts)


def unpack_group_key(data: bytes) -> GroupKey:
    """Read what `pack_group_key` wrote; raises `ValueError`."""
    segment, place = _take_short(data, 0)
    if len(data) < place + _EPOCH.size:
        raise ValueError("a group key is cut off")
    epoch = int(_EPOCH.unpack_from(data, place)[0])
    place += _EPOCH.size
    secrets: dict[str, bytes] = {}
    while place < len(data):
        channel, place = _take_short(data, place)
        secret = data[place : place + SECRET_BYTES]
        if len(secret) != SECRET_BYTES or channel in secrets:
            raise ValueError("a group key is cut off, or names a channel twice")
        secrets[channel] = secret
        place += SECRET_BYTES
    return GroupKey(segment, epoch, secrets)


def _short(name: str) -> bytes:
    data = name.encode("ascii")
    return bytes([len(data)]) + data


def _take_short(data: bytes, place: int) -> tuple[str, int]:
    if place >= len(data) or not 1 <= data[place] <= 36 or len(data) < place + 1 + data[place]:
        raise ValueError("a name is missing or cut off")
    end = place + 1 + data[place]
    return data[place + 1 : end].decode("ascii"), end


class _Generation:
    """Secrets of one generation from the epoch on that was handed over; `following` is the next one not derived yet."""

    def __init__(self, first: int, secret: bytes) -> None:
        self.first = first
        self.following = first
        self.secret = secret
        self.openers: OrderedDict[int, Opener] = OrderedDict()


class GroupOpener:
    """Opens the frames of one topic of a segment. Secrets of epochs that are over are forgotten."""

    def __init__(self, topic: str, window: int = 1024) -> None:
        self._topic = topic
        self._window = window
        self._generations: list[_Generation] = []

    def take(self, epoch: int, secret: bytes) -> None:
        """Take the secret that opens frames from `epoch` on; one that came before changes nothing."""
        if len(secret) != SECRET_BYTES or not 0 <= epoch <= MAX_EPOCH:
            raise ValueError("a secret of a group has 32 bytes, its epoch 32 bits")
        # an epoch that has opened a frame here is known, whichever secret led to it; anew it would forget its window
        if any(known.first == epoch or known.first < epoch < known.following for known in self._generations):
            return
        self._generations.append(_Generation(epoch, secret))
        self._generations.sort(key=lambda each: each.first)
        del self._generations[:-KEPT_GENERATIONS]

    def open(self, frame: bytes) -> bytes:
        """Open a frame; raises `GroupError` and changes nothing where it is not good."""
        try:
            epoch = parse_header(frame).key_id
            place = next(
                (i for i in reversed(range(len(self._generations))) if self._generations[i].first <= epoch), -1
            )
            if place < 0:
                raise GroupError("old" if self._generations else "ahead")
            generation = self._generations[place]
            if epoch < generation.following:
                known = generation.openers.get(epoch)
                if known is None:
                    raise GroupError("old")
                return known.open(frame, self._topic)
            return self._step(generation, epoch, frame, is_newest=place == len(self._generations) - 1)
        except FrameError as error:
            raise GroupError(error.reason) from None

    def _step(self, generation: _Generation, epoch: int, frame: bytes, *, is_newest: bool) -> bytes:
        """Go on to a later epoch of a generation, once a frame shows that it has begun."""
        if epoch - generation.following >= MAX_STEPS:
            raise GroupError("ahead" if is_newest else "open")
        fresh: dict[int, Opener] = {}
        secret = generation.secret
        for each in range(generation.following, epoch + 1):
            if each > epoch - KEPT_EPOCHS:
                key, iv = epoch_keys(secret, self._topic, each)
                fresh[each] = Opener(GROUP_SUITE, key, iv, each, self._window)
            secret = next_secret(secret, self._topic)
        try:
            payload = fresh[epoch].open(frame, self._topic)
        except FrameError as error:
            # what does not open may be of a generation whose secret is still on its way, also of one between two others
            if error.reason == "open" and epoch > generation.first:
                raise GroupError("ahead") from None
            raise
        generation.secret, generation.following = secret, epoch + 1
        generation.openers.update(fresh)
        while len(generation.openers) > KEPT_EPOCHS:
            generation.openers.popitem(last=False)
        return payload


class GroupReader:
    """Opens all channels of a segment, and keeps frames that come before their key.

    `base` is the topic of the segment without its channel: `qedge/v1/{fleet}/{node}/seg/{segment}`.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        self._openers: dict[str, GroupOpener] = {}
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=MAX_WAITING)
        self._newest = -1

    def take(self, key: GroupKey) -> list[tuple[str, bytes]]:
        """Take a key; returns channel and payload of all frames that waited for it, in the order they came.

        The channels of the newest key are those that may be read. One of an earlier epoch may come after it.
        """
        if key.epoch >= self._newest:
            self._newest = key.epoch
            for channel in [each for each in self._openers if each not in key.secrets]:
                del self._openers[channel]
        for channel, secret in key.secrets.items():
            opener = self._openers.get(channel)
            if opener is None:
                opener = self._openers[channel] = GroupOpener(f"{self._base}/{channel}")
            opener.take(key.epoch, secret)
        waited, opened = list(self._waiting), []
        self._waiting.clear()
        for channel, frame in waited:
            with contextlib.suppress(GroupError):  # it was put aside again, or it is none
                opened.append((channel, self.open(channel, frame)))
        return opened

    def open(self, channel: str, frame: bytes) -> bytes:
        """Open a frame; raises `GroupError`. One that is `ahead` is kept until `take`; the oldest give way."""
        opener = self._openers.get(channel)
        try:
            if opener is None:
                raise GroupError("channel" if self._openers else "ahead")
            return opener.open(frame)
        except GroupError as error:
            if error.reason == "ahead":
                self._waiting.append((channel, frame))
            raise
