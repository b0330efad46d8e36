"""Keys of a sealed session between two nodes, from the secret that their TLS handshake exported.

    root(0)      = HKDF-Extract(salt = extra key, or zeros; IKM = exported secret)    RFC 5869; the idea of RFC 8784
    root(e+1)    = HKDF-Expand(root(e), "qedge/v1 next" ‖ context)                    forward secrecy within a session
    key, iv, id  = HKDF-Expand(root(e), "qedge/v1 key" | "… iv" | "… id" ‖ context ‖ e ‖ direction)

The context holds suite, session, channel, whether an extra key was mixed in and which one, each with its length before
it: two sides that differ in any of them have different keys, so nothing of it can be taken away unseen. An extra key
only salts the secret of the handshake; it is never used alone. Frames are those of `qedge_device.frame`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from qedge_device.frame import IV_BYTES, KEY_BYTES, FrameError, Opener, Sealer, Suite, parse_header

WINDOW: Final = 1024
MAX_FRAMES: Final = 2**32
"""Frames of one direction before its keys are replaced."""

MAX_AGE_NS: Final = 3_600 * 1_000_000_000
_ID_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class ExtraKey:
    """A secret of another source, QKD for instance, known to both sides under `id`. Used once."""

    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"ExtraKey({self.id!r})"


@dataclass(frozen=True, slots=True)
class Secret:
    """What a finished handshake leaves: from it alone come all keys of the session."""

    suite: int
    session: bytes
    exported: bytes
    is_client: bool
    extra: ExtraKey | None = None

    def __repr__(self) -> str:
        return f"Secret(suite={self.suite}, is_client={self.is_client})"


class _Schedule:
    """The keys of one direction of one channel, epoch by epoch."""

    def __init__(self, secret: Secret, channel: str, *, from_client: bool) -> None:
        self._suite = Suite(secret.suite)
        self._hash = hashes.SHA384() if self._suite is Suite.AES_256_GCM_CATEGORY_5 else hashes.SHA256()
        self._direction = b"client to server" if from_client else b"server to client"
        extra = secret.extra
        self._context = _fields(
            bytes([secret.suite]),
            secret.session,
            channel.encode(),
            b"extra" if extra is not None else b"none",
            extra.id.encode() if extra is not None else b"",
        )
        salt = extra.secret if extra is not None else bytes(self._hash.digest_size)
        self._root = HKDF.extract(self._hash, salt, secret.exported)
        self._epoch = 0

    def advance(self) -> None:
        """Go to the next epoch and forget this one's root."""
        self._root = self._expand(b"qedge/v1 next", self._hash.digest_size)
        self._epoch += 1

    def sealer(self) -> Sealer:
        return Sealer(self._suite, *self._keys())

    def opener(self) -> tuple[int, Opener]:
        key, iv, key_id = self._keys()
        return key_id, Opener(self._suite, key, iv, key_id, WINDOW)

    def _keys(self) -> tuple[bytes, bytes, int]:
        key_id = int.from_bytes(self._expand(b"qedge/v1 id", _ID_BYTES), "big")
        return self._expand(b"qedge/v1 key", KEY_BYTES), self._expand(b"qedge/v1 iv", IV_BYTES), key_id

    def _expand(self, label: bytes, size: int) -> bytes:
        info = _fields(label, self._context, self._epoch.to_bytes(8, "big"), self._direction)
        return HKDFExpand(self._hash, size, info).derive(self._root)


def export_secret(secret: Secret, label: str, size: int) -> bytes:
    """Return a secret for another purpose than frames, the same at both sides: HKDF of the session's secret.

    `label` names the purpose. Nothing can be found out from it about the keys of frames, nor the other way round.
    """
    salt = secret.extra.secret if secret.extra is not None else bytes(32)
    extra_id = secret.extra.id.encode() if secret.extra is not None else b""
    info = _fields(b"qedge/v1 export", bytes([secret.suite]), secret.session, label.encode(), extra_id)
    return HKDF(hashes.SHA256(), size, salt, info).derive(secret.exported)


class SessionKeys:
    """Seals and opens the frames of one channel (`mqtt` or `direct`) of a session.

    Each direction renews its keys by itself: a sender goes to the next epoch after `max_frames` frames or an hour, the
    receiver follows when it sees the first frame of it, and takes late ones of the epoch before.
    """

    def __init__(self, secret: Secret, channel: str, now_ns: int, *, max_frames: int = MAX_FRAMES) -> None:
        self.suite = secret.suite
        self._max_frames = max_frames
        self._out = _Schedule(secret, channel, from_client=secret.is_client)
        self._sealer = self._out.sealer()
        self._sealed = 0
        self._since_ns = now_ns
        self._in = _Schedule(secret, channel, from_client=not secret.is_client)
        self._openers: list[tuple[int, Opener]] = [self._in.opener()]
        self._current = 0  # place of the newest epoch from which a frame came, within the openers
        self._in.advance()
        self._openers.append(self._in.opener())

    @property
    def key_ids(self) -> tuple[int, ...]:
        """Return the ids under which frames for this side may come now; they change when keys are renewed."""
        return tuple(key_id for key_id, _ in self._openers)

    def seal(self, payload: bytes, topic: str, now_ns: int) -> bytes:
        """Seal one message that goes out on `topic`."""
        if self._sealed >= self._max_frames or now_ns - self._since_ns > MAX_AGE_NS:
            self._out.advance()
            self._sealer = self._out.sealer()
            self._sealed, self._since_ns = 0, now_ns
        self._sealed += 1
        return self._sealer.seal(payload, topic)

    def open(self, frame: bytes, topic: str) -> bytes:
        """Open a frame that came on `topic`; raises `FrameError`, and changes nothing then."""
        key_id = parse_header(frame).key_id
        for place, (known, opener) in enumerate(self._openers):
            if known == key_id:
                payload = opener.open(frame, topic)
                if place > self._current:
                    self._follow(place)
                return payload
        raise FrameError("key")

    def _follow(self, place: int) -> None:
        """The sender went on: keep one epoch for late frames, and be ready for the next."""
        self._in.advance()
        self._openers = [*self._openers[place - 1 :], self._in.opener()]
        self._current = 1


def _fields(*parts: bytes) -> bytes:
    """Join byte strings so that no two lists give the same result."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)
