"""The way through the broker: one thin connection of MQTT 5 for all devices.

The node's bus does not carry them: its client costs fifty times as much a message. Commands and answers of handshakes
go to the broker at QoS 0, so that it keeps none for a device that is away: a command is for now, and for one session.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import mqtt5

from qedge.base.backoff import Backoff
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.dial import arm_quick_ack, dial
from qedge.bus.model import Endpoint, Locate
from qedge.devices.enforcement import Enforcement
from qedge.devices.ports import Keeper
from qedge.devices.ways_in import codec
from qedge.devices.ways_in.broker_stream import BrokerStream, filters
from qedge.devices.ways_in.config import IntakeConfig
from qedge.devices.ways_in.greeting import GreetingDesk
from qedge.devices.ways_in.model import MQTT_5, PacketError
from qedge.devices.ways_in.rates import Throttles
from qedge.wire.attached import DeviceLeaf, device_topic

_LOG: Final = get_logger("devices")
_READ_BYTES: Final = 16 * 1024
"""Read in one turn of the loop, some hundred messages; what is ready beyond it comes in the next turn."""

_MAX_WAITING_BYTES: Final = 1 << 20
_CONNECT_LIMIT_S: Final = 10.0
_LOCATE_POLL_S: Final = 0.05
_READY_WITHOUT_BROKER_S: Final = 5.0
_FIRST_FAILURE: Final = 0x80


class BrokerIntake:
    """A service and a `Way`. `locate` tells where the broker is; `tls` how to check it, for one with TLS."""

    name = "device-intake"

    def __init__(
        self,
        config: IntakeConfig,
        locate: Locate,
        *,
        fleet: str,
        node: str,
        enforcement: Enforcement,
        desk: GreetingDesk,
        throttles: Throttles,
        clock: Clock,
        metrics: Metrics,
        uniform: Callable[[], float],
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        keeper: Keeper | None = None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._locate = locate
        self._fleet = fleet
        self._node = node
        self._enforcement = enforcement
        self._desk = desk
        self._throttles = throttles
        self._clock = clock
        self._metrics = metrics
        self._uniform = uniform
        self._tls = tls
        self._keeper = keeper
        self._between = between
        self._backoff = Backoff(0.1, config.reconnect_cap_s)
        self._link: _Link | None = None

    @property
    def connected(self) -> bool:
        """Whether devices are heard through the broker now."""
        return self._link is not None

    async def run(self, ready: Ready) -> None:
        """Keep a connection until cancelled; a broker that is down does not keep the node from being ready."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(_READY_WITHOUT_BROKER_S, ready)
        failures = 0
        try:
            while True:
                endpoint = self._locate()
                if endpoint is None:
                    await asyncio.sleep(_LOCATE_POLL_S)
                    continue
                reason, lasted = await self._serve(endpoint, ready)
                failures = 0 if lasted else failures + 1
                delay_s = self._backoff.delay_s(failures, self._uniform())
                _LOG.info("devices.broker_lost", reason=reason, delay_s=round(delay_s, 3))
                await asyncio.sleep(delay_s)
        finally:
            timer.cancel()

    def send(self, device_id: str, topic: str, payload: bytes) -> bool:
        """Hand a message to the broker for a device that was heard through it."""
        link = self._link
        return link is not None and device_id in link.stream.heard and link.publish(topic, payload)

    def cut(self, device_id: str) -> bool:
        """Return False: the connection of a device to the broker is the broker's; here it is refused all the same."""
        if self._link is not None:
            self._link.stream.heard.discard(device_id)
        return False

    async def _serve(self, endpoint: Endpoint, ready: Ready) -> tuple[str, bool]:
        """Serve one connection; returns why it ended, and whether it ever was good."""
        link = _Link(self._stream, self._config, self._clock)
        lasted = False
        try:
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                present = await link.open(endpoint, self._tls(), f"qedge-{self._node}-devices")
                await link.subscribe(filters(self._fleet, self._node))
            lasted = True
            self._link = link
            self._metrics.set("qedge_device_broker_connected", 1)
            _LOG.info("devices.broker_connected", broker=endpoint.shown, session_present=present)
            ready()
            reason = await link.until_lost()
        except (OSError, TimeoutError, PacketError, QedgeError) as error:
            reason = str(error) or type(error).__name__
            ready()
        finally:
            self._link = None
            self._metrics.set("qedge_device_broker_connected", 0)
            link.close()
        return reason, lasted

    def _stream(self, link: _Link) -> BrokerStream:
        return BrokerStream(
            self._fleet,
            self._node,
            self._enforcement,
            self._throttles,
            max_packet_bytes=self._config.max_message_bytes,
            write=link.write,
            hello=self._hello,
            other=link.take_other,
            between=self._between,
            keeper=self._keeper,
        )

    def _hello(self, device_id: str, message: bytes) -> bool:
        return self._desk.offer(device_id, message, self._welcome)

    def _welcome(self, device_id: str, answer: bytes) -> None:
        self.send(device_id, device_topic(self._fleet, self._node, device_id, DeviceLeaf.WELCOME), answer)


