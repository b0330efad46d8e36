"""Enrolment: takes ENROL of guests, and keeps the node's keys for its devices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, is_name
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.crypto.keys import PublicKey
from qedge.devices.config import EnrolmentConfig
from qedge.devices.enrolment import rows, vetting
from qedge.devices.enrolment.authority import (
    KEM_KEYS_KEPT,
    DeviceAuthority,
    NodeIdentity,
    device_public_key,
    make_authority,
    make_kem,
    still_good,
)
from qedge.devices.enrolment.makers import Makers
from qedge.devices.enrolment.ports import Threads
from qedge.devices.enrolment.refused_keys import RefusedKeys
from qedge.devices.model import DeviceEvent, DeviceState, DeviceTier, OpenEnrolment
from qedge.devices.registry.model import DeviceRecord, InvitationRecord
from qedge.devices.registry.rows import KeptKeys
from qedge.devices.registry.service import DeviceRegistry
from qedge.store.store import Store
from qedge.wire.gateway import DeviceProfile
from qedge_device import schedule
from qedge_device.enrolling import Enrol, guest_of, open_guest_id, proved
from qedge_device.messages import MessageError, Method, Pending

PENDING_RETRY_S: Final = 10
PENDING_SILENT_NS: Final = 3_600 * 1_000_000_000
"""A device that waits for approval and has not asked for so long gives way where there is no room for another."""

_LOG: Final = get_logger("devices")


async def load_authority(
    store: Store, identity: NodeIdentity, kem_life_s: float, utc_ns: int, random_bytes: RandomBytes
) -> DeviceAuthority:
    """Read the node's keys for its devices, and make those that are missing, of another identity, or at their end."""
    kept = [each for each in await store.read(rows.load_node_keys) if still_good(each, identity)]
    authority = next((each for each in kept if each.kind == "authority" and each.until_utc_ns > utc_ns), None)
    kem_keys = [each for each in kept if each.kind == "kem"]
    if authority is not None and kem_keys and kem_keys[0].until_utc_ns > utc_ns:
        return DeviceAuthority(identity, authority, kem_keys)
    authority = authority or make_authority(identity, utc_ns, random_bytes)
    serial = kem_keys[0].serial + 1 if kem_keys else 1
    kem_keys = [make_kem(identity, serial, utc_ns, kem_life_s, random_bytes), *kem_keys][:KEM_KEYS_KEPT]
    keys = [authority, *kem_keys]
    await store.write(lambda connection: rows.replace_node_keys(connection, keys))
    return DeviceAuthority(identity, authority, kem_keys)


