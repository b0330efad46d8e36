"""An MQTT 3.1.1 server in the test's own process: it writes down every packet and does what the test tells it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from dataclasses import dataclass, field
from types import TracebackType

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 4, 8, 12, 14


@dataclass(frozen=True)
class Event:
    """What a client did; `place` is the number of the server, `link` that of the connection, over all servers."""

    place: int
    link: int
    kind: str
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    clean: bool = False
    version: int = 0
    client: str = ""
    filters: tuple[tuple[str, int], ...] = ()
    keepalive_s: int = 0


@dataclass
class Trace:
    """Everything that happened at all servers, in order."""

    events: list[Event] = field(default_factory=list)
    links: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, event: Event) -> None:
        """Write down."""
        self.events.append(event)
        self.changed.set()

    def verbs(self) -> list[str]:
        """Return the verbs of all publications in order."""
        return [verb_of(each) for each in self.events if each.kind == "publish"]

    def count(self, verb: str) -> int:
        """Return how many publications of a verb there were."""
        return self.verbs().count(verb)

    def published(self, *verbs: str) -> list[Event]:
        """Return publications, of these verbs or of all."""
        return [each for each in self.events if each.kind == "publish" and (not verbs or verb_of(each) in verbs)]

    def connects(self) -> list[Event]:
        """Return all CONNECTs; their topic and payload are those of the will."""
        return [each for each in self.events if each.kind == "connect"]

    async def until(self, condition: object, limit_s: float = 30.0) -> None:
        """Wait until `condition()` holds."""
        assert callable(condition)
        async with asyncio.timeout(limit_s):
            while not condition():
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self.changed.wait()


def verb_of(event: Event) -> str:
    """Return the third level of a topic, its verb."""
    return event.topic.split("/")[2]


class ScriptedServer:
    """`retained` is what it gives to whoever subscribes; `accept` 0 takes a CONNECT, else the code of its refusal."""

    def __init__(self, trace: Trace, place: int = 0) -> None:
        self.trace = trace
        self.place = place
        self.port = 0
        self.retained: dict[str, bytes] = {}
        self.accept = 0
        self.suback = 1
        self.mute_connack = False
        self.mute_pings = False
        self.mute_pubacks = False
        self.wills: list[tuple[str, bytes]] = []
        self._server: asyncio.Server | None = None
        self._links: dict[int, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ScriptedServer:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shut()

    async def open(self) -> None:
        """Listen, on the port that it had before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Stop listening and drop all connections."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break all connections, as a network does."""
        for writer in self._links.values():
            writer.transport.abort()

    def send(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 0) -> None:
        """Publish to every connection."""
        head = struct.pack(">H", len(topic.encode())) + topic.encode() + (b"\x00\x01" if qos else b"")
        for writer in self._links.values():
            writer.write(_packet(0x30 | qos << 1 | retain, head + payload))

    def state(self, host: str, online: bool, at_ms: int) -> None:
        """Publish what a host says of itself, and keep it."""
        topic = f"spBv1.0/STATE/{host}"
        self.retained[topic] = json.dumps({"online": online, "timestamp": at_ms}).encode()
        self.send(topic, self.retained[topic], qos=1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.trace.links += 1
        link = self.trace.links
        self._links[link] = writer
        will: tuple[str, bytes] | None = None
        try:
            while True:
                first, body = await _read(reader)
                if first >> 4 == CONNECT:
                    event = _connect(body, self.place, link)
                    will = (event.topic, event.payload)
                    self.trace.add(event)
                    if not self.mute_connack:
                        writer.write(bytes([0x20, 2, 0, self.accept]))
                    if self.accept:
                        break
                elif first >> 4 == DISCONNECT:
                    will = None
                    self.trace.add(Event(self.place, link, "disconnect"))
                    break
                else:
                    self._answer(first, body, link, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._links.pop(link, None)
            if will is not None:
                self.wills.append(will)
            self.trace.add(Event(self.place, link, "closed"))
            writer.close()
            self._tasks.discard(task)

    def _answer(self, first: int, body: bytes, link: int, writer: asyncio.StreamWriter) -> None:
        kind = first >> 4
        if kind == SUBSCRIBE:
            filters, at = [], 2
            while at < len(body):
                size = int.from_bytes(body[at : at + 2], "big")
                filters.append((body[at + 2 : at + 2 + size].decode(), body[at + 2 + size]))
                at += size + 3
            self.trace.add(Event(self.place, link, "subscribe", filters=tuple(filters)))
            writer.write(_packet(0x90, body[:2] + bytes([self.suback]) * len(filters)))
            for topic, payload in self.retained.items():
                if any(topic == name for name, _ in filters):
                    head = struct.pack(">H", len(topic.encode())) + topic.encode() + b"\x00\x07"
                    writer.write(_packet(0x33, head + payload))
        elif kind == PUBLISH:
            size = int.from_bytes(body[:2], "big")
            qos, at = first >> 1 & 3, 2 + size
            self.trace.add(
                Event(
                    self.place,
                    link,
                    "publish",
                    topic=body[2:at].decode(),
                    payload=body[at + (2 if qos else 0) :],
                    qos=qos,
                    retain=bool(first & 1),
                )
            )
            if qos and not self.mute_pubacks:
                writer.write(_packet(0x40, body[at : at + 2]))
        elif kind == PINGREQ:
            self.trace.add(Event(self.place, link, "ping"))
            if not self.mute_pings:
                writer.write(b"\xd0\x00")
        elif kind == PUBACK:
            self.trace.add(Event(self.place, link, "puback"))


def _connect(body: bytes, place: int, link: int) -> Event:
    assert body[:6] == b"\x00\x04MQTT"
    flags, texts, at = body[7], [], 10
    while at < len(body):
        size = int.from_bytes(body[at : at + 2], "big")
        texts.append(body[at + 2 : at + 2 + size])
        at += size + 2
    assert flags & 0x04, "no will"
    return Event(
        place,
        link,
        "connect",
        topic=texts[1].decode(),
        payload=texts[2],
        qos=flags >> 3 & 3,
        retain=bool(flags & 0x20),
        clean=bool(flags & 0x02),
        version=body[6],
        client=texts[0].decode(),
        keepalive_s=int.from_bytes(body[8:10], "big"),
    )


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first = (await reader.readexactly(1))[0]
    length, shift = 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return first, await reader.readexactly(length)


def _packet(first: int, body: bytes) -> bytes:
    out, length = bytearray([first]), len(body)
    while True:
        length, low = divmod(length, 128)
        out.append(low | (0x80 if length else 0))
        if not length:
            return bytes(out) + body
