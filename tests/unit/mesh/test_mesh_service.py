"""The mesh service on a bus that keeps what is published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.bus.model import Handler, Incoming, LastWill, OnSession
from qedge.bus.service import Bus
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.config import HostConfig
from qedge.mesh.service import MeshService
from qedge.wire.envelope import Header, decode, encode, purpose_of
from qedge.wire.mesh import Birth, Ping, Pong
from qedge.wire.node import DriverView

PING, REPLY, BIRTH = "qedge/v1/f/n/ping", "qedge/v1/f/peer/reply", "qedge/v1/f/n/birth"


class FakeBus:
    """Keeps what is published; `answer` makes the answers to questions."""

    def __init__(self) -> None:
        self.connected = False
        self.fail = 0
        self.published: list[tuple[str, bytes, bool]] = []
        self.responses: list[bytes] = []
        self.handlers: dict[str, Handler] = {}
        self.hooks: list[OnSession] = []
        self.will: Callable[[], LastWill | None] = lambda: None
        self.answer: Callable[[bytes], Incoming] = lambda _: pytest.fail("nobody was to be asked")

    def subscribe(self, pattern: str, handler: Handler) -> None:
        self.handlers[pattern] = handler

    def on_session(self, hook: OnSession) -> None:
        self.hooks.append(hook)

    def set_will(self, make: Callable[[], LastWill | None]) -> None:
        self.will = make

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        assert qos == 1
        if self.fail:
            self.fail -= 1
            raise QedgeError("bus.timeout", "Not now.")
        self.published.append((topic, payload, retain))

    def respond(self, _request: Incoming, payload: bytes) -> None:
        self.responses.append(payload)

    async def request(self, _topic: str, payload: bytes, *, deadline_s: float) -> Incoming:
        assert deadline_s > 0
        return self.answer(payload)

    async def connect(self, session_present: bool = False) -> None:
        self.connected = True
        for hook in self.hooks:
            await hook(session_present)

    def births(self) -> list[Birth]:
        return [decode(payload, topic, Birth, 0)[1] for topic, payload, retain in self.published if retain]


class Drivers:
    """What the node can do, as the test sets it."""

    def __init__(self) -> None:
        self.views: list[DriverView] = []

    def drivers(self) -> Sequence[DriverView]:
        return self.views


def make(tmp_path: Path) -> tuple[MeshService, FakeBus, Drivers, Metrics]:
    bus, drivers, metrics = FakeBus(), Drivers(), Metrics()
    service = MeshService(
        NodeIdentity("f", "n", "0.1", "boot", 4),
        HostConfig(sample_interval_s=0.2),
        bus=cast(Bus, bus),
        capabilities=drivers,
        state_dir=tmp_path,
        clock=ManualClock(),
        metrics=metrics,
        random_bytes=lambda size: b"r" * size,
    )
    return service, bus, drivers, metrics


@asynccontextmanager
async def running(service: MeshService) -> AsyncIterator[None]:
    ready = asyncio.Event()
    task = asyncio.create_task(service.run(ready.set))
    await ready.wait()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def incoming(body: msgspec.Struct, **changes: object) -> Incoming:
    header = Header(PING, "peer", 0, purpose_of(type(body)), 0)
    return Incoming(PING, encode(header, body), 1, bool(changes.get("retain")), REPLY, b"c")


async def test_the_birth_is_published_retained_after_every_connection(tmp_path: Path) -> None:
    service, bus, _, _ = make(tmp_path)
    async with running(service):
        assert bus.births() == []
        await bus.connect()
        await until(lambda: len(bus.births()) == 1)
        await bus.connect(session_present=True)
        await until(lambda: len(bus.births()) == 2)
    assert {topic for topic, _, _ in bus.published} == {BIRTH}
    assert [(birth.state, birth.epoch) for birth in bus.births()] == [("up", 4), ("up", 4), ("leaving", 4)]


async def test_the_birth_follows_the_capabilities_and_a_change_of_nothing_is_not_told(tmp_path: Path) -> None:
    service, bus, drivers, _ = make(tmp_path)
    async with running(service):
        await bus.connect()
        await until(bus.births)
        service.capabilities_changed()
        await asyncio.sleep(0.3)
        assert len(bus.births()) == 1
        drivers.views.append(DriverView("qpu", "sim_qpu", "qpu", "1", True, "unlocked", "up"))
        service.capabilities_changed()
        await until(lambda: len(bus.births()) == 2)
        assert [each.name for each in bus.births()[-1].capabilities] == ["qpu"]


async def test_a_birth_that_could_not_be_published_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.mesh.service._RETRY_S", 0.01)
    service, bus, _, _ = make(tmp_path)
    bus.fail = 3
    async with running(service):
        await bus.connect()
        await until(bus.births)


async def test_a_service_that_is_started_again_is_up_again(tmp_path: Path) -> None:
    service, bus, _, _ = make(tmp_path)
    bus.connected = True
    for _ in range(2):
        async with running(service):
            await until(lambda: bus.births() and bus.births()[-1].state == "up")
    assert [birth.state for birth in bus.births()] == ["up", "leaving"] * 2


async def test_the_will_says_lost_with_the_epoch_so_that_a_newer_birth_outweighs_it(tmp_path: Path) -> None:
    _, bus, _, _ = make(tmp_path)
    will = bus.will()
    assert will is not None
    assert will.topic == BIRTH
    _, birth = decode(will.payload, BIRTH, Birth, 0)
    assert (birth.state, birth.epoch, birth.capabilities) == ("lost", 4, ())


async def test_a_ping_is_answered_with_its_nonce(tmp_path: Path) -> None:
    _, bus, _, _ = make(tmp_path)
    await bus.handlers[PING](incoming(Ping(b"nonce")))
    header, pong = decode(bus.responses[0], REPLY, Pong, 0)
    assert pong.nonce == b"nonce"
    assert header.sender == "n"


@pytest.mark.parametrize(
    "message",
    [
        Incoming(PING, b"", 1, False, REPLY),
        Incoming(PING, b"garbage" * 100, 1, False, REPLY),
        incoming(Pong(b"")),
        incoming(Ping(b""), retain=True),
        Incoming("qedge/v1/f/n/reply", incoming(Ping(b"")).payload, 1, False, REPLY),
    ],
)
async def test_what_is_no_question_has_no_effect(tmp_path: Path, message: Incoming) -> None:
    _, bus, _, _ = make(tmp_path)
    with pytest.raises(QedgeError) as error:
        await bus.handlers[PING](message)
    assert error.value.code == "bus.bad_message"
    assert bus.responses == []


def answering(sender: str, nonce: bytes | None = None) -> Callable[[bytes], Incoming]:
    def answer(question: bytes) -> Incoming:
        _, ping = decode(question, "qedge/v1/f/peer/ping", Ping, 0)
        back = "qedge/v1/f/n/reply"
        header = Header(back, sender, 0, purpose_of(Pong), 0)
        return Incoming(back, encode(header, Pong(ping.nonce if nonce is None else nonce)), 1, False)

    return answer


async def test_pinging_gives_one_time_for_each_round_trip(tmp_path: Path) -> None:
    service, bus, _, _ = make(tmp_path)
    bus.answer = answering("peer")
    assert len((await service.ping("peer", 5, timeout_s=1)).rtt_ms) == 5


@pytest.mark.parametrize("answer", [answering("mallory"), answering("peer", b"other")])
async def test_an_answer_from_somebody_else_or_to_another_question_is_an_error(
    tmp_path: Path, answer: Callable[[bytes], Incoming]
) -> None:
    service, bus, _, _ = make(tmp_path)
    bus.answer = answer
    with pytest.raises(QedgeError) as error:
        await service.ping("peer", 1, timeout_s=1)
    assert error.value.code == "bus.bad_message"


async def test_a_name_that_is_none_is_not_asked(tmp_path: Path) -> None:
    service, _, _, _ = make(tmp_path)
    with pytest.raises(QedgeError, match="no node name"):
        await service.ping("a/+", 1, timeout_s=1)


async def test_the_host_is_sampled_and_told(tmp_path: Path) -> None:
    service, _, _, metrics = make(tmp_path)
    assert service.host_view().verdict == "unknown"
    async with running(service):
        assert service.host_view().verdict in ("ok", "degraded", "critical")
        assert metrics.value("qedge_host_memory_total_bytes") > 0
        assert metrics.value("qedge_process_memory_bytes") > 0
