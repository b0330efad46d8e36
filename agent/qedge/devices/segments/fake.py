"""Stand-ins for what segments need, for tests and examples; each keeps what it was given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.bus.model import Handler, Incoming
from qedge.devices.segments.model import RetentionClass
from qedge.devices.segments.ports import KnownCommand
from qedge.security.model import Action, Decision, Reason, Resource, Subject, SubjectKind
from qedge.wire.envelope import purpose_of
from qedge.wire.topics import matches

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class FakeJudge:
    """Permits what was permitted: triples of subject id, action and resource name (`*`: any)."""

    def __init__(self, *permits: tuple[str, Action, str]) -> None:
        self.permits = set(permits)
        self.asked = 0

    def decide(
        self, subject: Subject | None, action: Action, resource: Resource, now_ns: int, _utc_ns: int
    ) -> Decision:
        """Decide by identity, standing and the list."""
        self.asked += 1
        if subject is None:
            return Decision(False, Reason.UNKNOWN)
        if subject.revoked:
            return Decision(False, Reason.REVOKED)
        if subject.quarantined:
            return Decision(False, Reason.QUARANTINED)
        if subject.lease_until_ns <= now_ns:
            return Decision(False, Reason.LEASE)
        ways = {(who, action, what) for who in (subject.id, "*") for what in (resource.name, "*")}
        return Decision(True, Reason.ALLOWED, "fake") if ways & self.permits else Decision(False, Reason.NO_RULE)


class FakeSubjects:
    """Subjects by kind and id."""

    def __init__(self, *subjects: Subject) -> None:
        self.known = {(each.kind, each.id): each for each in subjects}

    def find(self, kind: SubjectKind, name: str) -> Subject | None:
        """Return a subject."""
        return self.known.get((kind, name))


class FakeDownlink:
    """Keeps what goes to devices, and hands it to whoever stands for a device."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, bytes]] = []
        self.away: set[str] = set()
        self.devices: dict[str, Callable[[str, bytes], None]] = {}

    def down(self, device_id: str, command: str, body: bytes, _now_ns: int) -> bool:
        """Send, unless the device is away."""
        if device_id in self.away:
            return False
        self.sent.append((device_id, command, body))
        if device_id in self.devices:
            self.devices[device_id](command, body)
        return True


class FakeSegmentBus:
    """A broker in memory: what is posted waits until `deliver` hands it to subscribers."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, bytes]] = []
        self.down = False
        self._handlers: list[tuple[str, Handler]] = []
        self._delivered = 0

    def post(self, topic: str, payload: bytes, *, expiry_s: int) -> None:
        """Publish; raises `bus.unavailable` while it is down."""
        if self.down or expiry_s <= 0:
            raise QedgeError("bus.unavailable", "The broker is down.")
        self.posted.append((topic, payload))

    def subscribe(self, pattern: str, handler: Handler) -> None:
        """Subscribe."""
        self._handlers.append((pattern, handler))

    async def deliver(self) -> None:
        """Hand over what was posted since the last time."""
        while self._delivered < len(self.posted):
            topic, payload = self.posted[self._delivered]
            self._delivered += 1
            for pattern, handler in self._handlers:
                if matches(pattern, topic):
                    await handler(Incoming(topic, payload, 1, False))


class FakePeers:
    """Nodes of one process: what one asks another answers at once."""

    def __init__(self, name: str, network: dict[str, FakePeers]) -> None:
        self.name = name
        self._network = network
        self._served: dict[str, Callable[[str, msgspec.Struct], Awaitable[msgspec.Struct]]] = {}
        network[name] = self

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask."""
        other = self._network.get(node)
        if other is None or deadline_s <= 0:
            raise QedgeError("peer.unreachable", f"{node} does not answer.")
        reply = await other._served[purpose_of(type(body))](self.name, body)
        return msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=answer)

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer."""

        async def checked(peer: str, body: msgspec.Struct) -> msgspec.Struct:
            return await serve(peer, msgspec.msgpack.decode(msgspec.msgpack.encode(body), type=request))

        self._served[purpose_of(request)] = checked


class FakeKeep:
    """Implements `EpochKeep` and `CommandJournal` in memory. `full`: the disk is."""

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}
        self.commands: dict[tuple[str, str], KnownCommand] = {}
        self.full = False

    async def reserved(self) -> Mapping[str, int]:
        """Return what is taken."""
        return dict(self.taken)

    async def reserve(self, segment: str, upto: int) -> None:
        """Take numbers."""
        if self.full:
            raise QedgeError("store.disk_full", "The disk is full.")
        self.taken[segment] = upto

    async def begin(self, client: str, key: str, digest: bytes, request: bytes, _utc_ns: int) -> KnownCommand | None:
        """Keep a command."""
        known = self.commands.get((client, key))
        if known is None:
            self.commands[client, key] = KnownCommand(request, digest)
        return known

    async def end(self, client: str, key: str, outcome: str, detail: str) -> None:
        """Keep its end."""
        known = self.commands[client, key]
        self.commands[client, key] = KnownCommand(known.request, known.digest, outcome, detail)


class FakeOnward:
    """Keeps what is for the upstream."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str, str, RetentionClass, bytes]] = []

    def put(
        self, device: str, segment: str, channel: str, retention: RetentionClass, _utc_ns: int, body: bytes
    ) -> bool:
        """Keep a reading."""
        self.kept.append((device, segment, channel, retention, body))
        return True