class Enrolment:
    """Decides who becomes a device. What it promises is on the disk before it answers."""

    def __init__(
        self,
        config: EnrolmentConfig,
        *,
        authority: DeviceAuthority,
        registry: DeviceRegistry,
        threads: Threads,
        makers: Makers,
        refused: RefusedKeys,
        clock: Clock,
        random_bytes: RandomBytes,
        metrics: Metrics,
        replaced: Callable[[DeviceRecord, bytes], Awaitable[None]],
    ) -> None:
        """`replaced` hears of a device that has brought a new key, and the id of the old one."""
        self._config = config
        self._authority = authority
        self._registry = registry
        self._threads = threads
        self._makers = makers
        self._refused = refused
        self._clock = clock
        self._random_bytes = random_bytes
        self._metrics = metrics
        self._replaced = replaced
        self._began_ns = clock.now_ns()
        self._asked: dict[str, int] = {}

    def is_open_to(self, guest_id: str) -> bool:
        """Say whether a guest without an invitation may say hello."""
        return self._config.open_to is not OpenEnrolment.NOBODY and len(guest_id) == 25 and is_name(guest_id)

    async def enrol(self, guest_id: str, data: bytes) -> bytes:
        """Take an ENROL and return ENROLLED or PENDING; raises `device.*` and `auth.*` for what is refused."""
        try:
            message = await self._enrol(guest_id, data)
        except QedgeError as error:
            self._metrics.add("qedge_device_enrolments_total", (error.code,))
            _LOG.info("device.refused", guest=guest_id, code=error.code)
            raise
        self._metrics.add("qedge_device_enrolments_total", ("pending" if len(message) == 3 else "enrolled",))
        return message

    async def _enrol(self, guest_id: str, data: bytes) -> bytes:
        enrol = vetting.read_enrol(data)
        identity = self._authority.identity
        guest = schedule.who(identity.fleet, identity.node, guest_id)
        invitation = self._registry.invitation(guest_id)
        if invitation is not None and guest_id == guest_of(invitation.id, enrol.public_key):
            vetting.check_token(invitation.token, guest, enrol)
        elif not (self.is_open_to(guest_id) and guest_id == open_guest_id(enrol.public_key)):
            raise QedgeError("device.refused", "A device has no invitation that is good.")
        public_key = device_public_key(enrol.parameter, enrol.public_key)
        await self._threads.run(vetting.check_proof, guest, enrol)
        maker_name = await self._maker(enrol, guest)
        if invitation is None and not maker_name and self._config.open_to is not OpenEnrolment.ANYBODY:
            raise QedgeError("device.refused", "A device has no certificate of a maker.")
        name = (invitation.device if invitation is not None else "") or maker_name or enrol.device
        if enrol.device not in ("", name):
            raise QedgeError("device.refused", "A device asks for a name that is not its own.")
        key_id = bytes.fromhex(public_key.key_id)
        self._refused.check(key_id)
        before = self._registry.get(name)
        old_key_id = before.key_id if before is not None else b""
        try:
            record = self._admit(name, key_id, enrol.parameter, invitation, maker_name)
        except QedgeError as error:
            if error.code != "device.busy" or not await self._make_room():
                raise
            record = self._admit(name, key_id, enrol.parameter, invitation, maker_name)
        if record is before and old_key_id not in (b"", key_id):
            await self._replaced(record, old_key_id)
        if record.state is DeviceState.PENDING:
            self._asked[name] = self._clock.now_ns()
            await self._registry.save(record, keys=KeptKeys(enrol.public_key), invitation=invitation)
            return Pending(PENDING_RETRY_S).pack()
        return await self._welcome(record, guest, invitation, data, enrol, public_key)

    async def _maker(self, enrol: Enrol, guest: bytes) -> str:
        if enrol.method != Method.MANUFACTURER:
            return ""
        try:
            chain = enrol.certificates()
        except MessageError as error:
            raise QedgeError("device.bad_message", f"An enrolment cannot be read: {error}.") from error
        message = proved(guest, enrol)
        return await self._threads.run(self._makers.check, chain, enrol.vouch, message, self._clock.utc_ns())

    def _admit(
        self, name: str, key_id: bytes, parameter: int, invitation: InvitationRecord | None, maker_name: str
    ) -> DeviceRecord:
        """Find or make the record that a key may have, as PENDING or ENROLLED; raises `device.*`."""
        record = self._registry.get(name)
        own = invitation is not None and invitation.device == name
        approved = not invitation.approval if invitation is not None else self._config.approve_manufactured
        approved = approved and (invitation is not None or bool(maker_name))
        if record is not None and record.key_id == key_id and record.state is not DeviceState.REVOKED:
            return self._again(record)
        if invitation is not None and invitation.uses < 1:
            raise QedgeError("device.spent", "The invitation was used already.", fix="Make a new one.")
        if record is None or record.state is DeviceState.REVOKED:
            if not approved:
                self._check_room()
            record = self._registry.create(name, DeviceTier.RICH, self._profile(invitation))
        elif not _may_take(record, own=own, approved=approved, vouched=bool(maker_name)):
            raise QedgeError("device.refused", f"The name {name} belongs to another device.")
        if invitation is not None:
            invitation.uses -= 1
        record.key_id, record.parameter = key_id, parameter
        record.bar("")
        record.secret = record.resumption = b""
        record.counter = record.resume_until_utc_ns = 0
        if record.state is not DeviceState.ENROLLED:
            self._registry.go(record, DeviceEvent.APPROVED if approved else DeviceEvent.ASKED)
            _LOG.info("device.enrolled" if approved else "device.pending", device=name, by=maker_name or "invitation")
        self._registry.touch(record)
        return record

    def _again(self, record: DeviceRecord) -> DeviceRecord:
        """A device whose answer was lost asks again; one that has used its secret does not."""
        used = record.counter or record.resumption or record.state is DeviceState.QUARANTINED
        if used:
            raise QedgeError("device.refused", f"{record.subject.id} is enrolled already.")
        return record

    def _check_room(self) -> None:
        if self._registry.count(DeviceState.PENDING) >= self._config.max_pending:
            raise QedgeError("device.busy", "Too many devices wait for approval.", fix="Approve or revoke some.")

    async def _make_room(self) -> bool:
        """Let the device give way that waits for approval and was silent for longest; says whether there was one."""
        waiting = [each for each in self._registry if each.state is DeviceState.PENDING]
        asked = {each.subject.id: self._asked.get(each.subject.id, self._began_ns) for each in waiting}
        self._asked = {name: self._asked[name] for name in asked if name in self._asked}
        oldest = min(waiting, key=lambda each: asked[each.subject.id], default=None)
        if oldest is None or self._clock.now_ns() - asked[oldest.subject.id] < PENDING_SILENT_NS:
            return False
        _LOG.info("device.gave_way", device=oldest.subject.id)
        await self._registry.drop(oldest)
        return True

    def _profile(self, invitation: InvitationRecord | None) -> DeviceProfile:
        if invitation is not None:
            return invitation.profile
        return DeviceProfile(self._config.manufactured_class, self._config.manufactured_segment)

    async def _welcome(
        self,
        record: DeviceRecord,
        guest: bytes,
        invitation: InvitationRecord | None,
        data: bytes,
        enrol: Enrol,
        public_key: PublicKey,
    ) -> bytes:
        utc_ns = self._clock.utc_ns()
        welcome = await self._threads.run(
            vetting.answer,
            self._authority,
            guest,
            invitation.token if invitation is not None else b"",
            data,
            enrol,
            record.subject.id,
            public_key,
            utc_ns,
            self._config.certificate_s,
            self._random_bytes(64),
        )
        if record.key_id != bytes.fromhex(public_key.key_id) or record.state is not DeviceState.ENROLLED:
            raise QedgeError("device.refused", "Another key or an operator was faster.")
        record.secret = welcome.secret
        record.certified_until_utc_ns = utc_ns + round(self._config.certificate_s * 1e9)
        await self._registry.save(record, keys=KeptKeys(enrol.public_key, welcome.certificate), invitation=invitation)
        return welcome.message


def _may_take(record: DeviceRecord, *, own: bool, approved: bool, vouched: bool) -> bool:
    """Say whether a key may become that of a device that is there: by its own invitation, or its maker's word."""
    if record.tier is not DeviceTier.RICH or record.state is DeviceState.QUARANTINED:
        return False
    if record.state is DeviceState.INVITED:
        return own or vouched
    return own and approved
