"""The connection of an adapter to the broker of its tool: plain MQTT, a clean session, back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from qedge.base.backoff import Backoff
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.credentials import read_password, tls_context
from qedge.bus.endpoint import external_endpoint
from qedge.bus.inbox import Inbox
from qedge.bus.model import MAX_MESSAGE_BYTES, Endpoint, Handler, Incoming, LastWill, MqttVersion
from qedge.bus.mqtt_client import MqttClient, MqttError, publish_properties
from qedge.fleet.tool_broker import ToolBrokerConfig

_LOG: Final = get_logger("fleet")
_QUEUE_LIMIT: Final = 1000
_RECEIVE_MAXIMUM: Final = 64
_CONNECT_LIMIT_S: Final = 10.0
_PULSE_S: Final = 1.0
_STEADY_S: Final = 10.0
_FIRST_RETRY_S: Final = 0.5
_LAST_RETRY_S: Final = 60.0
_FAREWELL_S: Final = 1.0

OnConnected = Callable[[], Awaitable[None]]
"""Called after every connection, once the subscriptions stand."""


class ToolConnection:
    """One connection. Messages that come go to their handlers one after the other, and are acknowledged after that.

    Where more come than can be handled, reading stops until there is room: at QoS 1 nothing is lost. The will is also
    published where the connection ends in order, since a broker forgets it then.
    """

    def __init__(
        self,
        adapter: str,
        config: ToolBrokerConfig,
        *,
        client_id: str,
        clock: Clock,
        metrics: Metrics,
        uniform: Callable[[], float],
    ) -> None:
        self._adapter = adapter
        self._config = config
        self._client_id = client_id
        self._clock = clock
        self._metrics = metrics
        self._uniform = uniform
        self._backoff = Backoff(_FIRST_RETRY_S, _LAST_RETRY_S)
        # Counted apart: the figures of the bus are those of the node's own broker.
        self._inbox = Inbox(_QUEUE_LIMIT, metrics=Metrics(), clock=clock)
        self._hooks: list[OnConnected] = []
        self._before: list[Callable[[], None]] = []
        self._will: Callable[[], LastWill | None] = lambda: None
        self._client: MqttClient | None = None
        self.error = ""
        """Why there is no connection; empty while there is one."""

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._client is not None

    @property
    def progress_ns(self) -> int:
        """When the message pump last moved (boot-time clock)."""
        return self._inbox.progress_ns

    @property
    def state(self) -> str:
        """The connection in a word or a sentence."""
        return "connected" if self.connected else self.error or "connecting"

    def subscribe(self, pattern: str, handler: Handler) -> None:
        """Hand every message on `pattern` to `handler`; to be said before `run`."""
        self._inbox.add_handler(pattern, handler)

    def on_connected(self, hook: OnConnected) -> None:
        """Call `hook` after every connection."""
        self._hooks.append(hook)

    def before_connection(self, hook: Callable[[], None]) -> None:
        """Call `hook` before every connection: nothing has come of it yet, also nothing that is retained."""
        self._before.append(hook)

    def set_will(self, make: Callable[[], LastWill | None]) -> None:
        """Leave the will that `make` returns with the broker, asked for at every connection."""
        self._will = make

    def post(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish at QoS 1 without waiting; False where there is no connection or too much is under way."""
        try:
            client = self._client_for(payload)
            client.post(topic, payload, qos=1, retain=retain, properties=publish_properties())
        except (QedgeError, MqttError):
            self._metrics.add("qedge_adapter_messages_total", (self._adapter, "dropped"))
            return False
        self._metrics.add("qedge_adapter_messages_total", (self._adapter, "out"))
        return True

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False, deadline_s: float = 10.0) -> None:
        """Publish at QoS 1; returns once the broker has it.

        Raises `bus.unavailable`, `bus.timeout`, `bus.too_large`.
        """
        client = self._client_for(payload)
        properties = publish_properties()
        try:
            await client.send(topic, payload, qos=1, retain=retain, properties=properties, deadline_s=deadline_s)
        except MqttError as error:
            raise QedgeError("bus.unavailable", f"The broker of {self._adapter} did not take it: {error}.") from error
        except TimeoutError:
            raise QedgeError("bus.timeout", f"The broker of {self._adapter} did not answer.") from None
        self._metrics.add("qedge_adapter_messages_total", (self._adapter, "out"))

    async def run(self) -> None:
        """Stay connected until cancelled; raises `bus.refused` where a file of the configuration cannot be used."""
        config = self._config.bus()
        tls = await asyncio.to_thread(tls_context, config)
        password = await asyncio.to_thread(read_password, config.password_file)
        endpoint = external_endpoint(config)
        if endpoint is None:
            return
        endpoint = replace(endpoint, username=config.username, password=password)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inbox.run())
            group.create_task(self._stay_connected(endpoint, tls))

    async def _stay_connected(self, endpoint: Endpoint, tls: ssl.SSLContext | None) -> None:
        attempt = 0
        while True:
            began_ns = self._clock.now_ns()
            self.error = await self._connect_once(endpoint, tls)
            if (self._clock.now_ns() - began_ns) / 1e9 > _STEADY_S:
                attempt = 0
            delay_s = self._backoff.delay_s(attempt, self._uniform())
            attempt += 1
            _LOG.warning("adapter.disconnected", adapter=self._adapter, reason=self.error, delay_s=round(delay_s, 3))
            await asyncio.sleep(delay_s)

    async def _connect_once(self, endpoint: Endpoint, tls: ssl.SSLContext | None) -> str:
        """Connect, serve until the connection is gone, and return why it is."""
        for hook in self._before:
            hook()
        client = MqttClient(
            endpoint,
            self._arrived,
            client_id=self._client_id,
            keepalive_s=self._config.keepalive_s,
            session_expiry_s=0,
            receive_maximum=_RECEIVE_MAXIMUM,
            connect_timeout_s=_CONNECT_LIMIT_S,
            clean_start=True,
            will=self._will(),
            tls=tls,
            version=MqttVersion(self._config.version),
        )
        try:
            try:
                await client.open()
                await self._serve(client, endpoint)
                return client.loss
            finally:
                self._client = None
                self._metrics.set("qedge_adapter_connected", 0, (self._adapter,))
                await client.close()
        except TimeoutError:
            return "the broker did not answer in time"
        except (MqttError, OSError) as error:
            return str(error) or type(error).__name__

    async def _serve(self, client: MqttClient, endpoint: Endpoint) -> None:
        self._inbox.forget_redelivered(client)
        patterns = sorted(self._inbox.patterns)
        self._client = client
        if patterns:
            await client.listen(patterns, with_retained=frozenset(patterns))
        self.error = ""
        self._metrics.set("qedge_adapter_connected", 1, (self._adapter,))
        _LOG.info("adapter.connected", adapter=self._adapter, broker=endpoint.shown)
        announcing = asyncio.create_task(self._announce())
        try:
            while not await client.wait_lost(_PULSE_S):
                pass
        except asyncio.CancelledError:
            await self._farewell()
            raise
        finally:
            announcing.cancel()
            await asyncio.gather(announcing, return_exceptions=True)

    async def _announce(self) -> None:
        for hook in self._hooks:
            with contextlib.suppress(QedgeError):  # the connection is gone again, and will be told of as such
                await hook()

    async def _farewell(self) -> None:
        will = self._will()
        if will is not None:
            with contextlib.suppress(QedgeError):
                await self.publish(will.topic, will.payload, retain=will.retain, deadline_s=_FAREWELL_S)

    def _arrived(self, client: MqttClient, mid: int, message: Incoming) -> None:
        if len(message.payload) > MAX_MESSAGE_BYTES:
            self._metrics.add("qedge_adapter_messages_total", (self._adapter, "refused"))
            self._inbox.put_dealt_with(client, mid)
            return
        self._metrics.add("qedge_adapter_messages_total", (self._adapter, "in"))
        self._inbox.put(client, mid, message)

    def _client_for(self, payload: bytes) -> MqttClient:
        client = self._client
        if client is None:
            raise QedgeError("bus.unavailable", f"The broker of {self._adapter} is not connected.")
        if len(payload) + 1024 > client.max_packet_bytes:
            raise QedgeError("bus.too_large", f"A message for {self._adapter} is larger than its broker takes.")
        return client


class AdapterService:
    """A connection as the supervisor runs it, with tasks that go beside it."""

    def __init__(self, connection: ToolConnection, name: str, *beside: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self._connection = connection
        self._beside = beside

    async def run(self, ready: Ready) -> None:
        """Run until cancelled; ready at once, for a tool that is down must not keep the node from its work."""
        ready()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._connection.run())
            for each in self._beside:
                group.create_task(_go(each))


async def _go(work: Callable[[], Awaitable[None]]) -> None:
    await work()
