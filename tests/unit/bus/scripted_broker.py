"""An MQTT 5 broker that does what a test tells it, also what no broker should do."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from types import TracebackType

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 1, 2, 3, 4, 8, 9, 14
SESSION_EXPIRY, RECEIVE_MAXIMUM, MAXIMUM_PACKET_SIZE = 0x11, 0x21, 0x27


def variable(number: int) -> bytes:
    """Write a variable byte integer (MQTT 5 §1.5.5)."""
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Write a control packet."""
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def text(value: str) -> bytes:
    """Write a UTF-8 string."""
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def publish(topic: str, payload: bytes, mid: int = 0) -> bytes:
    """Write a PUBLISH, QoS 1 with a packet id, else QoS 0."""
    middle = struct.pack(">H", mid) if mid else b""
    return packet(PUBLISH, text(topic) + middle + b"\0" + payload, 2 if mid else 0)


class ScriptedBroker:
    """Answers CONNECT with `connack` (flags, reason, properties), SUBSCRIBE and PUBLISH with one code each.

    `None` for an answer means silence. `seen` holds (kind, body) of every packet that came.
    """

    def __init__(self) -> None:
        self.connack: tuple[int, int, bytes] | None = (0, 0, b"")
        self.suback_code = 1
        self.puback_code: int | None = 0
        self.hang_up_on_connect = False
        self.seen: list[tuple[int, bytes]] = []
        self.connections = 0
        self.port = 0
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ScriptedBroker:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.hang_up()
        assert self._server is not None
        self._server.close()
        await asyncio.sleep(0)

    @property
    def socket(self) -> object:
        """Return the socket of the newest connection."""
        assert self._writer is not None
        return self._writer.get_extra_info("socket")

    def send(self, data: bytes) -> None:
        """Send bytes on the newest connection."""
        assert self._writer is not None
        self._writer.write(data)

    def hang_up(self) -> None:
        """Close the newest connection without a word."""
        if self._writer is not None:
            self._writer.close()

    def bodies(self, kind: int) -> list[bytes]:
        """Return the bodies of all packets of a kind that came."""
        return [body for each, body in self.seen if each == kind]

    async def wait_for(self, kind: int, number: int = 1) -> list[bytes]:
        """Wait until `number` packets of a kind came."""
        async with asyncio.timeout(30):
            while len(self.bodies(kind)) < number:
                self._changed.clear()
                await self._changed.wait()
        return self.bodies(kind)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                first = (await reader.readexactly(1))[0]
                length, shift = 0, 0
                while True:
                    byte = (await reader.readexactly(1))[0]
                    length |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                self._take(first, await reader.readexactly(length), writer)
        writer.close()

    def _take(self, first: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        kind = first >> 4
        self.seen.append((kind, body))
        self._changed.set()
        if kind == CONNECT and self.hang_up_on_connect:
            writer.close()
        elif kind == CONNECT and self.connack is not None:
            flags, reason, properties = self.connack
            writer.write(packet(CONNACK, bytes([flags, reason]) + variable(len(properties)) + properties))
        elif kind == SUBSCRIBE:
            count = body.count(b"qedge/v1/")
            writer.write(packet(SUBACK, body[:2] + b"\0" + bytes([self.suback_code]) * count))
        elif kind == PUBLISH and first & 6 and self.puback_code is not None:
            (size,) = struct.unpack_from(">H", body)
            writer.write(packet(PUBACK, body[2 + size : 4 + size] + bytes([self.puback_code, 0])))
