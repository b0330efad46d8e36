"""The greeter: what a device says on `hello` goes in, what goes back on `welcome` comes out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import DrawnAhead, RandomBytes
from qedge.base.metrics import Metrics
from qedge.devices.config import EnrolmentConfig, SessionsConfig
from qedge.devices.enrolment.authority import DeviceAuthority, device_public_key
from qedge.devices.enrolment.service import Enrolment
from qedge.devices.model import GUEST_MARK, DeviceSession, DeviceTier
from qedge.devices.ports import DeviceKeys
from qedge.devices.registry.model import DeviceRecord
from qedge.devices.registry.rows import KeptKeys
from qedge.devices.registry.service import DeviceRegistry
from qedge.devices.sessions.admission import Admission
from qedge.devices.sessions.book import DeviceSessions
from qedge.devices.sessions.full import Nonces, Proof, challenge, open_full
from qedge.devices.sessions.places import Place
from qedge.devices.sessions.symmetric import check_join, check_resume, join_session, resume_session
from qedge.devices.sessions.threads import PublicKeyThreads
from qedge_device import schedule
from qedge_device.frame import Suite
from qedge_device.messages import Join, MessageError, MessageType, Prove, Refusal, Refused, Resume
from qedge_device.short import EPOCHS

SWEEP_S: Final = 5.0
CLOCK_SLACK_S: Final = 60
"""By so much the clock may have been set back since a full session without its secret counting no more."""

_LIMITED: Final = (MessageType.ASK, MessageType.RESUME, MessageType.JOIN, MessageType.ENROL)


class DeviceGreeter:
    """Takes the steps of handshakes and enrolments; public-key work runs in threads, the rest on the loop."""

    def __init__(
        self,
        config: SessionsConfig,
        enrolment_config: EnrolmentConfig,
        *,
        place: Place,
        registry: DeviceRegistry,
        sessions: DeviceSessions,
        authority: DeviceAuthority,
        enrolment: Enrolment,
        threads: PublicKeyThreads,
        keys: DeviceKeys | None,
        clock: Clock,
        random_bytes: RandomBytes,
        uniform: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._certificate_s = enrolment_config.certificate_s
        self._place = place
        self._registry = registry
        self._sessions = sessions
        self._authority = authority
        self._enrolment = enrolment
        self._threads = threads
        self._keys = keys
        self._clock = clock
        self._random_bytes = random_bytes
        self._public = DrawnAhead(random_bytes)
        self._metrics = metrics
        self._nonces = Nonces(random_bytes(32))
        symmetric = Admission(config.resumptions_per_s, uniform)
        self._admissions = {
            MessageType.ASK: Admission(config.full_handshakes_per_s, uniform),
            MessageType.RESUME: symmetric,
            MessageType.JOIN: symmetric,
            MessageType.ENROL: Admission(config.enrolments_per_s, uniform),
        }
        self._steps: dict[MessageType, Callable[[DeviceRecord, bytes], Awaitable[bytes]]] = {
            MessageType.ASK: self._ask,
            MessageType.PROVE: self._prove,
            MessageType.RESUME: self._resume,
            MessageType.JOIN: self._join,
        }

    async def greet(self, device_id: str, message: bytes) -> bytes:
        """Take one step of a handshake, of a resumption or of an enrolment; raises `QedgeError` for what is refused.

        A node that is busy, and one that knows nothing of the last session, answers REFUSED and raises nothing: that
        is no fault of the device.
        """
        try:
            kind = MessageType(message[0] if message else 0)
        except ValueError:
            raise _bad("it is of no type that is known") from None
        if kind in _LIMITED:
            retry_s = self._admissions[kind].admit(self._clock.now_ns())
            if retry_s:
                self._count(kind, "busy")
                return Refused(Refusal.BUSY, retry_s).pack()
        try:
            answer = await self._step(kind, device_id, message)
        except MessageError as error:
            self._count(kind, "refused")
            raise _bad(str(error)) from error
        except QedgeError as error:
            if error.code == "device.busy":
                self._count(kind, "busy")
                return Refused(Refusal.BUSY, 5).pack()
            self._count(kind, "refused")
            raise
        self._count(kind, "start_anew" if answer[:1] == bytes([MessageType.REFUSED]) else "done")
        return answer

    async def run(self) -> None:
        """Close sessions as they expire, until cancelled."""
        while True:
            for _ in self._sessions.sweeping(self._clock.now_ns(), lambda _session: None):
                await asyncio.sleep(0)
            for tier, count in self._sessions.counts.items():
                self._metrics.set("qedge_device_sessions", count, (tier.value,))
            await asyncio.sleep(SWEEP_S)

    async def _step(self, kind: MessageType, device_id: str, message: bytes) -> bytes:
        if device_id.startswith(GUEST_MARK):
            if kind is not MessageType.ENROL:
                raise QedgeError("device.refused", "A guest may only enrol.")
            return await self._enrolment.enrol(device_id, message)
        step = self._steps.get(kind)
        if step is None:
            raise _bad("no device says this")
        record = self._registry.get(device_id)
        wanted = DeviceTier.CONSTRAINED if kind is MessageType.JOIN else DeviceTier.RICH
        if record is None or not record.is_admitted or record.tier is not wanted:
            raise QedgeError("device.refused", f"No device {device_id!r} may open a session.")
        return await step(record, message)

    async def _ask(self, record: DeviceRecord, message: bytes) -> bytes:
        device_id = record.subject.id
        return challenge(self._place, self._authority, self._nonces, device_id, message, self._clock.now_ns())

    async def _prove(self, record: DeviceRecord, message: bytes) -> bytes:
        prove = Prove.read(message)
        subject, key = record.subject, record.key_id
        if prove.boot != self._place.boot:
            return _start_anew()
        issued_ns = self._nonces.check(subject.id, prove, self._clock.now_ns())
        if issued_ns <= record.proved_ns:
            raise QedgeError("device.refused", f"{subject.id} says again what it has said.")
        # The nonce is spent now, whatever becomes of it: each try at a signature costs an ASK, and those are limited.
        record.proved_ns = issued_ns
        known = await self._registry.keys(subject.id)
        extra = await self._extra(record, prove.extra_id)
        proof = Proof(message, prove, subject, record.parameter, known.public_key, extra)
        certificate = await self._renewed(record, known)
        full_s = int(self._config.full_s)
        opened = await self._threads.run(
            open_full,
            self._place,
            self._authority,
            proof,
            self._key_id(),
            self._random_bytes(32),
            certificate,
            self._clock.now_ns(),
            full_s,
        )
        # While the thread worked, the device may have begun anew, been revoked or brought a new key.
        if not record.is_admitted or record.key_id != key or issued_ns != record.proved_ns:
            raise QedgeError("device.refused", f"{subject.id} was overtaken.")
        record.resumption = opened.resumption
        record.resume_until_utc_ns = self._clock.utc_ns() + full_s * 1_000_000_000
        self._admit(record, opened.session, qkd_backed=bool(extra))
        return opened.message

    async def _resume(self, record: DeviceRecord, message: bytes) -> bytes:
        resume = Resume.read(message)
        left_s = (record.resume_until_utc_ns - self._clock.utc_ns()) // 1_000_000_000
        secret = record.resumption
        # More than a whole life is left where the clock was ahead when the key was proved: that says nothing any more.
        if not secret or not 1 <= left_s <= self._config.full_s + CLOCK_SLACK_S:
            return _start_anew()
        if resume.ticket != schedule.ticket_of(secret):
            return _start_anew()
        subject = record.subject
        check_resume(self._place, subject.id, secret, resume)
        self._use_counter(record, resume.counter)
        if resume.suite not in (Suite.AES_256_GCM, Suite.CHACHA20_POLY1305):
            raise QedgeError("crypto.refused_algorithm", "A device offers no suite that is allowed.")
        extra = await self._extra(record, resume.extra_id)
        # While the key store looked for the key, the device may have been cut off, revoked or given another key.
        if not record.is_admitted or record.resumption is not secret:
            raise QedgeError("device.refused", f"{subject.id} was overtaken.")
        opened = resume_session(
            self._place,
            subject,
            secret,
            extra,
            resume,
            self._key_id(),
            self._public(32),
            self._clock.now_ns(),
            int(min(left_s, self._config.full_s)),
        )
        self._admit(record, opened.session, qkd_backed=bool(extra))
        return opened.message

    async def _join(self, record: DeviceRecord, message: bytes) -> bytes:
        join = Join.read(message)
        subject = record.subject
        check_join(self._place, subject.id, record.secret, join)
        self._use_counter(record, join.counter)
        taken = self._sessions.epochs(subject.id)
        epoch = next(each for each in range(join.counter, join.counter + EPOCHS) if each % EPOCHS not in taken)
        opened = join_session(
            self._place,
            subject,
            record.secret,
            join,
            epoch % EPOCHS,
            self._public(8),
            self._clock.now_ns(),
            int(self._config.constrained_s),
        )
        self._admit(record, opened.session, qkd_backed=record.from_keys)
        return opened.message

    def _use_counter(self, record: DeviceRecord, counter: int) -> None:
        if counter <= record.counter:
            raise QedgeError("device.refused", f"{record.subject.id} says again what it has said.")
        record.counter = counter

    def _admit(self, record: DeviceRecord, session: DeviceSession, *, qkd_backed: bool) -> None:
        """Make a session count: in the book, in the lease, in what policy knows."""
        subject = record.subject
        self._sessions.add(session)
        subject.lease_until_ns = session.expires_ns
        if subject.qkd_backed != qkd_backed:
            subject.qkd_backed = qkd_backed
            subject.epoch += 1
        self._registry.touch(record)

    async def _extra(self, record: DeviceRecord, extra_id: bytes) -> bytes:
        """Return the extra key that a device names; raises `device.no_key` where there is none."""
        if not extra_id:
            return b""
        name = extra_id.decode("ascii", "replace")
        if record.extra and name == record.extra_id:
            return record.extra
        if self._keys is None:
            raise QedgeError("device.no_key", "A device names an extra key, and the node has no key store.")
        return await self._keys.collect(record.subject.id, name)

    async def _renewed(self, record: DeviceRecord, known: KeptKeys) -> bytes:
        """Return a new certificate where the old one is past two thirds of its life, else nothing."""
        utc_ns = self._clock.utc_ns()
        life_ns = round(self._certificate_s * 1e9)
        if record.certified_until_utc_ns - utc_ns > life_ns // 3:
            return b""
        serial = self._random_bytes(32)
        certificate = await self._threads.run(
            self._authority.certify,
            record.subject.id,
            device_public_key(record.parameter, known.public_key),
            utc_ns,
            self._certificate_s,
            lambda size: serial[:size],
        )
        await self._registry.save(record, keys=KeptKeys(b"", certificate))
        record.certified_until_utc_ns = utc_ns + life_ns
        return certificate

    def _key_id(self) -> int:
        return int.from_bytes(self._public(4), "big")

    def _count(self, kind: MessageType, outcome: str) -> None:
        self._metrics.add("qedge_device_handshakes_total", (kind.name.lower(), outcome))


def _start_anew() -> bytes:
    return Refused(Refusal.START_ANEW).pack()


def _bad(why: str) -> QedgeError:
    return QedgeError("device.bad_message", f"A hello cannot be read: {why}.")
