"""Keys that count no more: those of devices, which go on the signed list, and the node's own, which are replaced."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from qedge.base.clock import Clock
from qedge.base.ids import RandomBytes
from qedge.devices.enrolment import rows
from qedge.devices.enrolment.authority import KEM_KEYS_KEPT, DeviceAuthority, make_kem
from qedge.devices.enrolment.ports import Threads
from qedge.devices.enrolment.refused_keys import RefusedKeys
from qedge.devices.enrolment.revocations import sign_list
from qedge.store.store import Store
from qedge.wire.gateway import RevokedDevice, SignedByNode

ROOT_LISTED_S: Final = 5 * 365 * 86_400
"""How long the root of a constrained device is on the list; nothing else ends it."""

_SECOND_NS: Final = 1_000_000_000


class Revoking:
    """Keeps the list of revoked devices and the node's key statement up to date."""

    def __init__(
        self,
        *,
        store: Store,
        authority: DeviceAuthority,
        threads: Threads,
        refused: RefusedKeys,
        kem_life_s: float,
        clock: Clock,
        random_bytes: RandomBytes,
    ) -> None:
        self._store = store
        self._authority = authority
        self._threads = threads
        self.refused = refused
        self._kem_life_s = kem_life_s
        self._clock = clock
        self._random_bytes = random_bytes
        self._unwritten: dict[bytes, RevokedDevice] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called when a key was put on the list."""

    async def retire(self, device: str, key_id: bytes, certified_until_utc_ns: int, *, is_root: bool = False) -> None:
        """Put a key on the list until its certificate ends; nothing for a device that had none.

        The root of a constrained device has no certificate: it stays there for `ROOT_LISTED_S`. A certificate that has
        ended by the clock is put down all the same, since the clock may run ahead; the list leaves it out meanwhile.
        """
        utc_ns = self._clock.utc_ns()
        until_utc_ns = utc_ns + ROOT_LISTED_S * _SECOND_NS if is_root else certified_until_utc_ns
        if key_id and until_utc_ns > 0:
            self.refused.add_own(key_id)
            self._unwritten[key_id] = RevokedDevice(device, key_id, until_utc_ns // _SECOND_NS + 1)
            try:
                await self._write_down()
            finally:
                self.changed()  # where the disk did not take it, it is tried again before the list is signed

    async def signed_list(self) -> SignedByNode:
        """Sign the list as it is now, under the next serial."""
        await self._write_down()
        utc_ns = self._clock.utc_ns()
        revoked = await self._store.write(
            lambda connection: rows.load_revoked(connection, utc_ns // _SECOND_NS), accepted=True
        )
        serial = await self._store.write(lambda connection: rows.next_serial(connection, utc_ns), accepted=True)
        return await self._threads.run(sign_list, self._authority.identity, serial, utc_ns, revoked)

    async def _write_down(self) -> None:
        for key_id, revoked in list(self._unwritten.items()):
            await self._store.write(partial(rows.add_revoked, revoked=revoked), accepted=True)
            self._unwritten.pop(key_id, None)

    async def renew_kem(self) -> None:
        """Make a new key to which devices seal; the one before stays good, older ones are destroyed."""
        seed = self._random_bytes(96)
        newest = self._authority.newest
        made = await self._threads.run(
            make_kem,
            self._authority.identity,
            newest.serial + 1,
            self._clock.utc_ns(),
            self._kem_life_s,
            lambda size: seed[:size],
        )
        kept = await self._store.read(rows.load_node_keys)
        kem_keys = [made, *(each for each in kept if each.kind == "kem")][:KEM_KEYS_KEPT]
        keys = [*(each for each in kept if each.kind == "authority"), *kem_keys]
        await self._store.write(lambda connection: rows.replace_node_keys(connection, keys))
        self._authority.take_kem(made)

    async def renew_if_due(self) -> bool:
        """Make a new key where the newest is at its end; says whether."""
        due = self._authority.newest.until_utc_ns <= self._clock.utc_ns()
        if due:
            await self.renew_kem()
        return due
