"""The mesh service: publishes the birth, answers pings, and watches the host."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, is_name
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.model import Incoming, LastWill
from qedge.bus.service import Bus
from qedge.mesh.birth import NodeIdentity, differs, make_birth
from qedge.mesh.config import HostConfig
from qedge.mesh.health import Findings, HostHealth, Level
from qedge.mesh.host import HostProbe
from qedge.mesh.ports import Capabilities
from qedge.wire.envelope import Header, decode, encode, purpose_of
from qedge.wire.mesh import Birth, NodeState, Ping, Pong
from qedge.wire.node import HostView, PingView
from qedge.wire.topics import Channel, topic

_LOG: Final = get_logger("mesh")
_SETTLE_S: Final = 0.2
_RETRY_S: Final = 2.0
_LEAVE_LIMIT_S: Final = 0.5
_WILL_DELAY_S: Final = 5
_NONCE_BYTES: Final = 16
_PING_EXPIRY_S: Final = 30


class MeshService:
    """Speaks for this node on the bus. What it hears without a seal grants nothing."""

    name = "mesh"

    def __init__(
        self,
        identity: NodeIdentity,
        config: HostConfig,
        *,
        bus: Bus,
        capabilities: Capabilities,
        state_dir: Path,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self._identity = identity
        self._config = config
        self._bus = bus
        self._capabilities = capabilities
        self._probe = HostProbe(state_dir, clock)
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes
        self._health = HostHealth(config)
        self._sequence = itertools.count()
        self._published: Birth | None = None
        self._changed = asyncio.Event()
        self.sampled_ns = clock.now_ns()
        """When the host was looked at last (boot-time clock)."""
        bus.subscribe(self._topic(Channel.PING), self._answer_ping)
        bus.on_session(self._new_session)
        bus.set_will(self._will)

    def capabilities_changed(self) -> None:
        """Publish the birth again soon."""
        self._changed.set()

    def host_view(self) -> HostView:
        """Describe the host."""
        sample = self._health.last
        if sample is None:
            return HostView()
        return HostView(
            cpu_ratio=sample.cpu_ratio,
            memory_available_bytes=sample.memory_available_bytes,
            memory_total_bytes=sample.memory_total_bytes,
            disk_free_bytes=sample.disk_free_bytes,
            temperature_celsius=sample.temperature_celsius,
            power_watts=sample.power_watts,
            clock_steps=self._health.clock_steps,
            verdict=self._health.verdict,
        )

    async def ping(self, node: str, count: int, *, timeout_s: float = 5.0) -> PingView:
        """Ask `node` of the same fleet `count` times, one after the other; raises `bus.timeout`."""
        if not is_name(node):
            raise QedgeError("job.bad_request", f"{node!r} is no node name.", fix="Use letters, digits, - and _.")
        where = topic(self._identity.fleet, node, Channel.PING)
        times_ms: list[float] = []
        for _ in range(count):
            ping = Ping(self._random_bytes(_NONCE_BYTES))
            message = self._enclose(where, ping, _PING_EXPIRY_S)
            started_ns = self._clock.now_ns()
            answer = await self._bus.request(where, message, deadline_s=timeout_s)
            times_ms.append((self._clock.now_ns() - started_ns) / 1e6)
            header, pong = decode(answer.payload, answer.topic, Pong, self._clock.utc_ns())
            if pong.nonce != ping.nonce or header.sender != node:
                raise QedgeError("bus.bad_message", f"{node} gave an answer to another question.")
        return PingView(node=node, rtt_ms=tuple(times_ms))

    async def run(self, ready: Ready) -> None:
        """Watch the host and keep the birth up to date until cancelled; then take leave."""
        await self._sample()
        ready()
        self._changed.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_host())
                group.create_task(self._keep_birth())
        finally:
            await self._take_leave()

    async def _keep_birth(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(_SETTLE_S)  # several drivers often change together
            birth = self._birth(NodeState.UP)
            if not (self._bus.connected and differs(self._published, birth)):
                continue  # every new session makes it due
            try:
                await self._publish(birth)
            except QedgeError:
                await asyncio.sleep(_RETRY_S)
                self._changed.set()

    async def _new_session(self, _session_present: bool) -> None:
        # Even a broker that kept the session may have published the will in the meantime.
        self._published = None
        self._changed.set()

    async def _publish(self, birth: Birth) -> None:
        where = self._topic(Channel.BIRTH)
        await self._bus.publish(where, self._enclose(where, birth), qos=1, retain=True)
        self._published = birth
        _LOG.info("mesh.birth_published", capabilities=[each.name for each in birth.capabilities])

    async def _take_leave(self) -> None:
        if self._bus.connected:
            try:
                async with asyncio.timeout(_LEAVE_LIMIT_S):
                    await self._publish(self._birth(NodeState.LEAVING))
            except (QedgeError, TimeoutError):
                return

    def _will(self) -> LastWill:
        where = self._topic(Channel.BIRTH)
        return LastWill(where, self._enclose(where, self._birth(NodeState.LOST)), _WILL_DELAY_S)

    def _birth(self, state: NodeState) -> Birth:
        drivers = self._capabilities.drivers() if state is NodeState.UP else ()
        return make_birth(self._identity, drivers, self._clock.utc_ns(), state)

    async def _answer_ping(self, message: Incoming) -> None:
        _, ping = decode(message.payload, message.topic, Ping, self._clock.utc_ns())
        if message.retain:
            raise QedgeError("bus.bad_message", "A question is not kept by a broker.")
        self._bus.respond(message, self._enclose(message.response_topic, Pong(ping.nonce), _PING_EXPIRY_S))

    def _enclose(self, where: str, body: msgspec.Struct, expiry_s: int = 0) -> bytes:
        utc_ns = self._clock.utc_ns()
        expires_utc_ns = utc_ns + expiry_s * 1_000_000_000 if expiry_s else 0
        sequence, purpose = next(self._sequence), purpose_of(type(body))
        return encode(Header(where, self._identity.node, sequence, purpose, utc_ns, expires_utc_ns), body)

    def _topic(self, channel: Channel) -> str:
        return topic(self._identity.fleet, self._identity.node, channel)

    async def _watch_host(self) -> None:
        while True:
            await asyncio.sleep(self._config.sample_interval_s)
            await self._sample()

    async def _sample(self) -> None:
        sample = await asyncio.to_thread(self._probe.look)
        self._report(self._health.take(sample))
        self.sampled_ns = self._clock.now_ns()
        self._metrics.set("qedge_host_cpu_ratio", sample.cpu_ratio)
        self._metrics.set("qedge_host_memory_available_bytes", sample.memory_available_bytes)
        self._metrics.set("qedge_host_memory_total_bytes", sample.memory_total_bytes)
        self._metrics.set("qedge_host_disk_free_bytes", sample.disk_free_bytes)
        self._metrics.set("qedge_process_memory_bytes", sample.daemon_bytes)
        if sample.temperature_celsius:
            self._metrics.set("qedge_host_temperature_celsius", sample.temperature_celsius, ("hottest",))
        if sample.power_watts:
            self._metrics.set("qedge_host_power_watts", sample.power_watts, ("all",))

    def _report(self, findings: Findings) -> None:
        for change in findings.changes:
            if change.level is Level.OK:
                _LOG.info("host.recovered", what=change.what, value=change.value, limit=change.limit)
            else:
                _LOG.warning(
                    "host.degraded",
                    what=change.what,
                    level=change.level.word,
                    value=change.value,
                    limit=change.limit,
                )
        if findings.clock_step_s:
            self._metrics.add("qedge_host_clock_steps_total")
            _LOG.warning("host.clock_stepped", step_s=round(findings.clock_step_s, 3))
