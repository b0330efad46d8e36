"""The room put together from plain arguments: registry, enrolment, sessions, administrator, desk; runs their timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.devices.administrator import Administrator
from qedge.devices.config import EnrolmentConfig, SessionsConfig
from qedge.devices.desk import DeviceDesk, History
from qedge.devices.enrolment.authority import DeviceAuthority, NodeIdentity
from qedge.devices.enrolment.makers import Makers
from qedge.devices.enrolment.refused_keys import RefusedKeys
from qedge.devices.enrolment.revoking import Revoking
from qedge.devices.enrolment.service import Enrolment, load_authority
from qedge.devices.ports import DeviceKeys
from qedge.devices.registry.model import DeviceRecord
from qedge.devices.registry.service import DeviceRegistry
from qedge.devices.sessions.book import DeviceSessions
from qedge.devices.sessions.doorman import DeviceDoorman
from qedge.devices.sessions.places import Place
from qedge.devices.sessions.service import DeviceGreeter
from qedge.devices.sessions.threads import PublicKeyThreads
from qedge.store.store import Store

_HOUR_S: Final = 3600.0
_RETRY_S: Final = 60.0
_LOG: Final = get_logger("devices")


@dataclass(frozen=True, slots=True)
class Devices:
    """Everything about devices but ways in, enforcement, segments and onward. `run` until the node stops."""

    place: Place
    registry: DeviceRegistry
    authority: DeviceAuthority
    sessions: DeviceSessions
    enrolment: Enrolment
    greeter: DeviceGreeter
    doorman: DeviceDoorman
    administrator: Administrator
    revoking: Revoking
    desk: DeviceDesk
    threads: PublicKeyThreads

    async def run(self) -> None:
        """Save, sweep and renew, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.registry.run())
                tasks.create_task(self.greeter.run())
                tasks.create_task(self._renew())
        except asyncio.CancelledError:
            # after a fault the room is run again, and needs them then
            self.threads.close()
            raise

    async def _renew(self) -> None:
        while True:
            pause_s = _HOUR_S
            try:
                await self.revoking.renew_if_due()
            except QedgeError as error:
                # The old key opens what it opened; a full disk must not take the room with it.
                _LOG.warning("device.key_not_renewed", code=error.code)
                pause_s = _RETRY_S
            await asyncio.sleep(pause_s)


@dataclass(frozen=True, slots=True)
class Tools:
    """What every part needs of the node. `uniform` returns numbers in [0, 1), for jitter."""

    store: Store
    clock: Clock
    random_bytes: RandomBytes
    uniform: Callable[[], float]
    metrics: Metrics


async def open_devices(
    sessions_config: SessionsConfig,
    enrolment_config: EnrolmentConfig,
    identity: NodeIdentity,
    tools: Tools,
    *,
    address: Callable[[], str],
    keys: DeviceKeys | None = None,
    history: History | None = None,
) -> Devices:
    """Open the room: reads devices and keys from the database, makes keys that are missing. Raises `device.bad_maker`.

    `address` returns where devices connect; `keys` is the key store's port, `history` that of the trust in devices.
    """
    clock, random_bytes = tools.clock, tools.random_bytes
    place = Place(identity.fleet, identity.node, random_bytes(16))
    authority = await load_authority(tools.store, identity, sessions_config.kem_key_s, clock.utc_ns(), random_bytes)
    registry = DeviceRegistry(sessions_config, store=tools.store, clock=clock, metrics=tools.metrics)
    await registry.load()
    threads = PublicKeyThreads(sessions_config.threads, sessions_config.waiting)
    sessions = DeviceSessions()
    administrator = Administrator(place, registry=registry, sessions=sessions)
    revoking = Revoking(
        store=tools.store,
        authority=authority,
        threads=threads,
        refused=RefusedKeys(identity.node),
        kem_life_s=sessions_config.kem_key_s,
        clock=clock,
        random_bytes=random_bytes,
    )
    makers = Makers.from_pem(await asyncio.to_thread(_read_files, enrolment_config.manufacturer_files))
    enrolment = _enrolment(enrolment_config, tools, authority, registry, threads, makers, administrator, revoking)
    greeter = DeviceGreeter(
        sessions_config,
        enrolment_config,
        place=place,
        registry=registry,
        sessions=sessions,
        authority=authority,
        enrolment=enrolment,
        threads=threads,
        keys=keys,
        clock=clock,
        random_bytes=random_bytes,
        uniform=tools.uniform,
        metrics=tools.metrics,
    )
    doorman = DeviceDoorman(place, registry=registry, enrolment=enrolment, clock=clock)
    desk = _desk(
        enrolment_config, tools, authority, registry, sessions, administrator, revoking, address, keys, history
    )
    return Devices(
        place, registry, authority, sessions, enrolment, greeter, doorman, administrator, revoking, desk, threads
    )


def _enrolment(
    config: EnrolmentConfig,
    tools: Tools,
    authority: DeviceAuthority,
    registry: DeviceRegistry,
    threads: PublicKeyThreads,
    makers: Makers,
    administrator: Administrator,
    revoking: Revoking,
) -> Enrolment:
    async def replaced(record: DeviceRecord, old_key_id: bytes) -> None:
        administrator.replaced(record)
        await revoking.retire(record.subject.id, old_key_id, record.certified_until_utc_ns)

    return Enrolment(
        config,
        authority=authority,
        registry=registry,
        threads=threads,
        makers=makers,
        refused=revoking.refused,
        clock=tools.clock,
        random_bytes=tools.random_bytes,
        metrics=tools.metrics,
        replaced=replaced,
    )


def _desk(
    config: EnrolmentConfig,
    tools: Tools,
    authority: DeviceAuthority,
    registry: DeviceRegistry,
    sessions: DeviceSessions,
    administrator: Administrator,
    revoking: Revoking,
    address: Callable[[], str],
    keys: DeviceKeys | None,
    history: History | None,
) -> DeviceDesk:
    return DeviceDesk(
        config,
        address=address,
        registry=registry,
        sessions=sessions,
        authority=authority,
        administrator=administrator,
        revoking=revoking,
        keys=keys,
        history=history,
        clock=tools.clock,
        random_bytes=tools.random_bytes,
    )


def _read_files(names: Sequence[str]) -> list[bytes]:
    return [Path(name).read_bytes() for name in names]
