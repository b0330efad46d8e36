"""The bus: publishes, subscribes and asks over one MQTT connection that comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from qedge.base.backoff import Backoff
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.config import BusConfig
from qedge.bus.model import MAX_MESSAGE_BYTES, Endpoint, Handler, Incoming, LastWill
from qedge.bus.mqtt_client import MqttClient, MqttError, publish_properties
from qedge.wire.node import BusView
from qedge.wire.topics import matches

_LOG: Final = get_logger("bus")
_PULSE_S: Final = 1.0
_HANDLER_LIMIT_S: Final = 30.0
_TAKEN_OVER_WAIT_S: Final = 30.0
_PACKET_MARGIN_BYTES: Final = 1024

Locate = Callable[[], Endpoint | None]
"""Where the broker is now; None while a child broker is not up."""

OnSession = Callable[[bool], Awaitable[None]]


class Bus:
    """One MQTT 5 connection with a persistent session.

    QoS-1 messages are acknowledged in order, each after its handlers returned; `receive_maximum` bounds how many the
    broker may send ahead. QoS-0 messages wait in a bounded queue. A handler that raises is counted, and its message
    acknowledged: poison must not come back for ever.
    """

    name = "bus"

    def __init__(
        self,
        config: BusConfig,
        locate: Locate,
        *,
        client_id: str,
        reply_topic: str,
        will: LastWill | None,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
        uniform: Callable[[], float],
    ) -> None:
        self._config = config
        self._locate = locate
        self._client_id = client_id
        self._reply_topic = reply_topic
        self._will = will
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes
        self._uniform = uniform
        self._backoff = Backoff(0.1, config.reconnect_cap_s)
        self._handlers: list[tuple[str, Handler]] = []
        self._on_session: list[OnSession] = []
        self._asked: dict[bytes, asyncio.Future[Incoming]] = {}
        self._inbox: deque[tuple[int, Incoming]] = deque()
        self._arrival = asyncio.Event()
        self._up = asyncio.Event()
        self._client: MqttClient | None = None
        self._endpoint: Endpoint | None = None
        self._connects = 0
        self.progress_ns = clock.now_ns()
        """When the message pump last moved or was cleanly waiting to connect again (boot-time clock)."""

    @property
    def connected(self) -> bool:
        """Whether the broker accepted the connection and it stands."""
        return self._up.is_set()

    def view(self) -> BusView:
        """Describe the connection."""
        endpoint = self._endpoint or self._locate()
        return BusView(
            connected=self.connected,
            broker=endpoint.shown if endpoint else "",
            kind=endpoint.kind if endpoint else "starting",
            session_present=self._client.session_present if self._client else False,
            reconnects=max(0, self._connects - 1),
        )

    def subscribe(self, pattern: str, handler: Handler) -> None:
        """Hand every message on `pattern` to `handler`; call it before `run`."""
        self._handlers.append((pattern, handler))

    def on_session(self, hook: OnSession) -> None:
        """Call `hook(session_present)` after every connection; without a session everything retained is due again."""
        self._on_session.append(hook)

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0, deadline_s: float = 10.0
    ) -> None:
        """Publish; QoS 1 returns once the broker has it. Raises `bus.unavailable`, `bus.timeout`, `bus.too_large`."""
        await self._send(topic, payload, qos, retain, expiry_s, deadline_s)

    async def respond(self, request: Incoming, payload: bytes) -> None:
        """Answer a request where its sender said how."""
        if request.response_topic and not any(sign in request.response_topic for sign in "+#"):
            await self._send(request.response_topic, payload, 1, False, 0, 10.0, correlation=request.correlation)

    async def request(self, topic: str, payload: bytes, *, deadline_s: float) -> Incoming:
        """Publish a question at QoS 1 and return its answer; raises `bus.timeout` where none comes."""
        correlation = self._random_bytes(16)
        answer: asyncio.Future[Incoming] = asyncio.get_running_loop().create_future()
        self._asked[correlation] = answer
        try:
            async with asyncio.timeout(deadline_s):
                await self._send(
                    topic, payload, 1, False, 0, deadline_s, correlation=correlation, response_topic=self._reply_topic
                )
                return await answer
        except TimeoutError:
            raise _timeout(f"Nobody answered on {topic} within {deadline_s:g} s.") from None
        finally:
            self._asked.pop(correlation, None)

    async def run(self, ready: Ready) -> None:
        """Stay connected until cancelled."""
        attempt = 0
        tls = await asyncio.to_thread(self._tls_context)
        password = await asyncio.to_thread(_read_password, self._config.password_file)
        while True:
            endpoint = self._locate()
            if endpoint is None:
                await self._wait(0.05)
                continue
            if not endpoint.username:
                endpoint = Endpoint(
                    endpoint.host, endpoint.port, endpoint.kind, endpoint.tls, self._config.username, password
                )
            self._endpoint = endpoint
            self._client = self._make_client(endpoint, tls)
            reason = "lost"
            try:
                async with self._client:
                    attempt = 0
                    await self._serve(self._client, ready)
            except (MqttError, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            finally:
                self._up.clear()
                self._metrics.set("qedge_bus_connected", 0)
            delay_s = self._backoff.delay_s(attempt, self._uniform())
            if self._client.taken_over:
                reason, delay_s = "another process uses this node's name", _TAKEN_OVER_WAIT_S
            attempt += 1
            _LOG.warning("bus.disconnected", reason=reason, delay_s=round(delay_s, 3))
            await self._wait(delay_s)

    async def _serve(self, client: MqttClient, ready: Ready) -> None:
        """One connection from CONNACK to its end."""
        self._inbox.clear()  # what was not acknowledged comes again
        patterns = [
            (pattern, 1) for pattern in sorted({pattern for pattern, _ in self._handlers} | {self._reply_topic})
        ]
        await client.subscribe(patterns)
        self._connects += 1
        self._up.set()
        self._metrics.set("qedge_bus_connected", 1)
        self._metrics.add("qedge_bus_reconnects_total")
        _LOG.info(
            "bus.connected",
            broker=self._endpoint.shown if self._endpoint else "",
            session_present=client.session_present,
        )
        pump = asyncio.create_task(self._pump(client))
        hooks = asyncio.create_task(self._announce(client.session_present))
        lost = asyncio.ensure_future(client.wait_lost())
        try:
            ready()
            await asyncio.wait({pump, lost}, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
            lost.result()
        finally:
            for task in (pump, hooks):
                task.cancel()
            await asyncio.gather(pump, hooks, return_exceptions=True)
            if lost.done() and not lost.cancelled():
                lost.exception()

    async def _announce(self, session_present: bool) -> None:
        for hook in self._on_session:
            try:
                await hook(session_present)
            except QedgeError as error:
                _LOG.warning("bus.rejected", topic="", reason=str(error))

    async def _pump(self, client: MqttClient) -> None:
        while True:
            self.progress_ns = self._clock.now_ns()
            if not self._inbox:
                self._arrival.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PULSE_S):
                        await self._arrival.wait()
                continue
            mid, message = self._inbox.popleft()
            self._metrics.set("qedge_bus_queue_messages", len(self._inbox))
            await self._handle(message)
            if mid:
                client.acknowledge(mid)

    async def _handle(self, message: Incoming) -> None:
        for pattern, handler in self._handlers:
            if not matches(pattern, message.topic):
                continue
            try:
                async with asyncio.timeout(_HANDLER_LIMIT_S):
                    await handler(message)
            except QedgeError as error:
                self.reject(error.code)
            except TimeoutError:
                self.reject("handler_timeout")
            except Exception as error:  # noqa: BLE001 - one bad message must not end the pump
                self.reject("handler_failed")
                _LOG.error("bus.rejected", topic=message.topic, reason=f"{type(error).__name__}: {error}")

    def reject(self, reason: str) -> None:
        """Count a message that had no effect."""
        self._metrics.add("qedge_bus_rejected_total", (reason,))

    def _arrived(self, mid: int, message: Incoming) -> None:
        """Take a message from the library, inside its read callback."""
        self._metrics.add("qedge_bus_messages_total", ("in",))
        client = self._client
        if len(message.payload) > MAX_MESSAGE_BYTES:
            self.reject("bus.too_large")
        elif message.topic == self._reply_topic:
            # Answers do not stand in line: a handler may be waiting for one.
            waiting = self._asked.get(message.correlation)
            if waiting is None or waiting.done():
                self.reject("unasked")
            else:
                waiting.set_result(message)
        elif message.qos == 0 and len(self._inbox) >= self._config.queue_limit:
            self.reject("queue_full")
        else:
            self._inbox.append((mid, message))
            self._arrival.set()
            return
        if mid and client is not None:
            client.acknowledge(mid)

    async def _send(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        expiry_s: int,
        deadline_s: float,
        *,
        correlation: bytes = b"",
        response_topic: str = "",
    ) -> None:
        client = self._client
        if client is None or not self._up.is_set():
            raise QedgeError(
                "bus.unavailable", "The node is not connected to its MQTT broker.", fix="Look at the broker."
            )
        limit = min(MAX_MESSAGE_BYTES, client.max_packet_bytes - _PACKET_MARGIN_BYTES)
        if len(payload) > limit:
            raise QedgeError("bus.too_large", f"A message of {len(payload)} bytes is over the limit of {limit}.")
        properties = publish_properties(expiry_s=expiry_s, response_topic=response_topic, correlation=correlation)
        try:
            await client.publish(topic, payload, qos=qos, retain=retain, properties=properties, timeout=deadline_s)
        except MqttError as error:
            if "timed out" in str(error):
                raise _timeout(f"The broker did not acknowledge a message on {topic}.") from error
            raise QedgeError("bus.unavailable", f"The broker is gone: {error}.", fix="Look at the broker.") from error
        self._metrics.add("qedge_bus_messages_total", ("out",))

    async def _wait(self, delay_s: float) -> None:
        """Wait to connect again; that is progress, so that a dead broker never restarts the daemon."""
        end_ns = self._clock.now_ns() + round(delay_s * 1e9)
        while (left_s := (end_ns - self._clock.now_ns()) / 1e9) > 0:
            self.progress_ns = self._clock.now_ns()
            await asyncio.sleep(min(left_s, _PULSE_S))
        self.progress_ns = self._clock.now_ns()

    def _make_client(self, endpoint: Endpoint, tls: ssl.SSLContext | None) -> MqttClient:
        return MqttClient(
            endpoint,
            self._arrived,
            client_id=self._client_id,
            keepalive_s=self._config.keepalive_s,
            session_expiry_s=self._config.session_expiry_s,
            receive_maximum=self._config.receive_maximum,
            connect_timeout_s=self._config.connect_timeout_s,
            will=self._will,
            tls=tls if endpoint.tls else None,
        )

    def _tls_context(self) -> ssl.SSLContext | None:
        if not self._config.url.startswith("mqtts://"):
            return None
        try:
            context = ssl.create_default_context(cafile=self._config.ca_file or None)
            if self._config.cert_file:
                context.load_cert_chain(self._config.cert_file, self._config.key_file or None)
        except (OSError, ssl.SSLError) as error:
            raise QedgeError(
                "bus.refused", f"The certificates for the broker cannot be used: {error}.", fix="Correct [broker]."
            ) from error
        return context


def external_endpoint(config: BusConfig) -> Endpoint | None:
    """Return the configured broker, or None where the node has a private one; raises `config.invalid`."""
    if not config.url:
        return None
    scheme, _, rest = config.url.partition("://")
    host, _, port = rest.rpartition(":") if ":" in rest.rpartition("]")[2] else (rest, "", "")
    tls = scheme == "mqtts"
    if port and not (port.isdigit() and 0 < int(port) < 65_536):
        raise QedgeError("config.invalid", f"broker.url has no valid port: {port!r}.", fix="Use 1 to 65535.")
    return Endpoint(host.strip("[]"), int(port) if port else (8883 if tls else 1883), "external", tls)


def _read_password(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text("utf-8").splitlines()[0]
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise QedgeError(
            "bus.refused", f"The password file {path} cannot be read.", fix="Correct broker.password_file."
        ) from error


def _timeout(message: str) -> QedgeError:
    return QedgeError("bus.timeout", message, fix="Try again; `qedge status` shows the connection.")
