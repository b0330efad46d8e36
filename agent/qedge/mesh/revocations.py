"""The newest list of revoked keys: taken once, in force at once, written down, and passed on."""

from __future__ import annotations

import asyncio
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.bus.service import Bus
from qedge.crypto.trust import Trust
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.ports import KeepRevocations
from qedge.wire.envelope import Header, encode, purpose_of
from qedge.wire.topics import Channel, topic
from qedge.wire.trust import AUTHORITY, RevocationNotice

_LOG: Final = get_logger("mesh")
_WRITE_AGAIN_S: Final = 1.0


class Revocations:
    """Hands signed lists to `trust`, and the newest one to the disk and to the fleet."""

    def __init__(
        self,
        identity: NodeIdentity,
        trust: Trust,
        *,
        bus: Bus,
        thread: CryptoThread,
        keep: KeepRevocations,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._trust = trust
        self._bus = bus
        self._thread = thread
        self._keep = keep
        self._clock = clock
        self._signed = b""

    async def learn(self, signed: bytes) -> bool:
        """Take a list; says whether it is newer than what was known. Raises `auth.*` where it is not good."""
        if not await self._thread.run(self._trust.take_revocations, signed, self._clock.utc_ns()):
            return False
        self._signed = signed
        _LOG.warning("trust.revocations", serial=self._trust.serial, keys=len(self._trust.revoked_keys))
        return True

    async def write(self) -> bool:
        """Write the newest list down; False where the disk does not take it."""
        try:
            await self._keep(self._identity.fleet, self._trust.serial, self._signed)
        except QedgeError as error:
            _LOG.error("trust.not_kept", serial=self._trust.serial, code=error.code)
            return False
        return True

    async def write_later(self) -> None:
        """Try to write the newest list down until it is."""
        written = False
        while not written:
            await asyncio.sleep(_WRITE_AGAIN_S)
            written = await self.write()

    async def publish(self) -> None:
        """Pass the newest list on, if any came while this node runs."""
        if not self._signed:
            return
        where = topic(self._identity.fleet, AUTHORITY, Channel.REVOKED)
        header = Header(where, AUTHORITY, self._trust.serial, purpose_of(RevocationNotice), self._clock.utc_ns())
        try:
            await self._bus.publish(where, encode(header, RevocationNotice(self._signed)), qos=1, retain=True)
        except QedgeError as error:
            _LOG.debug("bus.rejected", topic=where, reason=str(error))
