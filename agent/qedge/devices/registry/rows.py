"""Devices and invitations in the database: functions that the store calls with its connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from qedge.devices.model import DeviceState, DeviceTier
from qedge.devices.registry.model import DeviceRecord, InvitationRecord, Sharing, new_subject, root_id
from qedge.wire.gateway import DeviceProfile

_COLUMNS: Final = (
    "id, tier, state, device_class, groups, attributes, segment, location, posture, safety, parameter, key_id, secret,"
    " resumption, resume_until_utc_ns, certified_until_utc_ns, counter, extra_id, extra, from_keys, reason,"
    " changed_utc_ns"
)
_NAMES: Final = tuple(name.strip() for name in _COLUMNS.split(","))
_UPSERT: Final = (
    f"INSERT INTO devices ({_COLUMNS}, created_utc_ns) VALUES ({', '.join('?' * (len(_NAMES) + 1))})"  # noqa: S608 - constant names
    f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _NAMES[1:])}"
)
_PROFILE: Final = msgspec.json.Decoder(DeviceProfile)

DeviceRow = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class KeptKeys:
    """What of a device is only in the database: its raw public key and its certificate (DER), empty where none."""

    public_key: bytes = b""
    certificate: bytes = b""


@dataclass(frozen=True, slots=True)
class KeptTimes:
    """When a device was added and last changed, and the digest of its claim code."""

    created_utc_ns: int
    changed_utc_ns: int
    claim: bytes


def row_of(record: DeviceRecord, utc_ns: int) -> DeviceRow:
    """Write a record as a row."""
    subject = record.subject
    return (
        subject.id,
        record.tier.value,
        record.state.value,
        subject.device_class,
        _names(subject.groups),
        json.dumps(dict(subject.attributes)) if subject.attributes else "{}",
        subject.segment,
        subject.location,
        _names(subject.posture),
        int(subject.safety),
        record.parameter,
        record.key_id,
        record.secret,
        record.resumption,
        record.resume_until_utc_ns,
        record.certified_until_utc_ns,
        record.counter,
        record.extra_id,
        record.extra,
        int(record.from_keys),
        record.reason,
        utc_ns,
        utc_ns,
    )


@lru_cache(1024)
def _names(names: frozenset[str]) -> str:
    """Write a set of names; ten thousand devices have a handful of sets between them."""
    return json.dumps(sorted(names))


def write_devices(connection: sqlite3.Connection, rows: Iterable[DeviceRow]) -> None:
    """Write rows; public keys, certificates and claims of devices that are there stay."""
    connection.executemany(_UPSERT, rows)


def write_keys(connection: sqlite3.Connection, device_id: str, keys: KeptKeys) -> None:
    """Write public key and certificate; an empty one stays as it is."""
    connection.execute(
        "INSERT INTO device_keys (id, public_key, certificate) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " public_key = iif(length(excluded.public_key), excluded.public_key, public_key),"
        " certificate = iif(length(excluded.certificate), excluded.certificate, certificate)",
        (device_id, keys.public_key, keys.certificate),
    )


def remove_device(connection: sqlite3.Connection, device_id: str) -> None:
    """Forget a device that was never let in."""
    connection.execute("DELETE FROM device_keys WHERE id = ?", (device_id,))
    connection.execute("DELETE FROM devices WHERE id = ?", (device_id,))


def write_claim(connection: sqlite3.Connection, device_id: str, claim: bytes) -> None:
    """Write the digest of a claim code, empty once it was claimed."""
    connection.execute("UPDATE devices SET claim = ? WHERE id = ?", (claim, device_id))


def read_keys(connection: sqlite3.Connection, device_id: str) -> KeptKeys:
    """Read public key and certificate of a device."""
    row = connection.execute("SELECT public_key, certificate FROM device_keys WHERE id = ?", (device_id,)).fetchone()
    return KeptKeys(row[0], row[1]) if row is not None else KeptKeys()


def read_times(connection: sqlite3.Connection, device_ids: Iterable[str]) -> dict[str, KeptTimes]:
    """Read when devices were added and changed."""
    query = "SELECT created_utc_ns, changed_utc_ns, claim FROM devices WHERE id = ?"
    found = {}
    for device_id in device_ids:
        row = connection.execute(query, (device_id,)).fetchone()
        if row is not None:
            found[device_id] = KeptTimes(row[0], row[1], row[2])
    return found


def load_devices(connection: sqlite3.Connection, sharing: Sharing) -> dict[str, DeviceRecord]:
    """Read all devices, without what is large."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM devices")  # noqa: S608 - constant names
    return {row[0]: _record(row, sharing) for row in rows}


def _record(row: tuple[object, ...], sharing: Sharing) -> DeviceRecord:
    (
        device_id,
        tier,
        state,
        device_class,
        groups,
        attributes,
        segment,
        location,
        posture,
        safety,
        parameter,
        key_id,
        secret,
        resumption,
        resume_until_utc_ns,
        certified_until_utc_ns,
        counter,
        extra_id,
        extra,
        from_keys,
        reason,
        _changed,
    ) = row
    subject = new_subject(str(device_id))
    profile = DeviceProfile(
        str(device_class),
        str(segment),
        str(location),
        tuple(json.loads(str(groups))),
        json.loads(str(attributes)),
        tuple(json.loads(str(posture))),
        bool(safety),
    )
    sharing.apply(subject, profile)
    subject.quarantined = state == DeviceState.QUARANTINED
    subject.revoked = state == DeviceState.REVOKED
    key = _bytes(key_id)
    if tier == DeviceTier.CONSTRAINED and not key and secret:
        key = root_id(_bytes(secret))  # of a device that came before roots had ids
    return DeviceRecord(
        subject,
        DeviceTier(str(tier)),
        DeviceState(str(state)),
        _number(parameter),
        key,
        _bytes(secret),
        _bytes(resumption),
        _number(resume_until_utc_ns),
        _number(certified_until_utc_ns),
        _number(counter),
        0,
        str(extra_id),
        _bytes(extra),
        bool(from_keys),
        str(reason),
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def load_invitations(connection: sqlite3.Connection) -> dict[str, InvitationRecord]:
    """Read all invitations."""
    rows = connection.execute(
        "SELECT id, token, device, approval, uses, expires_utc_ns, profile FROM device_invitations"
    )
    return {
        row[0]: InvitationRecord(row[0], row[1], row[2], bool(row[3]), row[4], row[5], _PROFILE.decode(row[6]))
        for row in rows
    }


def write_invitations(connection: sqlite3.Connection, invitations: Iterable[InvitationRecord]) -> None:
    """Write invitations."""
    connection.executemany(
        "INSERT OR REPLACE INTO device_invitations"
        " (id, token, device, approval, uses, expires_utc_ns, profile) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                each.id,
                each.token,
                each.device,
                int(each.approval),
                each.uses,
                each.expires_utc_ns,
                msgspec.json.encode(each.profile),
            )
            for each in invitations
        ],
    )


def remove_invitations(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Forget invitations."""
    connection.executemany("DELETE FROM device_invitations WHERE id = ?", [(each,) for each in ids])
