"""A connection to a node over MQTT 3.1.1 with paho-mqtt: what both examples share."""

from __future__ import annotations

import queue
import uuid
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt


class Link:
    """One connection. `receive` returns topic and payload, or None after `seconds` without a message."""

    def __init__(self, address: str) -> None:
        self._place = urlsplit(address)
        self._inbox: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._client: mqtt.Client | None = None
        self.client_id = "example-" + uuid.uuid4().hex[:12]

    def connect(self, username: str, password: str, topics: list[str]) -> None:
        """Connect and subscribe; raises `OSError` where the node does not let us in."""
        self.close()
        self._inbox = queue.Queue()
        refused: queue.Queue[bool] = queue.Queue()
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=self.client_id, protocol=mqtt.MQTTv311)
        client.username_pw_set(username, password)
        client.on_connect = lambda _client, _data, _flags, reason, _properties: refused.put(reason.is_failure)
        client.on_message = lambda _client, _data, message: self._inbox.put((message.topic, message.payload))
        client.connect(self._place.hostname or "127.0.0.1", self._place.port or 1883, keepalive=60)
        client.loop_start()
        self._client = client
        try:
            if refused.get(timeout=10):
                raise OSError("the node does not let us in")
        except queue.Empty:
            raise OSError("the node does not answer") from None
        for topic in topics:
            client.subscribe(topic, qos=1)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1; raises `OSError` where the connection is gone."""
        if self._client is None or not self._client.is_connected():
            raise OSError("the connection is gone")
        self._client.publish(topic, payload, qos=1)

    def receive(self, seconds: float) -> tuple[str, bytes] | None:
        """Wait for a message."""
        try:
            return self._inbox.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None
