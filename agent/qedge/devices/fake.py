"""Stand-ins for what the ways in and the enforcement point need, for tests and measurements."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from qedge.devices.model import DeviceSession, DeviceTier
from qedge.security.model import Action, Decision, Evidence, Reason, Resource, Subject, SubjectKind
from qedge.wire.attached import DeviceLeaf, device_topic, pack_reading, unpack_reading
from qedge_device.frame import VERSION, Opener, Sealer, Suite

FOREVER_NS = 1 << 62


class FakeDevice:
    """The other half of a session of `FakeSessionBook`: what runs on the device."""

    def __init__(self, fleet: str, node: str, name: str, key_id: int) -> None:
        self.name = name
        self.up_topic = device_topic(fleet, node, name, DeviceLeaf.UP)
        self.down_topic = device_topic(fleet, node, name, DeviceLeaf.DOWN)
        self.hello_topic = device_topic(fleet, node, name, DeviceLeaf.HELLO)
        self.welcome_topic = device_topic(fleet, node, name, DeviceLeaf.WELCOME)
        secret = hashlib.sha512(f"{name}/{key_id}".encode()).digest()
        self.key_id = key_id
        self.keys = (secret[:32], secret[32:44]), (hashlib.sha256(secret).digest(), secret[44:56])
        self.sealer = Sealer(Suite.AES_256_GCM, *self.keys[0], key_id)
        self.opener = Opener(Suite.AES_256_GCM, *self.keys[1], key_id)

    @property
    def password(self) -> bytes:
        """Return what `FakeDoorman` lets in."""
        return b"of " + self.name.encode()

    def seal(self, channel: str, body: bytes) -> bytes:
        """Seal a reading."""
        return self.sealer.seal(pack_reading(channel, body), self.up_topic)

    def open(self, frame: bytes) -> tuple[str, bytes]:
        """Open a command; returns its name and body."""
        return unpack_reading(self.opener.open(frame, self.down_topic))


class FakeSessionBook:
    """Sessions that were never negotiated; one of each device, kept by key id."""

    def __init__(self, fleet: str = "f", node: str = "n") -> None:
        self._fleet = fleet
        self._node = node
        self._sessions: dict[str, tuple[bytes, DeviceSession]] = {}
        self._last_id = 0

    def open(self, subject: Subject) -> FakeDevice:
        """Open a session in place of the one that a device has; returns the device's half."""
        self._last_id += 1
        device = FakeDevice(self._fleet, self._node, subject.id, self._last_id)
        session = DeviceSession(
            subject=subject,
            tier=DeviceTier.RICH,
            key_id=device.key_id,
            opener=Opener(Suite.AES_256_GCM, *device.keys[0], device.key_id, 256),
            sealer=Sealer(Suite.AES_256_GCM, *device.keys[1], device.key_id),
            up_topic=device.up_topic,
            down_topic=device.down_topic,
            opened_ns=0,
            expires_ns=FOREVER_NS,
        )
        self._sessions[subject.id] = (bytes([VERSION]) + device.key_id.to_bytes(4, "big"), session)
        return device

    def find(self, device_id: str, frame: bytes) -> DeviceSession | None:
        """Return the session of a device that a frame says it belongs to."""
        known = self._sessions.get(device_id)
        return known[1] if known is not None and frame.startswith(known[0]) else None

    def current(self, device_id: str) -> DeviceSession | None:
        """Return the session of a device."""
        known = self._sessions.get(device_id)
        return known[1] if known is not None else None

    def close(self, device_id: str) -> None:
        """Forget a session."""
        self._sessions.pop(device_id, None)


