"""The one module that knows the MQTT library: aiomqtt on paho, with what it lacks added through paho itself.

Added: acknowledgement by hand, so that a QoS-1 message is not acknowledged before it was handled; what the CONNACK says
(session present, packet size, receive maximum); reason codes of a PUBACK; an end of every wait when the connection is
lost; a connect that never blocks a thread; and TCP_QUICKACK armed again after every read, without which a broker that
sends two small packets in a row waits 40 ms for a delayed acknowledgement (Nagle's algorithm against delayed ACK).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from qedge.bus.dial import arm_quick_ack, dial
from qedge.bus.model import MAX_PACKET_BYTES, Endpoint, Incoming, LastWill, MqttVersion
from qedge.bus.properties import PackedProperties, SharedProperties, share_tables

_SESSION_TAKEN_OVER: Final = 0x8E
_FIRST_FAILURE: Final = 0x80
_RETAINED_ALWAYS: Final = 0
_RETAINED_WHEN_NEW: Final = 1
"""Retain Handling (MQTT 5 §3.8.3.1)."""

_MAX_UNACKNOWLEDGED: Final = 1000
_MAX_OUTGOING: Final = 4000
_CLOSE_LIMIT_S: Final = 0.5
_NEVER_WARN: Final = 1 << 30
_SILENT: Final = logging.getLogger("qedge.bus.paho")
_SILENT.setLevel(logging.CRITICAL)

share_tables()

MqttError = aiomqtt.MqttError
Arrived = Callable[["MqttClient", int, Incoming], None]


class MqttClient(aiomqtt.Client):
    """One connection, used once: `open`, then `close`.

    Every message goes to `arrived(client, mid, message)`, which must not raise; QoS-1 ones (`mid` > 0) count as
    delivered at the broker only once `acknowledge(mid)` was called, in the order in which they came.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        arrived: Arrived,
        *,
        client_id: str,
        keepalive_s: int,
        session_expiry_s: int,
        receive_maximum: int,
        connect_timeout_s: float,
        clean_start: bool,
        will: LastWill | None,
        tls: ssl.SSLContext | None,
        version: MqttVersion = MqttVersion.V5,
    ) -> None:
        modern = version is MqttVersion.V5
        connect = _properties(PacketTypes.CONNECT)
        connect.SessionExpiryInterval = session_expiry_s
        connect.ReceiveMaximum = receive_maximum
        connect.MaximumPacketSize = MAX_PACKET_BYTES
        super().__init__(
            endpoint.host,
            endpoint.port,
            username=endpoint.username or None,
            password=endpoint.password or None,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if modern else aiomqtt.ProtocolVersion.V311,
            will=_will(will),
            clean_session=None if modern else clean_start,
            clean_start=clean_start if modern else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=connect if modern else None,
            keepalive=keepalive_s,
            timeout=connect_timeout_s,
            logger=_SILENT,
            max_inflight_messages=_MAX_UNACKNOWLEDGED,
            max_queued_outgoing_messages=_MAX_OUTGOING,
        )
        self._endpoint = endpoint
        self._arrived = arrived
        self._tls = tls
        self._modern = modern
        self._unacknowledged: dict[int, asyncio.Future[int]] = {}
        self._paused = False
        self._may_write = False
        self._watched_fd = -1
        self.session_present = False
        self.max_packet_bytes = MAX_PACKET_BYTES
        self.taken_over = False
        self.pending_calls_threshold = _NEVER_WARN
        self._client.manual_ack_set(True)
        self._disconnected.add_done_callback(self._give_up_waiting)

    async def open(self) -> None:
        """Connect and wait for the CONNACK; raises `MqttError`, `OSError` or `TimeoutError`."""
        try:
            async with asyncio.timeout(self.timeout):
                connected = await dial(self._endpoint.host, self._endpoint.port, self._tls)
                # paho would connect in a thread that nothing can cancel; it is given the connection instead.
                self._client._create_socket = lambda: connected  # type: ignore[method-assign] # paho has no public way
                self._client_connect()
                await self._connected
        except BaseException:
            self._drop()
            raise

    async def close(self) -> None:
        """Say goodbye where the broker still listens, and let go of the socket in any case; never raises."""
        with contextlib.suppress(MqttError, OSError):
            if not self._disconnected.done() and self._client.disconnect() == paho.MQTT_ERR_SUCCESS:
                await asyncio.wait({self._disconnected}, timeout=_CLOSE_LIMIT_S)
        self._drop()

    async def wait_lost(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds; True once the connection is gone."""
        await asyncio.wait({self._disconnected}, timeout=timeout_s)
        return self._disconnected.done()

    @property
    def loss(self) -> str:
        """Say why the connection is gone."""
        error = self._disconnected.exception() if self._disconnected.done() else None
        return str(error or "closed")

    async def listen(
        self,
        patterns: list[str],
        *,
        with_retained: frozenset[str] = frozenset(),
        without_own: frozenset[str] = frozenset(),
    ) -> None:
        """Subscribe at QoS 1; raises `MqttError` where the broker refuses one.

        What a topic retains comes when its subscription is new; for patterns in `with_retained` in any case. By MQTT
        3.1.1 it always comes, as does what this connection publishes itself, though a pattern is in `without_own`.
        """
        wanted = [
            (
                pattern,
                SubscribeOptions(
                    qos=1,
                    noLocal=pattern in without_own,
                    retainHandling=_RETAINED_ALWAYS if pattern in with_retained else _RETAINED_WHEN_NEW,
                ),
            )
            for pattern in patterns
        ]
        granted = await self.subscribe(wanted if self._modern else [(pattern, 1) for pattern in patterns])
        codes = [each if isinstance(each, int) else int(each.value) for each in granted]
        refused = [pattern for pattern, code in zip(patterns, codes, strict=True) if code >= _FIRST_FAILURE]
        if refused:
            raise MqttError(f"the broker refuses the subscription to {', '.join(refused)}")

    async def send(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Properties, deadline_s: float
    ) -> None:
        """Publish; QoS 1 returns with the PUBACK. Raises `MqttError`, or `TimeoutError` after `deadline_s` seconds."""
        mid = self.post(topic, payload, qos=qos, retain=retain, properties=properties)
        if qos == 0:
            return
        answer = self._unacknowledged[mid] = self._loop.create_future()
        try:
            async with asyncio.timeout(deadline_s):
                code = await answer
        finally:
            self._unacknowledged.pop(mid, None)
        if code >= _FIRST_FAILURE:
            raise MqttError(f"the broker refuses the message (reason code {code:#x})")

    def post(self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Properties) -> int:
        """Publish without waiting and return the packet id; raises `MqttError`, also where too much is under way."""
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise MqttError(paho.error_string(info.rc))
        return info.mid

    def acknowledge(self, mid: int) -> None:
        """Send the PUBACK of a QoS-1 message; nothing happens where the connection is gone."""
        with contextlib.suppress(ValueError, OSError):
            self._client.ack(mid, 1)

    def pause(self) -> None:
        """Read nothing more: what the broker sends stays with it once the socket's buffers are full."""
        self._paused = True
        self._watch(False)

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self._watch(True)
        self._loop.call_soon(self._readable)  # TLS may hold bytes that the socket no longer announces

    def _watch(self, on: bool) -> None:
        raw = self._client.socket()
        if isinstance(raw, socket.socket) and raw.fileno() >= 0:
            if on:
                self._loop.add_reader(raw.fileno(), self._readable)
            else:
                self._loop.remove_reader(raw.fileno())

    def _give_up_waiting(self, lost: asyncio.Future[None]) -> None:
        error = None if lost.cancelled() else lost.exception()
        waiting: list[asyncio.Future[Any]] = [*self._unacknowledged.values(), *self._pending_subscribes.values()]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(MqttError(str(error or "the connection was closed")))

    def _lose(self, cause: Exception) -> None:
        error = cause if isinstance(cause, MqttError) else MqttError(str(cause) or type(cause).__name__)
        if not self._connected.done():
            self._connected.set_exception(error)
        elif not self._disconnected.done():
            self._disconnected.set_exception(error)

    def _drop(self) -> None:
        """Let go of socket, reader and task, in whatever state they are."""
        self._client._sock_close()  # paho closes by itself only where the broker takes the DISCONNECT
        if self._misc_task is not None:
            self._misc_task.cancel()
        if not self._disconnected.done():
            self._disconnected.set_result(None)
        if self._connected.done() and not self._connected.cancelled():
            self._connected.exception()  # retrieved, so that nobody is told of it once more
        else:
            self._connected.cancel()

    def _readable(self) -> None:
        try:
            while not self._paused:
                self._client.loop_read()
                raw = self._client.socket()
                if not isinstance(raw, socket.socket):
                    return
                arm_quick_ack(raw)
                if self._client._in_packet["remaining_length"] > MAX_PACKET_BYTES:
                    # It was told the limit: taking the rest of such a packet would let it fill the memory.
                    raise MqttError("the broker sends a packet larger than agreed")
                if not (isinstance(raw, ssl.SSLSocket) and raw.pending()):
                    return
        except Exception as error:  # noqa: BLE001 - whatever a broken connection raises, it is a lost connection
            self._lose(error)
            self._client._sock_close()

    def _writable(self) -> None:
        try:
            self._client.loop_write()
        except Exception as error:  # noqa: BLE001 - as above
            self._lose(error)
            self._client._sock_close()

    # All callbacks of paho run in the loop's thread, because `open` connects without one of paho's.

    def _on_socket_open(self, client: paho.Client, userdata: object, sock: paho.SocketLike) -> None:
        self._loop.add_reader(sock.fileno(), self._readable)
        self._misc_task = self._loop.create_task(self._misc_loop())

    def _on_socket_close(self, client: paho.Client, userdata: object, sock: paho.SocketLike) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())

    # paho says that it wants to write before every packet and takes it back once it is written, mostly at once; to have
    # the loop watch the socket for that would be two system calls for each packet.

    def _on_socket_register_write(self, client: paho.Client, userdata: object, sock: paho.SocketLike) -> None:
        if not self._may_write:
            self._may_write = True
            self._loop.call_soon(self._write_later)

    def _on_socket_unregister_write(self, client: paho.Client, userdata: object, sock: paho.SocketLike) -> None:
        if self._watched_fd >= 0:
            self._loop.remove_writer(self._watched_fd)
            self._watched_fd = -1

    def _write_later(self) -> None:
        """Write what is still there, and watch for room in the socket's buffer where it does not take all of it."""
        self._may_write = False
        if self._client.want_write():
            self._writable()
        raw = self._client.socket()
        if self._watched_fd < 0 and isinstance(raw, socket.socket) and raw.fileno() >= 0 and self._client.want_write():
            self._watched_fd = raw.fileno()
            self._loop.add_writer(self._watched_fd, self._writable)

    def _on_connect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.session_present = bool(flags.session_present)
        self.max_packet_bytes = min(MAX_PACKET_BYTES, _limit(properties, "MaximumPacketSize", MAX_PACKET_BYTES))
        # paho does not read it, and its setter refuses an open connection; a broker ends the connection of a client
        # that has more under way than it allows.
        client._max_inflight_messages = min(_MAX_UNACKNOWLEDGED, _limit(properties, "ReceiveMaximum", 65_535))
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.taken_over = getattr(reason_code, "value", 0) == _SESSION_TAKEN_OVER
        if not self._connected.done():
            self._lose(MqttError(f"the broker closed the connection before it answered ({reason_code})"))
        elif not self._disconnected.done():
            if getattr(reason_code, "value", 0):
                told = str(reason_code) if flags.is_disconnect_packet_from_server else "it broke off"
                self._lose(MqttError(f"the connection is gone: {told}"))
            else:
                self._disconnected.set_result(None)

    def _on_publish(
        self, client: paho.Client, userdata: object, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        waiting = self._unacknowledged.get(mid)
        if waiting is not None and not waiting.done():
            waiting.set_result(int(reason_code.value))

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self._arrived(
            self,
            message.mid if message.qos else 0,
            Incoming(
                topic=_topic(message),
                payload=bytes(message.payload),
                qos=message.qos,
                retain=message.retain,
                response_topic=str(getattr(properties, "ResponseTopic", "")),
                correlation=bytes(getattr(properties, "CorrelationData", b"")),
            ),
        )


@functools.lru_cache(maxsize=16)
def posted_properties(expiry_s: int) -> Properties:
    """Return the properties of a publication that only expires; whoever publishes does not change them."""
    properties = PackedProperties(PacketTypes.PUBLISH)
    properties.MessageExpiryInterval = expiry_s
    return properties


def publish_properties(*, expiry_s: int = 0, response_topic: str = "", correlation: bytes = b"") -> Properties:
    """Make the MQTT 5 properties of a publication; 0 and empty leave a property out."""
    properties = SharedProperties(PacketTypes.PUBLISH)
    if expiry_s:
        properties.MessageExpiryInterval = expiry_s
    if response_topic:
        properties.ResponseTopic = response_topic
    if correlation:
        properties.CorrelationData = correlation
    return properties


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call] # paho has no types here


def _limit(properties: Properties | None, name: str, default: int) -> int:
    value = getattr(properties, name, default)
    return value if isinstance(value, int) and value > 0 else default


def _topic(message: paho.MQTTMessage) -> str:
    try:
        return message.topic
    except UnicodeDecodeError:
        return ""


def _will(will: LastWill | None) -> aiomqtt.Will | None:
    if will is None:
        return None
    properties = _properties(PacketTypes.WILLMESSAGE)
    properties.WillDelayInterval = will.delay_s
    return aiomqtt.Will(will.topic, will.payload, qos=1, retain=will.retain, properties=properties)
