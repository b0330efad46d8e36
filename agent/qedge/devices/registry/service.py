"""The registry: every device in memory, and what changed of it in the database soon after.

Memory is the truth while the node runs: a quarantine counts in the instant in which it is decided. What must not be
lost (a new device, an enrolment, a revocation) is on the disk before anybody is told; counters and the secrets of
sessions follow within `FLUSH_S`, and a crash in between costs a device one full handshake, no more.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.devices.config import SessionsConfig
from qedge.devices.model import DEVICE_STATES, GUEST_MARK, DeviceEvent, DeviceState, DeviceTier
from qedge.devices.registry import rows
from qedge.devices.registry.model import DeviceRecord, InvitationRecord, Sharing, new_subject, root_id
from qedge.devices.registry.rows import KeptKeys, KeptTimes
from qedge.security.model import Subject
from qedge.store.store import Store
from qedge.wire.gateway import DeviceProfile

FLUSH_S: Final = 1.0
_CHUNK: Final = 100
"""Rows written in one transaction; to make them takes the loop a millisecond or two."""

_LOG: Final = get_logger("devices")


class DeviceRegistry:
    """Devices and invitations by name. All methods that do not wait take effect at once."""

    def __init__(self, config: SessionsConfig, *, store: Store, clock: Clock, metrics: Metrics) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._sharing = Sharing()
        self._devices: dict[str, DeviceRecord] = {}
        self._states = dict.fromkeys(DeviceState, 0)
        self._invitations: dict[str, InvitationRecord] = {}
        self._dirty: dict[str, None] = {}
        self.on_created: Callable[[Subject], None] = lambda _: None
        """Hears of every new device, before anything can come from it."""
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Read everything; 20,000 devices take about half a second of a thread."""
        self._devices = await self._store.read(lambda connection: rows.load_devices(connection, self._sharing))
        self._invitations = await self._store.read(rows.load_invitations)
        for record in self._devices.values():
            self._states[record.state] += 1
        self._show()
        _LOG.info("device.loaded", devices=len(self._devices), invitations=len(self._invitations))

    async def run(self) -> None:
        """Write down what changed, again and again, until cancelled; then once more."""
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                await self._flush_quietly()
                await self._forget_quietly()
                self._show()
        finally:
            await asyncio.shield(self._flush_quietly())

    def __len__(self) -> int:
        return len(self._devices)

    def __iter__(self) -> Iterator[DeviceRecord]:
        return iter(self._devices.values())

    def get(self, device_id: str) -> DeviceRecord | None:
        """Return the record of a device, or None."""
        return self._devices.get(device_id)

    def require(self, device_id: str) -> DeviceRecord:
        """Return the record of a device; raises `device.unknown`."""
        record = self._devices.get(device_id)
        if record is None:
            raise QedgeError("device.unknown", f"No device is called {device_id!r}.", fix="See `qedge device list`.")
        return record

    def create(self, device_id: str, tier: DeviceTier, profile: DeviceProfile, secret: bytes = b"") -> DeviceRecord:
        """Add an invited device; one that was revoked may come anew. Raises `device.*`. `save` makes it last."""
        known = self._devices.get(device_id)
        if not is_name(device_id) or device_id.startswith(GUEST_MARK):
            raise QedgeError(
                "device.bad_name",
                f"{device_id!r} can be no device.",
                fix="Use 1 to 36 letters, digits, - and _, and no _ in front.",
            )
        if known is not None and known.state is not DeviceState.REVOKED:
            raise QedgeError("device.exists", f"A device is called {device_id} already.", fix="Choose another name.")
        # Those that were revoked are remembered, and take no place: or else nothing would ever make room again.
        standing = len(self._devices) - self._states[DeviceState.REVOKED]
        if standing >= self._config.max_devices:
            raise QedgeError(
                "device.too_many",
                f"The node has {standing} devices, its limit.",
                fix="Raise devices.sessions.max_devices, or revoke devices that are gone.",
            )
        subject = new_subject(device_id)
        if known is not None:
            subject.epoch = known.subject.epoch + 1
        self._sharing.apply(subject, profile)
        record = DeviceRecord(
            subject, tier, DEVICE_STATES.initial, secret=secret, key_id=root_id(secret) if secret else b""
        )
        if known is not None:
            self._states[known.state] -= 1
        self._states[record.state] += 1
        self._devices[device_id] = record
        self.touch(record)
        self.on_created(subject)
        return record

    def discard(self, record: DeviceRecord) -> None:
        """Take back what `create` added and could not be saved."""
        if self._devices.get(record.subject.id) is record:
            del self._devices[record.subject.id]
            self._states[record.state] -= 1
            self._dirty.pop(record.subject.id, None)

    async def drop(self, record: DeviceRecord) -> None:
        """Forget a device that waits for approval and is not heard of any more; raises `store.*`."""
        self.discard(record)
        await self._write(functools.partial(rows.remove_device, device_id=record.subject.id), accepted=True)

    def change_profile(self, record: DeviceRecord, profile: DeviceProfile) -> None:
        """Make a device what a profile says."""
        self._sharing.apply(record.subject, profile)
        self.touch(record)

    def go(self, record: DeviceRecord, event: DeviceEvent, reason: str = "") -> None:
        """Take a step of the state table; raises `device.bad_state`."""
        if not DEVICE_STATES.allows(record.state, event):
            raise QedgeError("device.bad_state", f"{record.subject.id} is {record.state}: not possible now.")
        self._states[record.state] -= 1
        record.go(event)
        self._states[record.state] += 1
        record.reason = reason
        self.touch(record)

    def touch(self, record: DeviceRecord) -> None:
        """Note that a record changed; it is written down soon."""
        self._dirty[record.subject.id] = None

    def invitation(self, guest_id: str) -> InvitationRecord | None:
        """Return the invitation that a guest names in front of a `-`, where it has not expired, or None."""
        found = self._invitations.get(guest_id.partition("-")[0])
        return found if found is not None and found.expires_utc_ns > self._clock.utc_ns() else None

    def invitation_of(self, device_id: str) -> InvitationRecord | None:
        """Return an invitation for a device by name, or None."""
        return next((each for each in self._invitations.values() if each.device == device_id), None)

    async def add_invitations(self, invitations: Iterable[InvitationRecord]) -> None:
        """Add invitations; they are on the disk when this returns."""
        added = list(invitations)
        await self._write(lambda connection: rows.write_invitations(connection, added))
        self._invitations.update((each.id, each) for each in added)

    async def withdraw_invitations(self, ids: Iterable[str]) -> None:
        """Forget invitations at once."""
        gone = [each for each in ids if self._invitations.pop(each, None) is not None]
        if gone:
            await self._write(lambda connection: rows.remove_invitations(connection, gone), accepted=True)

    async def forget_expired(self) -> None:
        """Forget invitations whose time has passed."""
        now = self._clock.utc_ns()
        gone = [each.id for each in self._invitations.values() if each.expires_utc_ns <= now]
        if gone:
            await self.withdraw_invitations(gone)

    async def save(
        self,
        *records: DeviceRecord,
        keys: KeptKeys | None = None,
        claim: bytes | None = None,
        invitation: InvitationRecord | None = None,
        accepted: bool = False,
    ) -> None:
        """Write records down; for a single one with keys, digest of a claim code, and the invitation it has used.

        All of it in one transaction; raises `store.*`. `accepted`: done on a full disk too, for it takes rights away.
        """
        now = self._clock.utc_ns()
        written: list[rows.DeviceRow] = []
        device_id = records[0].subject.id if records else ""

        def work(connection: sqlite3.Connection) -> None:
            rows.write_devices(connection, written)
            if keys is not None:
                rows.write_keys(connection, device_id, keys)
            if claim is not None:
                rows.write_claim(connection, device_id, claim)
            if invitation is not None:
                rows.write_invitations(connection, [invitation])

        try:
            for number, record in enumerate(records, 1):
                written.append(rows.row_of(record, now))
                self._dirty.pop(record.subject.id, None)  # what changes from here on is not in the row
                if number % _CHUNK == 0:
                    await asyncio.sleep(0)
            await self._write(work, accepted=accepted)
        except BaseException:
            self._dirty.update((record.subject.id, None) for record in records)
            raise

    async def keys(self, device_id: str) -> KeptKeys:
        """Read public key and certificate of a device."""
        return await self._store.read(lambda connection: rows.read_keys(connection, device_id))

    async def times(self, device_ids: Iterable[str]) -> dict[str, KeptTimes]:
        """Read when devices were added and changed."""
        wanted = list(device_ids)
        return await self._store.read(lambda connection: rows.read_times(connection, wanted))

    async def check_claim(self, device_id: str, code: str) -> None:
        """Raise `device.bad_claim` where a code is not the one of an imported device."""
        times = await self.times([device_id])
        claim = times[device_id].claim if device_id in times else b""
        if not claim or not hmac.compare_digest(claim, claim_digest(device_id, code)):
            raise QedgeError(
                "device.bad_claim", "No such device waits to be claimed, or the code is wrong.", fix="See its label."
            )

    async def flush(self) -> None:
        """Write down all that changed; raises `store.*`, and keeps it to be written then."""
        async with self._lock:
            while self._dirty:
                now = self._clock.utc_ns()
                chunk = [each for _, each in zip(range(_CHUNK), self._dirty, strict=False)]
                for device_id in chunk:
                    del self._dirty[device_id]
                written = [rows.row_of(self._devices[each], now) for each in chunk if each in self._devices]
                try:
                    await self._write(functools.partial(rows.write_devices, rows=written))
                except BaseException:
                    self._dirty.update(dict.fromkeys(chunk))
                    raise

    def states(self) -> dict[str, int]:
        """Count devices by state."""
        return {state.value: count for state, count in self._states.items()}

    def count(self, state: DeviceState) -> int:
        """Count the devices in a state."""
        return self._states[state]

    async def _write(self, work: Callable[[sqlite3.Connection], None], *, accepted: bool = False) -> None:
        await self._store.write(work, accepted=accepted)

    async def _flush_quietly(self) -> None:
        try:
            await self.flush()
        except QedgeError as error:
            _LOG.warning("device.not_saved", code=error.code, devices=len(self._dirty))

    async def _forget_quietly(self) -> None:
        try:
            await self.forget_expired()
        except QedgeError as error:
            # They count no more either way: what is read again at the next start has expired then too.
            _LOG.warning("device.not_saved", code=error.code, devices=len(self._dirty))

    def _show(self) -> None:
        for state, count in self.states().items():
            self._metrics.set("qedge_devices", count, (state,))


def claim_digest(device_id: str, code: str) -> bytes:
    """Return what is kept of a claim code; spaces, dashes and case do not matter."""
    plain = "".join(each for each in code.upper() if each.isalnum())
    return hashlib.sha256(f"qedge/v1 claim\0{device_id}\0{plain}".encode()).digest()
