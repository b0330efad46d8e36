"""What the operator does with devices: add, invite, approve, show, revoke, rotate, import. Serves the HTTP routes."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import DrawnAhead, RandomBytes
from qedge.base.log import get_logger
from qedge.devices.administrator import Administrator
from qedge.devices.config import EnrolmentConfig
from qedge.devices.enrolment.authority import DeviceAuthority
from qedge.devices.enrolment.revoking import Revoking
from qedge.devices.model import DeviceEvent, DeviceState, DeviceTier
from qedge.devices.ports import DeviceKeys
from qedge.devices.registry.model import DeviceRecord, InvitationRecord, profile_of, root_id
from qedge.devices.registry.rows import KeptTimes
from qedge.devices.registry.service import DeviceRegistry, claim_digest
from qedge.devices.sessions.book import DeviceSessions
from qedge.wire.gateway import (
    AttachedDevice,
    AttachedDevices,
    DeviceAdd,
    DeviceApproval,
    DeviceBatch,
    DeviceBatchAdded,
    DeviceCredentials,
    DeviceDraft,
    DeviceInvite,
    DeviceInvited,
    DeviceReason,
    DeviceRotated,
    DeviceRotation,
    DeviceSessionView,
)
from qedge_device.enrolling import ROOT_BYTES, TOKEN_BYTES, Invitation, fingerprint_of

MAX_LIST: Final = 1000
_AT_ONCE: Final = 200
_LOG: Final = get_logger("devices")
_PIECE: Final = 20
"""Devices of a batch that are dealt with before others have their turn: a millisecond of the loop."""
_SECOND_NS: Final = 1_000_000_000


class History(Protocol):
    """Tells how the trust in a device came about."""

    def history(self, device_id: str) -> tuple[str, ...]:
        """Return one line for each change, oldest first."""
        ...


class DeviceDesk:
    """Devices for the operator's programs. What it promises is on the disk before it answers; raises `device.*`."""

    def __init__(
        self,
        config: EnrolmentConfig,
        *,
        address: Callable[[], str],
        registry: DeviceRegistry,
        sessions: DeviceSessions,
        authority: DeviceAuthority,
        administrator: Administrator,
        revoking: Revoking,
        keys: DeviceKeys | None,
        history: History | None,
        clock: Clock,
        random_bytes: RandomBytes,
    ) -> None:
        """`address` returns where devices connect (`mqtt://host:port`), which stands in invitations."""
        self._config = config
        self._address = address
        self._registry = registry
        self._sessions = sessions
        self._authority = authority
        self._administrator = administrator
        self._revoking = revoking
        self._keys = keys
        self._history = history
        self._clock = clock
        self._random_bytes = random_bytes

    async def listing(self, state: str, after: str, limit: int) -> AttachedDevices:
        """List devices by name, those after `after`; `state` empty: all."""
        names = [each.subject.id for each in self._registry if state in ("", each.state.value)]
        chosen = heapq.nsmallest(min(limit, MAX_LIST), (name for name in names if name > after))
        times = await self._registry.times(chosen)
        records = [record for record in map(self._registry.get, chosen) if record is not None]
        views = tuple(self._view(record, times.get(record.subject.id)) for record in records)
        return AttachedDevices(views, len(names), self._registry.states(), len(self._sessions))

    async def show(self, name: str) -> AttachedDevice:
        """Describe one device, with the fingerprint of its key and the history of the trust in it."""
        record = self._registry.require(name)
        times = await self._registry.times([name])
        known = await self._registry.keys(name)
        view = self._view(record, times.get(name))
        history = self._history.history(name) if self._history is not None else ()
        fingerprint = fingerprint_of(known.public_key) if known.public_key and record.key_id else ""
        return msgspec.structs.replace(view, fingerprint=fingerprint, history=history)

    async def add(self, wanted: DeviceAdd) -> DeviceInvited:
        """Add a device and return the line for it."""
        if wanted.root == "claimed":
            return await self._claim(wanted)
        if wanted.tier == "constrained":
            extra_id, root = await self._root(wanted)
            record = self._registry.create(wanted.name, DeviceTier.CONSTRAINED, wanted.profile, root)
            record.extra_id, record.from_keys = extra_id, bool(extra_id)
            self._registry.go(record, DeviceEvent.APPROVED)
            await self._save_new(record)
            return DeviceInvited(self._line(device=wanted.name, root=root), wanted.name)
        extra = await self._fresh_key(wanted.name) if wanted.extra_key else ("", b"")
        record = self._registry.create(wanted.name, DeviceTier.RICH, wanted.profile)
        record.extra_id, record.extra = extra
        await self._save_new(record)
        invitation = self._invitation(wanted.name, 1, wanted.expires_s, approval=False)
        await self._registry.add_invitations([invitation])
        return self._invited(invitation, extra)

    async def invite(self, wanted: DeviceInvite) -> DeviceInvited:
        """Make an invitation for devices that choose their own names, or for a new key of one that is known."""
        if wanted.name:
            record = self._registry.require(wanted.name)
            if wanted.approval or wanted.uses != 1 or record.tier is not DeviceTier.RICH:
                raise QedgeError(
                    "device.bad_state",
                    "An invitation by name is for one rich device, and needs no approval.",
                    fix="Leave out the number of uses and the approval, or leave out the name.",
                )
            if record.state not in (DeviceState.INVITED, DeviceState.PENDING, DeviceState.ENROLLED):
                raise QedgeError("device.bad_state", f"{wanted.name} is {record.state}.", fix="Release it first.")
            old = self._registry.invitation_of(wanted.name)
            await self._registry.withdraw_invitations([old.id] if old is not None else [])
        invitation = self._invitation(wanted.name, wanted.uses, wanted.expires_s, approval=wanted.approval)
        invitation.profile = wanted.profile
        await self._registry.add_invitations([invitation])
        return self._invited(invitation, ("", b""))

    async def approve(self, name: str, approval: DeviceApproval) -> AttachedDevice:
        """Let a device in that waits; it hears of it when it asks again."""
        record = self._registry.require(name)
        known = await self._registry.keys(name)
        if approval.fingerprint and approval.fingerprint.lower() != fingerprint_of(known.public_key):
            raise QedgeError(
                "device.bad_fingerprint",
                f"The key of {name} has another fingerprint.",
                fix="Somebody else may have asked under this name: revoke it.",
            )
        if record.state is not DeviceState.PENDING:
            raise QedgeError(
                "device.bad_state",
                f"{name} does not wait for approval: it is {record.state}.",
                fix="`qedge device list` shows those that wait.",
            )
        self._revoking.refused.check(record.key_id)
        if approval.profile is not None:
            self._registry.change_profile(record, approval.profile)
        self._registry.go(record, DeviceEvent.APPROVED)
        await self._registry.save(record)
        _LOG.info("device.enrolled", device=name, by="operator")
        return await self.show(name)

    def check_quarantine(self, name: str) -> None:
        """Raise `device.unknown`, or `device.bad_state` where a device cannot be quarantined."""
        record = self._registry.require(name)
        if record.state is not DeviceState.ENROLLED:
            raise QedgeError(
                "device.bad_state",
                f"{name} is {record.state}: it cannot be put in quarantine.",
                fix="Only a device that is enrolled can; revoke one that shall never come in.",
            )

    def check_release(self, name: str) -> None:
        """Raise `device.unknown`, or `device.bad_state` where there is no quarantine to lift."""
        record = self._registry.require(name)
        if record.state is not DeviceState.QUARANTINED:
            raise QedgeError(
                "device.bad_state",
                f"{name} is {record.state}: there is nothing to lift.",
                fix=f"`qedge device show {name}` says what keeps it out.",
            )

    async def revoke(self, name: str, why: DeviceReason) -> AttachedDevice:
        """Let a device never come back under its key."""
        record = self._registry.require(name)
        self._registry.go(record, DeviceEvent.REVOKED, why.reason or "by an operator")
        self._administrator.revoked(record)
        # First of all on the list: whatever comes between, the key counts no more at any node.
        is_root = record.tier is DeviceTier.CONSTRAINED
        invitation = self._registry.invitation_of(name)
        try:
            await self._revoking.retire(name, record.key_id, record.certified_until_utc_ns, is_root=is_root)
        finally:
            # Whatever the disk makes of one step, the others are done: no secret and no invitation stays.
            record.secret, record.extra = b"", b""
            try:
                await self._registry.withdraw_invitations([invitation.id] if invitation is not None else [])
            finally:
                await self._registry.save(record, claim=b"", accepted=True)
        _LOG.warning("device.revoked", device=name, reason=record.reason)
        return await self.show(name)

    async def rotate(self, wanted: DeviceRotation) -> DeviceRotated:
        """Have devices open new sessions; rich ones prove their keys again. All of them: with a new key of the node."""
        records = [self._registry.require(name) for name in wanted.names] or list(self._registry)
        chosen = [record.subject.id for record in records if record.is_admitted]
        if not wanted.names:
            await self._revoking.renew_kem()
        for number, name in enumerate(chosen, 1):
            self._administrator.rekey(name)
            if number % _AT_ONCE == 0:
                await self._registry.flush()  # others want the loop too
        await self._registry.flush()
        return DeviceRotated(len(chosen))

    async def add_batch(self, batch: DeviceBatch) -> DeviceBatchAdded:
        """Add many devices in one transaction; those that are known stay as they are."""
        known = [each.name for each in batch.devices if self._is_known(each.name)]
        left_out = set(known)
        drafts = [each for each in batch.devices if each.name not in left_out]
        draw = DrawnAhead(self._random_bytes, len(drafts) * ROOT_BYTES)  # one draw, since each takes the loop 50 µs
        records = await self._draft_all(drafts, draw)
        invitations = []
        for number, draft in enumerate(drafts, 1):
            if draft.tier == "rich":
                invitations.append(self._invitation(draft.name, 1, batch.expires_s, approval=False, draw=draw))
            await _give_way(number)
        await self._save_new(*records)
        await self._registry.add_invitations(invitations)
        for draft in drafts:
            if draft.claim_code:
                record = self._registry.require(draft.name)
                await self._registry.save(record, claim=claim_digest(draft.name, draft.claim_code))
        lines = {}
        for number, each in enumerate(invitations, 1):
            lines[each.device] = self._invited(each, ("", b""))
            await _give_way(number)
        for number, (draft, record) in enumerate(zip(drafts, records, strict=True), 1):
            if draft.tier == "constrained" and not draft.root:
                lines[draft.name] = DeviceInvited(self._line(device=draft.name, root=record.secret), draft.name)
            await _give_way(number)
        return DeviceBatchAdded(tuple(lines[each.name] for each in drafts if each.name in lines), tuple(known))

    async def credentials(self, name: str) -> DeviceCredentials:
        """Return what a peer needs to check the device; raises `device.bad_state` where it has no certificate."""
        self._registry.require(name)
        known = await self._registry.keys(name)
        if not known.certificate:
            raise QedgeError("device.bad_state", f"{name} has no certificate.", fix="Only rich devices have one.")
        return DeviceCredentials(known.certificate, self._authority.delegation(self._clock.utc_ns()))

    async def _claim(self, wanted: DeviceAdd) -> DeviceInvited:
        """Take a device whose root its maker has told: by its name and the code on its label."""
        await self._registry.check_claim(wanted.name, wanted.claim_code)
        record = self._registry.require(wanted.name)
        if record.state is not DeviceState.INVITED:
            raise QedgeError("device.bad_claim", "No such device waits to be claimed, or the code is wrong.")
        self._revoking.refused.check(record.key_id)
        self._registry.change_profile(record, wanted.profile)
        self._registry.go(record, DeviceEvent.APPROVED)
        await self._registry.save(record, claim=b"")
        _LOG.info("device.enrolled", device=wanted.name, by="claim")
        return DeviceInvited("", wanted.name)

    async def _root(self, wanted: DeviceAdd) -> tuple[str, bytes]:
        return await self._fresh_key(wanted.name) if wanted.root == "keys" else ("", self._random_bytes(ROOT_BYTES))

    async def _fresh_key(self, name: str) -> tuple[str, bytes]:
        if self._keys is None:
            raise QedgeError("device.no_key", "The node has no key store.", fix="Let the root be drawn instead.")
        return await self._keys.fresh(name)

    async def _save_new(self, *records: DeviceRecord) -> None:
        try:
            await self._registry.save(*records)
        except QedgeError:
            for record in records:
                self._registry.discard(record)
            raise

    def _is_known(self, name: str) -> bool:
        record = self._registry.get(name)
        return record is not None and record.state is not DeviceState.REVOKED

    async def _draft_all(self, drafts: list[DeviceDraft], draw: RandomBytes) -> list[DeviceRecord]:
        """Make the records of all drafts, or of none and raise."""
        records: list[DeviceRecord] = []
        try:
            for draft in drafts:
                records.append(self._draft(draft, draw))
                await _give_way(len(records))
        except BaseException:
            for record in records:
                self._registry.discard(record)
            raise
        return records

    def _draft(self, draft: DeviceDraft, draw: RandomBytes) -> DeviceRecord:
        """Make the record of a draft; one with a claim code waits to be claimed, other constrained ones are in."""
        if draft.tier == "rich":
            return self._registry.create(draft.name, DeviceTier.RICH, draft.profile)
        root = bytes.fromhex(draft.root) or draw(ROOT_BYTES)
        self._revoking.refused.check(root_id(root))
        record = self._registry.create(draft.name, DeviceTier.CONSTRAINED, draft.profile, root)
        if not draft.claim_code:
            self._registry.go(record, DeviceEvent.APPROVED)
        return record

    def _invitation(
        self, device: str, uses: int, expires_s: float, *, approval: bool, draw: RandomBytes | None = None
    ) -> InvitationRecord:
        record, draw = self._registry.get(device), draw or self._random_bytes
        return InvitationRecord(
            "_" + draw(8).hex(),
            draw(TOKEN_BYTES),
            device,
            approval,
            uses,
            self._clock.utc_ns() + round((expires_s or self._config.token_s) * _SECOND_NS),
            profile_of(record.subject) if record is not None else DeviceInvite().profile,
        )

    def _invited(self, invitation: InvitationRecord, extra: tuple[str, bytes]) -> DeviceInvited:
        line = self._line(
            device=invitation.device,
            guest=invitation.id,
            token=invitation.token,
            expires_utc_s=invitation.expires_utc_ns // _SECOND_NS,
            extra=extra,
        )
        return DeviceInvited(line, invitation.device, invitation.expires_utc_ns)

    def _line(
        self,
        *,
        device: str,
        guest: str = "",
        token: bytes = b"",
        root: bytes = b"",
        expires_utc_s: int = 0,
        extra: tuple[str, bytes] = ("", b""),
    ) -> str:
        identity = self._authority.identity
        return Invitation(
            identity.fleet,
            identity.node,
            self._address(),
            guest,
            device,
            self._authority.pin,
            expires_utc_s,
            token,
            root,
            *extra,
        ).write()

    def _view(self, record: DeviceRecord, times: KeptTimes | None) -> AttachedDevice:
        subject, now_ns = record.subject, self._clock.now_ns()
        session = self._sessions.current(subject.id)
        return AttachedDevice(
            name=subject.id,
            tier="rich" if record.tier is DeviceTier.RICH else "constrained",
            state=record.state.value,
            profile=profile_of(subject),
            trust=subject.trust,
            quarantined=subject.quarantined,
            algorithm=f"ml-dsa-{record.parameter}" if record.parameter else "",
            certified_until_utc_ns=record.certified_until_utc_ns,
            created_utc_ns=times.created_utc_ns if times is not None else 0,
            changed_utc_ns=times.changed_utc_ns if times is not None else 0,
            reason=record.reason,
            session=None
            if session is None
            else DeviceSessionView(
                session.key_id,
                (now_ns - session.opened_ns) / 1e9,
                (session.expires_ns - now_ns) / 1e9,
                subject.qkd_backed,
            ),
            revoked_at=record.barred,
        )


async def _give_way(number: int) -> None:
    """Let others have their turn every so many devices of a batch."""
    if number % _PIECE == 0:
        await asyncio.sleep(0)
