"""One connection of the listener without its socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import mqtt5

from qedge.base.metrics import Metrics
from qedge.devices.enforcement import Enforcement
from qedge.devices.fake import (
    FakeAudience,
    FakeConsumer,
    FakeDevice,
    FakeDoorman,
    FakeJudge,
    FakeKeeper,
    FakeSessionBook,
    FakeWitness,
)
from qedge.devices.ways_in.dialogue import Dialogue
from qedge.devices.ways_in.model import Code, Connect
from qedge.devices.ways_in.rates import Throttles
from qedge.devices.ways_in.reception import Guest, Rules

SECOND = 10**9


class FakeOutlet:
    """Keeps what is written; takes nothing more once it is `full`."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.held: list[float] = []
        self.closed = ""
        self.full = False

    def write(self, data: bytes) -> bool:
        if self.full:
            return False
        self.out += data
        return True

    def hold(self, seconds: float) -> None:
        self.held.append(seconds)

    def corked(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self, reason: str) -> None:
        self.closed = self.closed or reason

    def packets(self) -> list[bytes]:
        """Take out what was written, packet by packet."""
        data, at, found = bytes(self.out), 0, []
        while at < len(data):
            size, body = data[at + 1], at + 2
            if size > 127:
                size, body = size & 0x7F | data[at + 2] << 7, at + 3
            found.append(data[at : body + size])
            at = body + size
        self.out.clear()
        return found

    def read5(self) -> Iterator[mqtt5.Packet]:
        """Take out what was written, as the `mqtt5` codec reads it."""
        for packet in self.packets():
            yield mqtt5.read(memoryview(packet))[0]


class FakeReception:
    """Lets everybody in whom the doorman knows, at once unless it is `slow`."""

    def __init__(self, site: DialogueSite) -> None:
        self._site = site
        self.slow = False
        self.waiting: list[tuple[Guest, Connect]] = []
        self.hellos: list[tuple[str, bytes]] = []
        self.num_offended = 0

    def arrive(self, guest: Guest, connect: Connect) -> None:
        self.waiting.append((guest, connect))
        if not self.slow:
            self.let_in()

    def let_in(self) -> None:
        for guest, connect in self.waiting:
            subject = self._site.doorman.subjects.get(connect.username)
            if subject is None:
                guest.refuse(Code.NOT_AUTHORIZED, "unproven")
            else:
                guest.admit(subject, self._site.now_ns, 0)
        self.waiting.clear()

    def hello(self, device_id: str, message: bytes) -> bool:
        self.hellos.append((device_id, message))
        return True

    def offended(self, guest: Guest) -> None:
        self.num_offended += 1


class DialogueSite:
    """A device `d` and its connection."""

    def __init__(self, *, keeper: FakeKeeper | None = None, rate: float = 1000.0) -> None:
        self.now_ns = SECOND
        self.metrics = Metrics()
        self.book, self.doorman, self.judge = FakeSessionBook(), FakeDoorman(), FakeJudge()
        self.consumer, self.witness, self.audience = FakeConsumer(), FakeWitness(), FakeAudience()
        self.device: FakeDevice = self.book.open(self.doorman.add("d"))
        self.enforcement = Enforcement(
            self.book, self.judge, consumers=[self.consumer], witness=self.witness, metrics=self.metrics
        )
        self.rules = Rules(
            "f",
            "n",
            self.enforcement,
            Throttles(rate),
            max_packet_bytes=4096,
            max_keepalive_s=600,
            queue_messages=4,
            keeper=keeper,
            audience=self.audience,
        )
        self.reception = FakeReception(self)
        self.outlet = FakeOutlet()
        self.dialogue = Dialogue(self.rules, self.reception, self.now_ns)
        self.dialogue.outlet = self.outlet

    def take(self, data: bytes) -> None:
        self.dialogue.take(data, self.now_ns, 0)

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, _, body in self.consumer.taken]
