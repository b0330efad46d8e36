"""Nodes with devices that tell each other which of them they have revoked, over a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from qedge.devices.enrolment.authority import NodeIdentity
from qedge.devices.enrolment.lists import DeviceLists
from qedge.devices.enrolment.revocations import PeerDevices
from qedge.devices.segments.fake import FakePeers
from qedge.mesh.crypto_thread import CryptoThread
from qedge.wire.topics import Channel, topic
from qedge_device.rich import RichDevice
from tests.unit.devices.device_site import FLEET, Site, World, site
from tests.unit.mesh.mesh_site import MemoryBroker, MemoryBus

MAX_AGE_S: Final = 86_400.0
SEED: Final = b"k" * 32
"""From which the key of a device is made that is known at more than one node."""


def list_of(node: str) -> str:
    """Return the topic of a node's list."""
    return topic(FLEET, node, Channel.DEVICES_REVOKED)


class ListNode:
    """One node. `told` keeps what was barred and unbarred; `announced` is what births of others say."""

    def __init__(self, name: str, here: Site, broker: MemoryBroker, network: dict[str, FakePeers]) -> None:
        self.name = name
        self.here = here
        self.bus = MemoryBus(broker)
        self.told: list[tuple[str, str, bool]] = []
        self.announced: dict[str, int] = {}
        self.peers = PeerDevices(here.world.trust(), MAX_AGE_S)
        self.thread, devices = CryptoThread(), here.devices
        self.lists = DeviceLists(
            FLEET,
            name,
            peers=self.peers,
            revoking=devices.revoking,
            registry=devices.registry,
            bar=devices.administrator.bar,
            store=here.store,
            bus=self.bus,
            sessions=FakePeers(name, network),
            thread=self.thread,
            announced=lambda: self.announced,
            told=lambda *what: self.told.append(what),
            renewed=lambda: None,
            max_age_s=MAX_AGE_S,
            clock=here.clock,
            metrics=here.metrics,
        )

    def barred(self, device: str) -> str:
        """Return who has revoked the key of a device."""
        return self.here.devices.registry.require(device).barred

    async def known(self, name: str, seed: bytes = SEED) -> RichDevice:
        """Enrol a device whose key comes from `seed`, and let it open a session."""
        device = await self.here.invited(name)
        device = with_key(device, seed)
        await self.here.talk(device)
        await self.here.talk(device)
        return device


def with_key(device: RichDevice, seed: bytes) -> RichDevice:
    """Give a device that was invited a key that it has from elsewhere."""
    device.kept.seed = seed
    return RichDevice(device.kept, device._random_bytes)


class ListFleet:
    """Nodes of one fleet on one broker; a node that runs again has the identity and the database that it had."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        self.broker = MemoryBroker()
        self._folder = folder
        self._network: dict[str, FakePeers] = {}
        self._identities: dict[str, NodeIdentity] = {}

    def identity(self, name: str) -> NodeIdentity:
        """Return the identity of a node."""
        if name not in self._identities:
            self._identities[name] = self.world.identity(name)
        return self._identities[name]

    @asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[ListNode]:
        """Run a node."""
        async with site(self._folder, world=self.world, node=name, identity=self.identity(name)) as here:
            node = ListNode(name, here, self.broker, self._network)
            await node.lists.open()
            await node.bus.connect()
            tasks = [asyncio.create_task(node.lists.run(lambda: None)), asyncio.create_task(node.bus.pump())]
            try:
                yield node
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self.broker.buses.remove(node.bus)
                node.thread.close()
                del self._network[name]
