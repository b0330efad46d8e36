"""One connection of MQTT 3.1.1 with one writer: the CONNECT with the will of this very attempt, and packets in order.

paho is not used here: it sends an old will again when it reconnects by itself, tells neither when a CONNECT was
written nor which PINGRESP came, and writes from more than one place (decision 0096).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from qedge.base.errors import QedgeError
from qedge.bus.dial import dial
from qedge.bus.model import Endpoint
from qedge.fleet.sparkplug.model import Will
from qedge.fleet.sparkplug.packets import (
    DISCONNECT,
    PINGREQ,
    REFUSED,
    Packet,
    PacketReader,
    connect_packet,
    puback_packet,
    publish_packet,
    subscribe_packet,
)

_READ_BYTES: Final = 64 * 1024
_WHY: Final = {
    1: "it does not speak MQTT 3.1.1",
    2: "it does not take the client id",
    3: "it is not available",
    4: "user name or password are wrong",
    5: "the client is not authorised",
}
Heard = Callable[[Packet], None]


class Connection:
    """Opened once, used by one writer; `heard` is called with every PUBLISH and PINGRESP and must not raise."""

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None, heard: Heard, ended: Callable[[], None]) -> None:
        """`ended` is called once, when the connection is gone."""
        self._endpoint = endpoint
        self._tls = tls
        self._heard = heard
        self._ended = ended
        self._packets = PacketReader()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answers: dict[tuple[str, int], asyncio.Future[Packet]] = {}
        self._mid = 0
        self.lost = asyncio.Event()
        self.loss = ""

    async def dial(self) -> None:
        """Open the way to the server, without a word of MQTT yet; raises `OSError`."""
        raw = await dial(self._endpoint.host, self._endpoint.port, None)
        try:
            name = self._endpoint.host if self._tls is not None else None
            self._reader, self._writer = await asyncio.open_connection(sock=raw, ssl=self._tls, server_hostname=name)
        except BaseException:
            raw.close()
            raise

    async def connect(self, client_id: str, keepalive_s: int, will: Will) -> None:
        """Write the CONNECT and wait for the CONNACK; raises `bus.refused`, `bus.unavailable` or `OSError`."""
        self._reading = asyncio.get_running_loop().create_task(self._read())
        answer = self._expect("connack", 0)
        username, password = self._endpoint.username, self._endpoint.password
        await self._write(connect_packet(client_id, keepalive_s, will, username, password))
        code = (await answer).code
        if code:
            why = _WHY.get(code, f"return code {code}")
            raise QedgeError("bus.refused", f"The server {self._endpoint.shown} refuses the connection: {why}.")

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe at QoS 1 and wait for the SUBACK; raises `bus.refused` where one of them is refused."""
        mid = self._next_mid()
        answer = self._expect("suback", mid)
        await self._write(subscribe_packet(mid, filters))
        codes = (await answer).codes
        if len(codes) != len(filters) or REFUSED in codes:
            raise QedgeError("bus.refused", f"The server {self._endpoint.shown} refuses a subscription.")

    async def publish(self, topic: str, payload: bytes) -> None:
        """Write a PUBLISH at QoS 0; raises `bus.unavailable` or `OSError`."""
        await self._write(publish_packet(topic, payload))

    async def publish_sure(self, topic: str, payload: bytes) -> None:
        """Write a PUBLISH at QoS 1 and wait for its PUBACK; raises `bus.unavailable` or `OSError`."""
        mid = self._next_mid()
        answer = self._expect("puback", mid)
        await self._write(publish_packet(topic, payload, mid=mid))
        await answer

    async def ping(self) -> None:
        """Write a PINGREQ."""
        await self._write(PINGREQ)

    async def close(self, *, goodbye: bool) -> None:
        """Let go of the connection; with `goodbye` say DISCONNECT first, so that the will is not published."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._lose("closed")
        writer, self._writer = self._writer, None
        if writer is None:
            return
        if not goodbye:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            writer.write(DISCONNECT)
            writer.close()
            async with asyncio.timeout(1.0):
                await writer.wait_closed()

    def _expect(self, kind: str, mid: int) -> asyncio.Future[Packet]:
        if self.lost.is_set():
            raise self._gone()
        answer: asyncio.Future[Packet] = asyncio.get_running_loop().create_future()
        self._answers[kind, mid] = answer
        return answer

    def _next_mid(self) -> int:
        self._mid = self._mid % 65_535 + 1
        return self._mid

    async def _write(self, data: bytes) -> None:
        if self.lost.is_set() or self._writer is None:
            raise self._gone()
        self._writer.write(data)
        await self._writer.drain()

    async def _read(self) -> None:
        try:
            while self._reader is not None and (data := await self._reader.read(_READ_BYTES)):
                for packet in self._packets.feed(data):
                    self._take(packet)
            self._lose("the server closed the connection")
        except (OSError, QedgeError) as error:
            self._lose(str(error))

    def _take(self, packet: Packet) -> None:
        if packet.kind in ("publish", "pingresp"):
            if packet.qos and self._writer is not None:
                self._writer.write(puback_packet(packet.mid))
            self._heard(packet)
            return
        answer = self._answers.pop((packet.kind, packet.mid), None)
        if answer is not None and not answer.done():
            answer.set_result(packet)

    def _lose(self, why: str) -> None:
        if not self.lost.is_set():
            self.loss = why
            self.lost.set()
            self._ended()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self._gone())
                answer.exception()  # nobody may be waiting any more
        self._answers.clear()

    def _gone(self) -> QedgeError:
        return QedgeError("bus.unavailable", f"The connection is gone: {self.loss}.")
