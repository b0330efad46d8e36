"""Sessions without public keys: RESUME of a rich device, JOIN of a constrained one. Pure; tens of microseconds."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from qedge.base.errors import QedgeError
from qedge.devices.model import DeviceSession, DeviceTier
from qedge.devices.sessions.places import Place
from qedge.security.model import Subject
from qedge_device import schedule
from qedge_device.constrained import MAX_MESSAGES as MAX_SHORT_MESSAGES
from qedge_device.frame import Opener, Sealer, Suite
from qedge_device.messages import JOIN_MAC_BYTES, JOIN_NONCE_BYTES, MAC_BYTES, Join, Joined, Resume, Resumed
from qedge_device.rich import MAX_MESSAGES
from qedge_device.short import WINDOW, ShortOpener, ShortSealer


@dataclass(frozen=True, slots=True)
class Opening:
    """A session and the message that tells the device of it."""

    session: DeviceSession
    message: bytes


def rich_session(
    place: Place,
    subject: Subject,
    suite: int,
    prk: bytes,
    digest: bytes,
    key_id: int,
    now_ns: int,
    lifetime_s: int,
) -> DeviceSession:
    """Make the node's end of a session of a rich device."""
    up, down = schedule.rich_up(prk, digest), schedule.rich_down(prk, digest)
    return DeviceSession(
        subject,
        DeviceTier.RICH,
        key_id,
        Opener(Suite(suite), up.key, up.iv, key_id, WINDOW, MAX_MESSAGES),
        Sealer(Suite(suite), down.key, down.iv, key_id),
        place.up(subject.id),
        place.down(subject.id),
        now_ns,
        now_ns + lifetime_s * 1_000_000_000,
    )


def check_resume(place: Place, device_id: str, resumption: bytes, resume: Resume) -> None:
    """Raise `device.refused` where a RESUME was not made with the secret of the last full session."""
    expected = schedule.hello_mac(resumption, place.who(device_id), resume.body(), MAC_BYTES)
    if not hmac.compare_digest(expected, resume.mac):
        raise QedgeError("device.refused", f"{device_id} does not prove its last session.")


def resume_session(
    place: Place,
    subject: Subject,
    resumption: bytes,
    extra: bytes,
    resume: Resume,
    key_id: int,
    nonce: bytes,
    now_ns: int,
    lifetime_s: int,
) -> Opening:
    """Answer a RESUME that was checked; `nonce` are 32 random bytes."""
    bare = Resumed(key_id, lifetime_s, place.boot, nonce)
    prk = schedule.extract(resumption, extra)
    digest = schedule.transcript(place.who(subject.id), resume.pack(), bare.body())
    session = rich_session(place, subject, resume.suite, prk, digest, key_id, now_ns, lifetime_s)
    return Opening(session, bare.body() + schedule.confirmation(prk, digest))


def check_join(place: Place, device_id: str, root: bytes, join: Join) -> None:
    """Raise `device.refused` where a JOIN was not made with the device's root."""
    expected = schedule.hello_mac(root, place.who(device_id), join.body(), JOIN_MAC_BYTES)
    if not hmac.compare_digest(expected, join.mac):
        raise QedgeError("device.refused", f"{device_id} does not prove its root.")


def join_session(
    place: Place, subject: Subject, root: bytes, join: Join, epoch: int, drawn: bytes, now_ns: int, lifetime_s: int
) -> Opening:
    """Answer a JOIN that was checked; `drawn` are 8 random bytes."""
    bare = Joined(epoch, place.boot[:JOIN_NONCE_BYTES] + drawn)
    prk = schedule.extract(root)
    digest = schedule.transcript(place.who(subject.id), join.pack(), bare.body())
    up, down = schedule.short_up(prk, digest), schedule.short_down(prk, digest)
    session = DeviceSession(
        subject,
        DeviceTier.CONSTRAINED,
        epoch,
        ShortOpener(up.key, up.iv, epoch, WINDOW, MAX_SHORT_MESSAGES),
        ShortSealer(down.key, down.iv, epoch, MAX_SHORT_MESSAGES),
        place.up(subject.id),
        place.down(subject.id),
        now_ns,
        now_ns + lifetime_s * 1_000_000_000,
    )
    return Opening(session, bare.body() + schedule.confirmation(prk, digest, JOIN_MAC_BYTES))
