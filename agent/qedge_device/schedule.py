"""Keys from secrets: HKDF-SHA-256 (RFC 5869) and HMAC-SHA-256 (RFC 2104) of the standard library, nothing else.

`who` is `fields(fleet, node, device)`: it stands in every derivation, so that nothing made for one device or node is
worth anything with another.

    prk    = HKDF-Extract(salt = extra key, or 32 zeros; IKM = secret)
    th     = SHA-256(fields("qedge/v1 device transcript", who, hello, welcome without its MAC))
    mac    = HMAC(HKDF-Expand(prk, fields("qedge/v1 device confirm", th), 32), th), cut to the size of the message's MAC
    key‖iv = HKDF-Expand(prk, fields("qedge/v1 device up" | "… down", th), 32 + size of the IV)
    secret = HKDF-Expand(prk, fields("qedge/v1 device secret", th), 32)

The secret of an enrolment proves every CONNECT of MQTT, the one of a full session proves RESUME.

What goes in as the secret: of a full session both halves after each other, of a resumed one the secret that the last
full one left, of a short one the device's root, which proves CONNECT and JOIN too. The extra key is one of another
source, QKD for instance.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from qedge_device import frame, short
from qedge_device.messages import MAC_BYTES, MAX_CONNECT_COUNTER, TICKET_BYTES, fields

SECRET_BYTES = 32
COUNTER_BYTES = 8
_CONNECT_MAC_BYTES = 24
_CONNECT_VERSION = 1


def who(fleet: str, node: str, device: str) -> bytes:
    """Return the bytes that name a device at its node."""
    return fields(fleet.encode(), node.encode(), device.encode())


def extract(secret: bytes, extra: bytes = b"") -> bytes:
    """HKDF-Extract with the extra key as salt."""
    return hmac.digest(extra or bytes(32), secret, "sha256")


def expand(prk: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand to at most 64 bytes."""
    first = hmac.digest(prk, info + b"\x01", "sha256")
    if size <= len(first):
        return first[:size]
    return (first + hmac.digest(prk, first + info + b"\x02", "sha256"))[:size]


def transcript(name: bytes, hello: bytes, welcome: bytes) -> bytes:
    """Return the digest of what was said; `name` is `who`, `welcome` without its MAC."""
    return hashlib.sha256(fields(b"qedge/v1 device transcript", name, hello, welcome)).digest()


@dataclass(frozen=True)
class DirectionKeys:
    """Key and IV of one direction."""

    key: bytes
    iv: bytes

    def __repr__(self) -> str:
        return "DirectionKeys()"


def direction_keys(prk: bytes, digest: bytes, direction: str, iv_bytes: int) -> DirectionKeys:
    """Return the keys of a direction, `up` or `down`."""
    info = fields(b"qedge/v1 device " + direction.encode(), digest)
    made = expand(prk, info, frame.KEY_BYTES + iv_bytes)
    return DirectionKeys(made[: frame.KEY_BYTES], made[frame.KEY_BYTES :])


def confirmation(prk: bytes, digest: bytes, size: int = MAC_BYTES) -> bytes:
    """Return the MAC by which the node proves that it has the keys."""
    key = expand(prk, fields(b"qedge/v1 device confirm", digest), 32)
    return hmac.digest(key, digest, "sha256")[:size]


def next_secret(prk: bytes, digest: bytes) -> bytes:
    """Return the secret that is kept after a full session or an enrolment."""
    return expand(prk, fields(b"qedge/v1 device secret", digest), SECRET_BYTES)


def ticket_of(secret: bytes) -> bytes:
    """Return the 8 bytes that name a secret of a full session."""
    return hashlib.sha256(fields(b"qedge/v1 device ticket", secret)).digest()[:TICKET_BYTES]


def hello_mac(secret: bytes, name: bytes, body: bytes, size: int) -> bytes:
    """Return the MAC of a RESUME or JOIN."""
    return hmac.digest(secret, fields(b"qedge/v1 device resume", name, body), "sha256")[:size]


def connect_password(secret: bytes, name: bytes, client_id: str, counter: int) -> str:
    """Return the password of an MQTT CONNECT: base64url of version (1), counter (8), MAC (24); 44 characters."""
    counted = bytes([_CONNECT_VERSION]) + counter.to_bytes(COUNTER_BYTES, "big")
    proof = _connect_mac(secret, name, client_id, counted)
    return base64.urlsafe_b64encode(counted + proof).decode("ascii")


def read_connect_password(password: bytes) -> tuple[int, bytes, bytes]:
    """Return counter, what was counted, and MAC of a password; raises `ValueError`."""
    try:
        data = base64.b64decode(password, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("no password of a device") from None
    if len(data) != 1 + COUNTER_BYTES + _CONNECT_MAC_BYTES or data[0] != _CONNECT_VERSION:
        raise ValueError("no password of a device")
    end = 1 + COUNTER_BYTES
    counter = int.from_bytes(data[1:end], "big")
    if counter > MAX_CONNECT_COUNTER:
        raise ValueError("no password of a device: its counter is too high")
    return counter, data[:end], data[end:]


def check_connect(secret: bytes, name: bytes, client_id: str, counted: bytes, proof: bytes) -> bool:
    """Say whether the MAC of a password is good, in constant time."""
    return hmac.compare_digest(_connect_mac(secret, name, client_id, counted), proof)


def _connect_mac(secret: bytes, name: bytes, client_id: str, counted: bytes) -> bytes:
    data = fields(b"qedge/v1 device connect", name, client_id.encode(), counted)
    return hmac.digest(secret, data, "sha256")[:_CONNECT_MAC_BYTES]


def rich_up(prk: bytes, digest: bytes) -> DirectionKeys:
    """Return the keys from a rich device to the node."""
    return direction_keys(prk, digest, "up", frame.IV_BYTES)


def rich_down(prk: bytes, digest: bytes) -> DirectionKeys:
    """Return the keys from the node to a rich device."""
    return direction_keys(prk, digest, "down", frame.IV_BYTES)


def short_up(prk: bytes, digest: bytes) -> DirectionKeys:
    """Return the keys from a constrained device to the node."""
    return direction_keys(prk, digest, "up", short.IV_BYTES)


def short_down(prk: bytes, digest: bytes) -> DirectionKeys:
    """Return the keys from the node to a constrained device."""
    return direction_keys(prk, digest, "down", short.IV_BYTES)