@dataclass
class FakeJudge:
    """Permits everything but what `denied` names, by a device, a channel or a command; notes what it was asked."""

    denied: dict[str, Reason] = field(default_factory=dict)
    asked: list[tuple[str, Action, str]] = field(default_factory=list)

    def decide(self, subject: Subject | None, action: Action, resource: Resource, now_ns: int, utc_ns: int) -> Decision:
        """Decide one request."""
        self.asked.append((subject.id if subject is not None else "", action, resource.name))
        if subject is None:
            return Decision(False, Reason.UNKNOWN)
        if subject.revoked:
            return Decision(False, Reason.REVOKED)
        if subject.quarantined:
            return Decision(False, Reason.QUARANTINED)
        reason = self.denied.get(subject.id) or self.denied.get(resource.name)
        return Decision(False, reason) if reason is not None else Decision(True, Reason.ALLOWED)


@dataclass
class FakeDoorman:
    """Lets in a device whose user name it knows and whose password is `of NAME`."""

    subjects: dict[str, Subject] = field(default_factory=dict)

    def add(self, name: str, *, segment: str = "s", safety: bool = False) -> Subject:
        """Make a device known."""
        subject = Subject(name, SubjectKind.DEVICE, segment=segment, safety=safety, lease_until_ns=FOREVER_NS)
        self.subjects[name] = subject
        return subject

    async def check(self, client_id: str, username: str, password: bytes) -> Subject | None:
        """Return who that is."""
        return self.subjects.get(username) if password == b"of " + username.encode() else None


@dataclass
class FakeGreeter:
    """Answers every hello with `answer`, which may raise."""

    answer: Callable[[str, bytes], bytes] = lambda device_id, message: b"welcome " + message
    heard: list[tuple[str, bytes]] = field(default_factory=list)

    async def greet(self, device_id: str, message: bytes) -> bytes:
        """Take one step."""
        self.heard.append((device_id, message))
        return self.answer(device_id, message)


@dataclass
class FakeConsumer:
    """Keeps what it takes: device, channel, body."""

    taken: list[tuple[str, str, bytes]] = field(default_factory=list)

    def take(self, subject: Subject, channel: str, body: bytes, now_ns: int) -> None:
        """Take one reading."""
        self.taken.append((subject.id, channel, body))


@dataclass
class FakeWitness:
    """Keeps what it hears."""

    denials: list[tuple[str, Action, str, Reason]] = field(default_factory=list)
    oddities: list[tuple[str, Evidence]] = field(default_factory=list)

    def denied(
        self, subject: Subject | None, action: Action, resource: Resource, decision: Decision, now_ns: int, utc_ns: int
    ) -> None:
        """Note a decision that did not permit."""
        self.denials.append((subject.id if subject is not None else "", action, resource.name, decision.reason))

    def odd(self, device_id: str, evidence: Evidence, now_ns: int, utc_ns: int) -> None:
        """Note something odd."""
        self.oddities.append((device_id, evidence))


@dataclass
class FakeWay:
    """A way that reaches the devices in `reached`."""

    reached: set[str] = field(default_factory=set)
    sent: list[tuple[str, str, bytes]] = field(default_factory=list)

    def send(self, device_id: str, topic: str, payload: bytes) -> bool:
        """Keep a message for a device that is reached."""
        if device_id not in self.reached:
            return False
        self.sent.append((device_id, topic, payload))
        return True

    def cut(self, device_id: str) -> bool:
        """Reach a device no more."""
        if device_id not in self.reached:
            return False
        self.reached.discard(device_id)
        return True


@dataclass
class FakeKeeper:
    """Calls back when it is told that all is safe."""

    waiting: list[Callable[[], None]] = field(default_factory=list)

    def when_safe(self, then: Callable[[], None]) -> bool:
        """Keep the callback."""
        self.waiting.append(then)
        return False

    def settle(self) -> None:
        """Say that all that was taken is safe."""
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then()


@dataclass
class FakeAudience:
    """Lets everybody join the topics in `open_topics`."""

    open_topics: set[str] = field(default_factory=set)
    members: set[tuple[str, str]] = field(default_factory=set)

    def join(self, subject: Subject, topic: str, now_ns: int, utc_ns: int) -> bool:
        """Let a device join."""
        if topic not in self.open_topics:
            return False
        self.members.add((subject.id, topic))
        return True

    def leave(self, device_id: str, topic: str) -> None:
        """Take a device out."""
        self.members.discard((device_id, topic))