class _Link:
    """One connection to the broker, used once."""

    def __init__(self, make_stream: Callable[[_Link], BrokerStream], config: IntakeConfig, clock: Clock) -> None:
        self.stream = make_stream(self)
        self._config = config
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._answer: asyncio.Future[mqtt5.Packet] = self._loop.create_future()
        self._out = bytearray()
        self._heard_ns = clock.now_ns()
        self._spoke_ns = clock.now_ns()

    async def open(self, endpoint: Endpoint, tls: ssl.SSLContext | None, client_id: str) -> bool:
        """Connect; returns whether the broker had the session still. Raises `OSError` or `PacketError`."""
        if endpoint.host.startswith("/"):
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sock.setblocking(False)
            await self._loop.sock_connect(self._sock, endpoint.host)
        else:
            self._sock = await dial(endpoint.host, endpoint.port, tls)
        self._loop.add_reader(self._sock.fileno(), self._readable)
        connect = mqtt5.ConnectPacket(
            client_id,
            username=endpoint.username or None,
            password=endpoint.password.encode() or None,
            keep_alive=self._config.keepalive_s,
            session_expiry_interval=self._config.session_expiry_s,
            receive_max=self._config.receive_maximum,
            max_packet_size=self._config.max_message_bytes,
        )
        answer = await self._ask(connect.write())
        if not isinstance(answer, mqtt5.ConnAckPacket) or answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            raise PacketError(f"the broker refuses the connection: {getattr(answer, 'reason_code', answer)!s}")
        return answer.session_present

    async def subscribe(self, patterns: list[str]) -> None:
        """Subscribe at QoS 1, without what is retained; raises `PacketError` where it is refused."""
        never = mqtt5.RetainHandling.SEND_NEVER
        wanted = [
            mqtt5.TopicFilter(each, max_qos=mqtt5.QoS.AT_LEAST_ONCE, retain_handling=never, retain_as_published=False)
            for each in patterns
        ]
        answer = await self._ask(mqtt5.SubscribePacket(1, wanted).write())
        if not isinstance(answer, mqtt5.SubAckPacket) or any(
            int(code) >= _FIRST_FAILURE for code in answer.reason_codes
        ):
            raise PacketError("the broker refuses the subscriptions")

    async def until_lost(self) -> str:
        """Keep the connection alive; returns why it is gone."""
        period_ns = self._config.keepalive_s * 10**9
        while True:
            done, _ = await asyncio.wait({self._lost}, timeout=min(1.0, self._config.keepalive_s / 4))
            if done:
                return self._lost.result()
            now_ns = self._clock.now_ns()
            if now_ns - self._heard_ns > 2 * period_ns:
                return "the broker is silent"
            if now_ns - min(self._spoke_ns, self._heard_ns) > period_ns // 2:
                self.write(mqtt5.PingReqPacket().write())

    def publish(self, topic: str, payload: bytes) -> bool:
        """Publish at QoS 0."""
        return self.write(codec.publish(topic.encode(), payload, MQTT_5))

    def take_other(self, packet: mqtt5.Packet) -> None:
        """Take what is no PUBLISH."""
        if isinstance(packet, mqtt5.DisconnectPacket):
            self._lose(f"the broker closed the connection: {packet.reason_code!s}")
        elif isinstance(packet, (mqtt5.ConnAckPacket, mqtt5.SubAckPacket)) and not self._answer.done():
            self._answer.set_result(packet)

    def write(self, data: bytes) -> bool:
        """Send at once, or keep what does not fit; False where too much waits already."""
        sock = self._sock
        if sock is None or self._lost.done() or len(self._out) + len(data) > _MAX_WAITING_BYTES:
            return False
        self._spoke_ns = self._clock.now_ns()
        if not self._out:
            sent = self._send(data)
            if sent == len(data):
                return True
            data = data[sent:]
            self._loop.add_writer(sock.fileno(), self._writable)
        self._out += data
        return not self._lost.done()

    def close(self) -> None:
        """Let go of the socket."""
        self._lose("closed")
        sock, self._sock = self._sock, None
        if sock is not None and sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
            with contextlib.suppress(OSError):
                sock.send(b"\xe0\x00")  # DISCONNECT
            sock.close()

    async def _ask(self, packet: bytes) -> mqtt5.Packet:
        self._answer = self._loop.create_future()
        self.write(packet)
        waiting: set[asyncio.Future[Any]] = {self._answer, self._lost}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not self._answer.done():
            raise PacketError(self._lost.result())
        return self._answer.result()

    def _readable(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            data = sock.recv(_READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self._lose(str(error))
            return
        if not data:
            self._lose("the broker closed the connection")
            return
        arm_quick_ack(sock)
        self._heard_ns = now_ns = self._clock.now_ns()
        try:
            self.stream.take(data, now_ns, self._clock.utc_ns())
        except PacketError as error:
            self._lose(error.reason)
            return
        if isinstance(sock, ssl.SSLSocket) and sock.fileno() >= 0 and sock.pending():
            self._loop.call_soon(self._readable)

    def _writable(self) -> None:
        sent = self._send(bytes(self._out[: _READ_BYTES * 4]))
        del self._out[:sent]
        if not self._out and self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())

    def _send(self, data: bytes) -> int:
        try:
            return self._sock.send(data) if self._sock is not None else 0
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError as error:
            self._lose(str(error))
            return 0

    def _lose(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)
            if self._sock is not None:
                self._loop.remove_reader(self._sock.fileno())
                self._loop.remove_writer(self._sock.fileno())
