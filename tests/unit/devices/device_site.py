"""A node with devices for tests: the true rooms over a database in a folder, a clock turned by hand, seeded bytes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.crypto.certificates import make_issuing, make_leaf, make_root
from qedge.crypto.keys import generate
from qedge.crypto.model import Role, Subject
from qedge.crypto.trust import Trust
from qedge.devices.config import EnrolmentConfig, SessionsConfig
from qedge.devices.enrolment.authority import NodeIdentity
from qedge.devices.service import Devices, Tools, open_devices
from qedge.store.store import Store
from qedge.wire.gateway import DeviceAdd, DeviceProfile
from qedge.wire.trust import Anchor
from qedge_device.constrained import ConstrainedDevice
from qedge_device.messages import MessageType
from qedge_device.rich import RichDevice

FLEET = "lab"
_ENROLMENT, _SESSIONS = EnrolmentConfig(), SessionsConfig()
METER = DeviceProfile(device_class="meter", segment="hall", groups=("north", "power"), attributes={"floor": "2"})


@dataclass
class World:
    """What nodes of one fleet share: an authority of a fleet, a clock and a source of bytes."""

    seed: int = 7
    clock: ManualClock = field(default_factory=lambda: ManualClock(1_000_000_000))

    def __post_init__(self) -> None:
        self.random_bytes = random.Random(self.seed).randbytes
        utc_ns = self.clock.utc_ns()
        root, self.issuing = generate("ml-dsa-87", self.random_bytes), generate("ml-dsa-65", self.random_bytes)
        self.root_der = make_root(FLEET, root, utc_ns, self.random_bytes, 7300)
        self.issuing_der = make_issuing(
            FLEET, self.issuing.public_key, self.root_der, root, utc_ns, self.random_bytes, 730
        )

    def identity(self, node: str) -> NodeIdentity:
        """Make a member of the fleet."""
        key = generate("ml-dsa-65", self.random_bytes)
        subject = Subject(FLEET, Role.NODE, node)
        leaf = make_leaf(
            subject, key.public_key, self.issuing_der, self.issuing, self.clock.utc_ns(), 90, self.random_bytes
        )
        return NodeIdentity(FLEET, node, key, (leaf, self.issuing_der))

    def trust(self) -> Trust:
        """Return what members of the fleet believe."""
        return Trust(Anchor(FLEET, self.root_der), FLEET)


class FakeKeys:
    """A key store with keys for devices, by id."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}
        self.taken = 0

    async def fresh(self, device_id: str) -> tuple[str, bytes]:
        """Give a key that only this device gets."""
        self.taken += 1
        return f"key-{self.taken}", bytes([self.taken]) * 32

    async def collect(self, device_id: str, key_id: str) -> bytes:
        """Give a key once."""
        try:
            return self.keys.pop(key_id)
        except KeyError:
            raise QedgeError("device.no_key", "No such key.") from None


class FakeWay:
    """A way to devices that notes what it is told."""

    def __init__(self) -> None:
        self.cuts: list[str] = []
        self.sent: list[tuple[str, str, bytes]] = []

    def send(self, device_id: str, topic: str, payload: bytes) -> bool:
        """Note a message."""
        self.sent.append((device_id, topic, payload))
        return True

    def cut(self, device_id: str) -> bool:
        """Note that a connection is to be closed."""
        self.cuts.append(device_id)
        return True


@dataclass
class Site:
    """A node whose devices are open."""

    world: World
    devices: Devices
    store: Store
    keys: FakeKeys
    way: FakeWay
    metrics: Metrics

    @property
    def clock(self) -> ManualClock:
        """The clock of the world."""
        return self.world.clock

    def now_s(self) -> float:
        """Return the clock that devices are given."""
        return self.world.clock.now_ns() / 1e9

    async def invited(self, name: str = "meter-1", parameter: int = 44) -> RichDevice:
        """Add a rich device and hand it its line."""
        line = (await self.devices.desk.add(DeviceAdd(name, profile=METER))).line
        return RichDevice.from_invitation(line, random_bytes=self.world.random_bytes, parameter=parameter)

    async def enrolled(self, name: str = "meter-1", parameter: int = 44) -> RichDevice:
        """Add a rich device and enrol it."""
        device = await self.invited(name, parameter)
        await self.talk(device)
        return device

    async def opened(self, name: str = "meter-1", parameter: int = 44) -> RichDevice:
        """Add a rich device, enrol it and open a session."""
        device = await self.enrolled(name, parameter)
        await self.talk(device)
        return device

    async def constrained(self, name: str = "tag-1") -> ConstrainedDevice:
        """Add a constrained device and let it join."""
        wanted = DeviceAdd(name, tier="constrained", profile=METER)
        line = (await self.devices.desk.add(wanted)).line
        device = ConstrainedDevice.from_invitation(line, random_bytes=self.world.random_bytes)
        await self.join(device)
        return device

    async def join(self, device: ConstrainedDevice) -> None:
        """Let a constrained device join."""
        self.clock.advance_s(0.01)
        device.receive(await self.devices.greeter.greet(device.device, device.hello()))

    async def talk(self, device: RichDevice) -> list[MessageType]:
        """Carry the messages of one handshake or enrolment; returns the types of what was said."""
        self.clock.advance_s(0.01)
        said: list[MessageType] = []
        message: bytes | None = device.hello()
        who = device.username
        while message is not None:
            answer = await self.devices.greeter.greet(who, message)
            said += [MessageType(message[0]), MessageType(answer[0])]
            message = device.receive(answer, self.now_s())
        return said

    def up(self, device_id: str, frame: bytes) -> bytes:
        """Open a frame as the enforcement point does; raises `LookupError` where no session fits."""
        session = self.devices.sessions.find(device_id, frame)
        if session is None:
            raise LookupError(device_id)
        return session.opener.open(frame, session.up_topic)


@asynccontextmanager
async def site(
    folder: Path,
    *,
    world: World | None = None,
    node: str = "box-1",
    identity: NodeIdentity | None = None,
    enrolment: EnrolmentConfig = _ENROLMENT,
    sessions: SessionsConfig = _SESSIONS,
) -> AsyncIterator[Site]:
    """Open a node's devices on the database in `folder`."""
    world = world or World()
    metrics = Metrics()
    store = Store(folder / f"{node}.sqlite3", metrics=metrics)
    keys, way = FakeKeys(), FakeWay()
    devices = await open_devices(
        sessions,
        enrolment,
        identity or world.identity(node),
        Tools(store, world.clock, world.random_bytes, random.Random(3).random, metrics),
        address=lambda: "mqtt://127.0.0.1:1884",
        keys=keys,
    )
    devices.administrator.add_way(way)
    try:
        yield Site(world, devices, store, keys, way, metrics)
    finally:
        devices.threads.close()
        store.close()
