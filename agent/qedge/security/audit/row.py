"""Rows of the audit log as bytes, and the hash that chains them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.log import scrub
from qedge.crypto.keys import PublicKey, SigningKey
from qedge.security.model import Action, Decision, Resource, Subject
from qedge.security.words import plain
from qedge.wire.audit import AskedResource, AskedSubject, AuditRow, AuditTrail, Checkpoint, DeniedRequest

START: Final = "0" * 64
"""`previous` of the very first row of a trail."""

MAX_ROW_BYTES: Final = 64 * 1024
MAX_TEXT: Final = 120
CHECKPOINT_PURPOSE: Final = "audit-checkpoint"
_DOMAIN: Final = b"qedge/v1/audit\0"
_MOST: Final = 16
_TAIL: Final = b',"hash":"'
_TAIL_BYTES: Final = len(_TAIL) + 64 + len(b'"}')
_ROW: Final = msgspec.json.Decoder(AuditRow)


def seal(row: AuditRow) -> tuple[bytes, str]:
    """Write a row, whose `hash` is empty, as a line; returns the line and its hash."""
    body = msgspec.json.encode(row)
    digest = _hash(body)
    return body[:-1] + _TAIL + digest.encode() + b'"}\n', digest


def open_line(line: bytes) -> AuditRow:
    """Read a line without its line feed; raises `ValueError` where it is no row, or was altered."""
    if not _TAIL_BYTES < len(line) <= MAX_ROW_BYTES or line[-_TAIL_BYTES : -_TAIL_BYTES + len(_TAIL)] != _TAIL:
        raise ValueError("is no row")
    try:
        row = _ROW.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"cannot be read ({error})") from error
    if row.hash != _hash(line[:-_TAIL_BYTES] + b"}"):
        raise ValueError("was altered: its hash is another")
    return row


def _hash(body: bytes) -> str:
    return hashlib.sha256(_DOMAIN + body).hexdigest()


def make_checkpoint(trail: AuditTrail, sequence: int, digest: str, utc_ns: int, key: SigningKey) -> Checkpoint:
    """Vouch for a trail up to a row."""
    signature = key.sign(_vouched(trail, sequence, digest, utc_ns), CHECKPOINT_PURPOSE)
    return Checkpoint(trail, sequence, digest, utc_ns, key.key_id, key.public_key.der, signature)


def check_signature(checkpoint: Checkpoint) -> None:
    """Raise `ValueError` where a checkpoint was not signed by the key that it names."""
    try:
        key = PublicKey.from_der(checkpoint.public_key)
        if key.key_id != checkpoint.key_id:
            raise ValueError("names a key id that is not that of its key")
        vouched = _vouched(checkpoint.trail, checkpoint.sequence, checkpoint.hash, checkpoint.utc_ns)
        key.verify(checkpoint.signature, vouched, CHECKPOINT_PURPOSE)
    except QedgeError as error:
        raise ValueError("is not signed by the key it names") from error


def _vouched(trail: AuditTrail, sequence: int, digest: str, utc_ns: int) -> bytes:
    return msgspec.msgpack.encode((trail.value, sequence, digest, utc_ns))


def asked(subject: Subject) -> AskedSubject:
    """Keep a subject as it is now; values that sound secret are scrubbed."""
    attributes = dict(list(subject.attributes.items())[:_MOST])
    return AskedSubject(
        id=text(subject.id),
        kind=subject.kind.value,
        device_class=text(subject.device_class),
        groups=tuple(map(text, sorted(subject.groups)[:_MOST])),
        attributes={text(key): text(str(value)) for key, value in scrub(attributes).items()},
        segment=text(subject.segment),
        location=text(subject.location),
        posture=tuple(map(text, sorted(subject.posture)[:_MOST])),
        trust=subject.trust,
        quarantined=subject.quarantined,
        revoked=subject.revoked,
        safety=subject.safety,
        qkd_backed=subject.qkd_backed,
        lease_until_ns=subject.lease_until_ns,
    )


def denied(
    subject: AskedSubject | None, action: Action, resource: Resource, decision: Decision, now_ns: int, utc_ns: int
) -> DeniedRequest:
    """Keep a request that was denied, as it was."""
    wanted = AskedResource(resource.kind.value, text(resource.name), text(resource.segment), text(resource.owner))
    reason, rule = decision.reason.value, text(decision.rule)
    return DeniedRequest(utc_ns, now_ns, action.value, wanted, decision.allowed, reason, rule, subject)


def facts_of(fields: Mapping[str, object]) -> dict[str, str | int | float | bool]:
    """Keep small facts; values that sound secret are scrubbed, bytes never written."""
    kept = {}
    for key, value in list(scrub(fields).items())[:_MOST]:
        kept[text(key)] = value if isinstance(value, (bool, int, float)) else text(str(value))
    return kept


def text(value: str) -> str:
    """Make a text one that a row holds."""
    return plain(value, MAX_TEXT)
