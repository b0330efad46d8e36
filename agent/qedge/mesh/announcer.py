"""What this node says of itself: its signed birth, heartbeats between births, and leave at the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.bus.model import LastWill
from qedge.bus.service import Bus
from qedge.crypto.keys import SigningKey
from qedge.crypto.signed import ShowsChain, sign_envelope
from qedge.mesh.birth import NodeIdentity, Serials, differs, make_birth
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.ports import Capabilities
from qedge.mesh.pulse import ELEMENT_BYTES, PULSE_COUNT, Heart, PulseChain, pulse_binding
from qedge.wire.envelope import Header, encode, purpose_of
from qedge.wire.mesh import Birth, Lost, NodeState
from qedge.wire.topics import Channel, topic

_LOG: Final = get_logger("mesh")
_SETTLE_S: Final = 0.2
_RETRY_S: Final = 2.0
_LEAVE_LIMIT_S: Final = 0.5
_WILL_DELAY_S: Final = 1
_NOT_CONNECTED_S: Final = 0.2
_REPAIR_NS: Final = 3_000_000_000
INSTANCE_BYTES: Final = 16


class Announcer:
    """Publishes the birth whenever it says something new, and heartbeats as long as it stands.

    `period_s` and `revocation_serial` are asked for at every birth. The last will is not signed: it is written before
    anything happened, so a signature would let a broker show it at any time; it only makes peers look closer.
    """

    def __init__(
        self,
        identity: NodeIdentity,
        key: SigningKey,
        chain: ShowsChain,
        *,
        bus: Bus,
        thread: CryptoThread,
        capabilities: Capabilities,
        clock: Clock,
        random_bytes: RandomBytes,
        period_s: Callable[[], float],
        revocation_serial: Callable[[], int],
    ) -> None:
        self._identity = identity
        self._key = key
        self._chain = chain
        self._bus = bus
        self._thread = thread
        self._capabilities = capabilities
        self._clock = clock
        self._random_bytes = random_bytes
        self._period_s = period_s
        self._revocation_serial = revocation_serial
        self._sequence = itertools.count()
        self._published: Birth | None = None
        self._heart: Heart | None = None
        self._message = b""
        self._spoken_utc_ns = 0
        self._repaired_ns = clock.now_ns()
        self._due = asyncio.Event()
        self._force = False
        self.instance = random_bytes(INSTANCE_BYTES)
        """Tells this start of the node from any other that may claim its name."""

        self.silent = False
        """Set where another box speaks under this node's name: then this one says nothing."""

        self.serials: Callable[[], Serials] = Serials
        self.config_serial: Callable[[], int] = int
        """Asked for at every birth; whoever takes devices sets it."""

        self.on_birth: Callable[[Birth], None] = lambda _birth: None
        self.where = topic(identity.fleet, identity.node, Channel.BIRTH)
        bus.on_session(self._new_session)
        bus.set_will(self._will)

    def look(self, *, force: bool = False) -> None:
        """Publish the birth soon where it says something new; with `force` in any case."""
        self._force |= force
        self._due.set()

    async def run(self) -> None:
        """Speak until cancelled, then take leave."""
        self._due.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_birth())
                group.create_task(self._beat())
        finally:
            await self._take_leave()

    async def _new_session(self, _session_present: bool) -> None:
        # Even a broker that kept the session may have published the will in the meantime.
        self.look(force=True)

    async def _keep_birth(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if self._published is not None:
                await asyncio.sleep(_SETTLE_S)  # several drivers often change together
            birth = self._birth(NodeState.UP)
            if self.silent or not self._bus.connected or not (self._force or differs(self._published, birth)):
                continue  # every new session makes it due
            self._force = False
            try:
                await self._publish(birth)
            except QedgeError:
                self._force = True
                await asyncio.sleep(_RETRY_S)
                self._due.set()

    async def _publish(self, birth: Birth) -> None:
        """Sign and publish a birth with a new chain of heartbeats."""
        seed = self._random_bytes(ELEMENT_BYTES)
        binding = pulse_binding(birth.node, birth.epoch, birth.instance)
        chain = await self._thread.run(PulseChain, seed, PULSE_COUNT, binding)
        # Peers take the later of two births by this time, so it grows even where the wall clock steps back.
        self._spoken_utc_ns = max(self._clock.utc_ns(), self._spoken_utc_ns + 1)
        birth = msgspec.structs.replace(
            birth,
            utc_ns=self._spoken_utc_ns,
            pulse_ms=round(self._period_s() * 1000),
            pulse_anchor=chain.anchor,
            pulse_count=chain.count,
        )
        header = self._header(self.where, birth)
        message = await self._thread.run(sign_envelope, header, birth, self._key, self._chain)
        self._message = message
        # Peers count from the receipt of the birth, which may come long before the broker's acknowledgement.
        born_ns = self._repaired_ns = self._clock.now_ns()
        await self._bus.publish(self.where, message, qos=1, retain=True)
        self._published = birth
        self._heart = Heart(chain, birth, born_ns)
        self.on_birth(birth)
        _LOG.info("mesh.birth_published", capabilities=[each.name for each in birth.capabilities])

    async def _beat(self) -> None:
        where = topic(self._identity.fleet, self._identity.node, Channel.PULSE)
        while True:
            heart = self._heart
            if heart is None or self.silent or not self._bus.connected:
                await asyncio.sleep(_NOT_CONNECTED_S)
                continue
            await asyncio.sleep(max(0.01, (heart.due_ns - self._clock.now_ns()) / 1e9))
            pulse = heart.beat(self._clock.now_ns()) if heart is self._heart else None
            if heart.exhausted:
                self._heart = None
                self.look(force=True)
            if pulse is not None:
                try:
                    await self._bus.publish(where, encode(self._header(where, pulse), pulse), qos=0)
                except QedgeError:
                    continue  # the next one shows as much

    async def _take_leave(self) -> None:
        if self._bus.connected and self._published is not None and not self.silent:
            try:
                async with asyncio.timeout(_LEAVE_LIMIT_S):
                    await self._publish(self._birth(NodeState.LEAVING))
            except (QedgeError, TimeoutError, RuntimeError):
                return

    def reach_epoch(self, epoch: int) -> None:
        """Speak with at least this epoch: an earlier run of this node, whose state was lost, had come that far."""
        if epoch > self._identity.epoch:
            self._identity = replace(self._identity, epoch=epoch)

    def heard_own(self, payload: bytes) -> None:
        """Take what stands on the own birth's topic: where it is not what this node said last, it says it again."""
        if payload != self._message and self._clock.now_ns() - self._repaired_ns > _REPAIR_NS:
            self._repaired_ns = self._clock.now_ns()
            _LOG.warning("mesh.birth_overwritten")
            self.look(force=True)

    def _will(self) -> LastWill:
        where = topic(self._identity.fleet, self._identity.node, Channel.LOST)
        lost = Lost(self._identity.epoch, self.instance)
        return LastWill(where, encode(self._header(where, lost), lost), _WILL_DELAY_S)

    def _birth(self, state: NodeState) -> Birth:
        drivers = self._capabilities.drivers() if state is NodeState.UP else ()
        birth = make_birth(self._identity, drivers, self._clock.utc_ns(), state)
        serials = self.serials()
        return msgspec.structs.replace(
            birth,
            instance=self.instance,
            revocation_serial=self._revocation_serial(),
            policy_serial=serials.policy,
            devices_serial=serials.devices,
            config_serial=self.config_serial(),
        )

    def _header(self, where: str, body: msgspec.Struct) -> Header:
        return Header(where, self._identity.node, next(self._sequence), purpose_of(type(body)), self._clock.utc_ns())
