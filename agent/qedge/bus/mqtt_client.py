"""The one module that knows the MQTT library: aiomqtt on paho, with what it lacks added through paho itself.

Added: acknowledgement by hand, so that a QoS-1 message is not acknowledged before it was handled; the session-present
flag of the CONNACK; and TCP_QUICKACK armed again after every read, without which a broker that sends two small packets
in a row waits for a delayed acknowledgement of 40 ms (Nagle's algorithm against delayed ACK).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from qedge.bus.model import MAX_MESSAGE_BYTES, Endpoint, Incoming, LastWill

_SESSION_TAKEN_OVER: Final = 0x8E
_NEVER_WARN: Final = 1 << 30
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)
_SILENT: Final = logging.getLogger("qedge.bus.paho")
_SILENT.setLevel(logging.CRITICAL)

MqttError = aiomqtt.MqttError
Arrived = Callable[[int, Incoming], None]


class MqttClient(aiomqtt.Client):
    """One connection, used once. Messages go to `arrived(mid, message)`; QoS-1 ones wait for `acknowledge(mid)`."""

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
        will: LastWill | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        connect = _properties(PacketTypes.CONNECT)
        connect.SessionExpiryInterval = session_expiry_s
        connect.ReceiveMaximum = receive_maximum
        # One byte a level and some for properties; larger packets are the broker's to refuse.
        connect.MaximumPacketSize = MAX_MESSAGE_BYTES + 4096
        super().__init__(
            endpoint.host,
            endpoint.port,
            username=endpoint.username or None,
            password=endpoint.password or None,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=_will(will),
            clean_start=False,
            properties=connect,
            keepalive=keepalive_s,
            timeout=connect_timeout_s,
            tls_context=tls,
            logger=_SILENT,
            max_inflight_messages=1000,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self._arrived = arrived
        self.session_present = False
        self.max_packet_bytes = MAX_MESSAGE_BYTES + 4096
        self.taken_over = False
        self.pending_calls_threshold = _NEVER_WARN
        self._client.manual_ack_set(True)
        self._client.connect_timeout = connect_timeout_s
        self._loop_read = self._client.loop_read
        self._client.loop_read = self._read_and_rearm  # type: ignore[method-assign] # paho offers no hook after a read

    def acknowledge(self, mid: int) -> None:
        """Send the PUBACK of a QoS-1 message."""
        with contextlib.suppress(ValueError):
            self._client.ack(mid, 1)

    async def wait_lost(self) -> None:
        """Return when the connection is gone; raises `MqttError` where that was not asked for."""
        await self._disconnected

    def _read_and_rearm(self, max_packets: int = 1) -> MQTTErrorCode:
        result = self._loop_read(max_packets)
        raw = self._client.socket()
        if _QUICKACK is not None and isinstance(raw, socket.socket):
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return result

    def _on_connect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.session_present = bool(flags.session_present)
        limit = getattr(properties, "MaximumPacketSize", None)
        if isinstance(limit, int) and limit > 0:
            self.max_packet_bytes = limit
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
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self._arrived(
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


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call] # paho's constructor has no annotations


def publish_properties(*, expiry_s: int, response_topic: str, correlation: bytes) -> Properties:
    """Make the MQTT 5 properties of a publication; 0 and empty leave a property out."""
    properties = _properties(PacketTypes.PUBLISH)
    if expiry_s:
        properties.MessageExpiryInterval = expiry_s
    if response_topic:
        properties.ResponseTopic = response_topic
    if correlation:
        properties.CorrelationData = correlation
    return properties


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
    return aiomqtt.Will(will.topic, will.payload, qos=1, retain=True, properties=properties)
