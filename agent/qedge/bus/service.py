"""The bus: publishes, subscribes and asks over one MQTT connection that comes back by itself."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from paho.mqtt.properties import Properties

from qedge.base.backoff import Backoff
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.config import BusConfig
from qedge.bus.credentials import BrokerCredentials
from qedge.bus.inbox import Inbox
from qedge.bus.model import (
    MAX_MESSAGE_BYTES,
    Endpoint,
    Handler,
    Incoming,
    LastWill,
    Locate,
    OnSession,
    not_taken,
    timed_out,
)
from qedge.bus.mqtt_client import MqttClient, MqttError, posted_properties, publish_properties
from qedge.wire.node import BusView
from qedge.wire.topics import Channel, parse_topic

_LOG: Final = get_logger("bus")
_PULSE_S: Final = 1.0
_LOCATE_POLL_S: Final = 0.05
_READY_WITHOUT_BROKER_S: Final = 5.0
_STEADY_S: Final = 10.0
_TAKEN_OVER_WAIT_S: Final = 300.0
_CONTESTED_WAIT_S: Final = 60.0
_CONTESTED_CONNECTIONS: Final = 5
"""After so many short connections in a row somebody else is taken to use this node's name: neither mosquitto 2.0.11 nor
rumqttd 0.20 tells a persistent session that it was taken over."""

_PACKET_MARGIN_BYTES: Final = 1024
_FIRST_RETRY_S: Final = 0.1
_RETAINED_LIMIT_S: Final = 0.5
_TAKEN_OVER: Final = "another process took over this node's session; does another box have the same name?"
_CONTESTED: Final = "the broker keeps closing the connection; does another box have the same name?"


class Bus:
    """One MQTT 5 connection with a persistent session.

    QoS-1 messages are acknowledged in order, each after its handlers returned; `receive_maximum` bounds how many the
    broker may send ahead. The service is ready once the first attempt to connect has ended, well or not: a broker that
    is down must not keep the node from its local work.
    """

    name = "bus"

    def __init__(
        self,
        config: BusConfig,
        locate: Locate,
        *,
        client_id: str,
        reply_topic: str,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
        uniform: Callable[[], float],
    ) -> None:
        self._config = config
        self._locate = locate
        self._client_id = client_id
        self._reply_topic = reply_topic
        self._will: Callable[[], LastWill | None] = lambda: None
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes
        self._uniform = uniform
        self._backoff = Backoff(_FIRST_RETRY_S, config.reconnect_cap_s)
        self._inbox = Inbox(config.queue_limit, metrics=metrics, clock=clock)
        self._hooks: list[OnSession] = []
        self._retained: set[str] = set()
        self._own: set[str] = {reply_topic}
        self._retained_came = asyncio.Event()
        self._clean_start = False
        self._asked: dict[bytes, asyncio.Future[Incoming]] = {}
        self._new_patterns = asyncio.Event()
        self._again: set[str] = set()
        self._client: MqttClient | None = None
        self._endpoint: Endpoint | None = None
        self._connected = False
        self._connects = 0
        self._attempt = 0
        self._short_connections = 0
        self._error = ""

    @property
    def connected(self) -> bool:
        """Whether the broker accepted the connection and it stands."""
        return self._connected

    @property
    def broker_host(self) -> str:
        """Host of the broker; empty where it is not known yet."""
        endpoint = self._endpoint or self._locate()
        return endpoint.host if endpoint is not None else ""

    @property
    def progress_ns(self) -> int:
        """When the message pump last moved (boot-time clock); it also moves while no broker is there."""
        return self._inbox.progress_ns

    def view(self) -> BusView:
        """Describe the connection."""
        endpoint = self._endpoint or self._locate()
        return BusView(
            connected=self._connected,
            broker=endpoint.shown if endpoint else "",
            kind=endpoint.kind if endpoint else "starting",
            session_present=self._client.session_present if self._client else False,
            reconnects=max(0, self._connects - 1),
            error="" if self._connected else self._error,
        )

    def subscribe(self, pattern: str, handler: Handler, *, retained: bool = False, own: bool = True) -> None:
        """Hand every message on `pattern` to `handler`, now and after every connection to come.

        With `retained`, what the broker keeps there comes after every connection, also where the session goes on.
        Without `own`, the broker is asked to leave out what this connection published, which not every one does.
        """
        if retained:
            self._retained.add(pattern)
        if own:
            self._own.add(pattern)
        self._inbox.add_handler(pattern, handler)
        self._new_patterns.set()

    def read_again(self, pattern: str) -> None:
        """Have the broker send once more what it keeps on a pattern that has a handler."""
        self._again.add(pattern)
        self._new_patterns.set()

    def on_session(self, hook: OnSession) -> None:
        """Call `hook(session_present)` after every connection; without a session everything retained is due again."""
        self._hooks.append(hook)

    def set_will(self, make: Callable[[], LastWill | None]) -> None:
        """Leave the will that `make` returns with the broker, asked for at every connection."""
        self._will = make

    def reject(self, reason: str) -> None:
        """Count a message that had no effect."""
        self._inbox.reject(reason)

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0, deadline_s: float = 10.0
    ) -> None:
        """Publish; QoS 1 returns once the broker has it. Raises `bus.unavailable`, `bus.timeout`, `bus.too_large`."""
        properties = publish_properties(expiry_s=expiry_s)
        await self._send(topic, payload, properties, qos=qos, retain=retain, deadline_s=deadline_s)

    def post(self, topic: str, payload: bytes, *, expiry_s: int) -> None:
        """Publish at QoS 1 without waiting for the broker; raises `bus.unavailable`, `bus.too_large`."""
        self._post(topic, payload, posted_properties(expiry_s))

    def respond(self, request: Incoming, payload: bytes) -> None:
        """Answer a request where its sender said how, at QoS 1 but without waiting: who asked notices a lost answer.

        Only reply topics of the own fleet are answered: otherwise any sender could make this node publish anywhere.
        Raises `bus.bad_message` for any other, `bus.unavailable`, `bus.too_large`.
        """
        back, own = parse_topic(request.response_topic), parse_topic(self._reply_topic)
        if back is None or own is None or back[0] != own[0] or back[2] is not Channel.REPLY:
            raise QedgeError("bus.bad_message", "A request wants its answer on a topic that is not for answers.")
        self._post(request.response_topic, payload, publish_properties(correlation=request.correlation))

    async def request(self, topic: str, payload: bytes, *, deadline_s: float) -> Incoming:
        """Publish a question at QoS 1 and return its answer; raises `bus.timeout` where none comes."""
        correlation, lasts_s = self._random_bytes(16), max(1, round(deadline_s))
        properties = publish_properties(expiry_s=lasts_s, response_topic=self._reply_topic, correlation=correlation)
        answer: asyncio.Future[Incoming] = asyncio.get_running_loop().create_future()
        self._asked[correlation] = answer
        try:
            async with asyncio.timeout(deadline_s):
                await self._send(topic, payload, properties, qos=1, deadline_s=deadline_s)
                return await answer
        except TimeoutError:
            raise timed_out(f"Nobody answered on {topic} within {deadline_s:g} s.") from None
        finally:
            self._asked.pop(correlation, None)

    async def echo(self, payload: bytes, *, deadline_s: float) -> None:
        """Send a message to oneself by way of the broker; raises `bus.timeout` where it does not come back."""
        await self.request(self._reply_topic, payload, deadline_s=deadline_s)

    async def run(self, ready: Ready) -> None:
        """Stay connected until cancelled; raises `bus.refused` where a file of the configuration cannot be used."""
        credentials = await asyncio.to_thread(BrokerCredentials, self._config)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._inbox.run())
                group.create_task(self._stay_connected(ready, credentials))
        finally:
            self._connected = False
            self._client = None

    async def _stay_connected(self, ready: Ready, credentials: BrokerCredentials) -> None:
        began_ns = self._clock.now_ns()
        while True:
            endpoint = self._locate()
            if endpoint is None:
                if (self._clock.now_ns() - began_ns) / 1e9 > _READY_WITHOUT_BROKER_S:
                    ready()
                await asyncio.sleep(_LOCATE_POLL_S)
                continue
            if endpoint != self._endpoint:
                self._endpoint, self._attempt, self._short_connections = endpoint, 0, 0
            if not endpoint.username:
                endpoint = replace(endpoint, username=self._config.username, password=credentials.password)
            client = self._make_client(endpoint, credentials.tls)
            reason = await self._connect_once(client, ready)
            ready()
            reason, delay_s = self._pause_after(client, reason)
            self._attempt += 1
            self._error = reason
            _LOG.warning("bus.disconnected", reason=reason, delay_s=round(delay_s, 3))
            await asyncio.sleep(delay_s)

    def _pause_after(self, client: MqttClient, reason: str) -> tuple[str, float]:
        """Return why to pause and for how long: to come at once for a session that another took is to take it back."""
        if client.taken_over:
            return _TAKEN_OVER, _TAKEN_OVER_WAIT_S * (1 + self._uniform())
        if self._short_connections >= _CONTESTED_CONNECTIONS:
            self._short_connections = 0
            return _CONTESTED, _CONTESTED_WAIT_S * (1 + self._uniform())
        return reason, self._backoff.delay_s(self._attempt, self._uniform())

    async def _connect_once(self, client: MqttClient, ready: Ready) -> str:
        """Connect, serve until the connection is gone, and return why it is."""
        try:
            try:
                await client.open()
                await self._serve(client, ready)
                return client.loss
            finally:
                self._connected = False
                self._metrics.set("qedge_bus_connected", 0)
                await client.close()
        except TimeoutError:
            return f"the broker did not answer within {self._config.connect_timeout_s:g} s"
        except (MqttError, OSError) as error:
            return str(error) or type(error).__name__

    async def _serve(self, client: MqttClient, ready: Ready) -> None:
        """One connection from CONNACK to its end."""
        if client.session_present:
            self._inbox.forget_redelivered(client)
        self._new_patterns.clear()
        asked = {*self._inbox.patterns, self._reply_topic}
        # A new process that resumes the session of an earlier one knows nothing yet of what is retained.
        first = client.session_present and not self._connects
        everything = frozenset(pattern for pattern in asked if first and "+" in pattern)
        with_retained = everything | frozenset(self._retained & asked)
        await client.listen(sorted(asked), with_retained=with_retained, without_own=frozenset(asked - self._own))
        if everything:
            await self._see_retained()
        self._client = client
        self._connected = True
        self._connects += 1
        if not client.session_present and self._config.session_expiry_s > 0:
            self._short_connections = 0  # who takes a name takes its session: a broker that forgot it was itself away
        self._short_connections += 1
        self._metrics.set("qedge_bus_connected", 1)
        self._metrics.add("qedge_bus_reconnects_total")
        shown = self._endpoint.shown if self._endpoint else ""
        _LOG.info("bus.connected", broker=shown, session_present=client.session_present)
        connected_ns = self._clock.now_ns()
        ready()
        tasks = [
            asyncio.create_task(self._announce(client.session_present)),
            asyncio.create_task(self._subscribe_late(client, asked)),
        ]
        try:
            while not await client.wait_lost(_PULSE_S):
                if (self._clock.now_ns() - connected_ns) / 1e9 > _STEADY_S:
                    self._attempt = self._short_connections = 0
                if self._locate() != self._endpoint:
                    raise MqttError("the broker is somewhere else now")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _see_retained(self) -> None:
        """Begin a new session where a broker sends nothing again of what it retains, even the own birth (rumqttd)."""
        try:
            async with asyncio.timeout(_RETAINED_LIMIT_S):
                await self._retained_came.wait()
        except TimeoutError:
            self._clean_start = True
            raise MqttError("it does not send again what it retains, so a new session is begun") from None

    async def _announce(self, session_present: bool) -> None:
        for hook in self._hooks:
            try:
                await hook(session_present)
            except Exception as error:  # noqa: BLE001 - one room's announcement must not keep others from theirs
                _LOG.warning("bus.rejected", topic="", reason=f"{type(error).__name__}: {error}")

    async def _subscribe_late(self, client: MqttClient, asked: set[str]) -> None:
        """Subscribe to patterns that get their first handler while the connection stands."""
        task = asyncio.current_task()
        # `wait_for` of Python 3.11, in aiomqtt, loses a cancellation that comes together with its result
        while task is None or not task.cancelling():
            await self._new_patterns.wait()
            self._new_patterns.clear()
            again, self._again = frozenset(self._again), set()
            fresh = (self._inbox.patterns - asked) | again
            asked |= fresh
            if fresh:
                try:
                    await client.listen(sorted(fresh), with_retained=again, without_own=frozenset(fresh - self._own))
                except MqttError as error:
                    _LOG.warning("bus.rejected", topic=", ".join(sorted(fresh)), reason=str(error))

    def _arrived(self, client: MqttClient, mid: int, message: Incoming) -> None:
        """Take a message from the library, inside its read callback."""
        self._metrics.add("qedge_bus_messages_total", ("in",))
        if message.retain:
            self._retained_came.set()
        if len(message.payload) > MAX_MESSAGE_BYTES:
            self.reject("bus.too_large")
            self._inbox.put_dealt_with(client, mid)
        elif message.topic == self._reply_topic:
            # Answers do not stand in line: a handler may be waiting for one.
            waiting = self._asked.get(message.correlation)
            if waiting is None or waiting.done():
                self.reject("unasked")
            else:
                waiting.set_result(message)
            self._inbox.put_dealt_with(client, mid)
        else:
            self._inbox.put(client, mid, message)

    async def _send(
        self, topic: str, payload: bytes, properties: Properties, *, qos: int, retain: bool = False, deadline_s: float
    ) -> None:
        client = self._client_for(payload)
        try:
            await client.send(topic, payload, qos=qos, retain=retain, properties=properties, deadline_s=deadline_s)
        except TimeoutError:
            raise timed_out(f"The broker did not acknowledge a message on {topic}.") from None
        except MqttError as error:
            raise not_taken(error) from error
        self._metrics.add("qedge_bus_messages_total", ("out",))

    def _post(self, topic: str, payload: bytes, properties: Properties) -> None:
        client = self._client_for(payload)
        try:
            client.post(topic, payload, qos=1, retain=False, properties=properties)
        except MqttError as error:
            raise not_taken(error) from error
        self._metrics.add("qedge_bus_messages_total", ("out",))

    def _client_for(self, payload: bytes) -> MqttClient:
        """Return the connection on which a message may go now; raises `bus.unavailable`, `bus.too_large`."""
        client = self._client
        if client is None or not self._connected:
            raise QedgeError(
                "bus.unavailable",
                f"The node is not connected to its MQTT broker{f' ({self._error})' if self._error else ''}.",
                fix="Look at the broker.",
            )
        limit = min(MAX_MESSAGE_BYTES, client.max_packet_bytes - _PACKET_MARGIN_BYTES)
        if len(payload) > limit:
            raise QedgeError("bus.too_large", f"A message of {len(payload)} bytes is over the limit of {limit}.")
        return client

    def _make_client(self, endpoint: Endpoint, tls: ssl.SSLContext | None) -> MqttClient:
        return MqttClient(
            endpoint,
            self._arrived,
            client_id=self._client_id,
            keepalive_s=self._config.keepalive_s,
            session_expiry_s=self._config.session_expiry_s,
            receive_maximum=self._config.receive_maximum,
            connect_timeout_s=self._config.connect_timeout_s,
            clean_start=self._clean_start and not self._connects,
            will=self._will(),
            tls=tls if endpoint.tls else None,
        )
