"""The edge node at work: one session on one server at a time; it samples readings and carries out commands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from qedge.base.backoff import Backoff
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.fleet.sparkplug.commands import Heard
from qedge.fleet.sparkplug.connection import Connection
from qedge.fleet.sparkplug.control import NodeControl
from qedge.fleet.sparkplug.history import History
from qedge.fleet.sparkplug.model import Broken, Leave, Parting, Ping, Rest, Send, Verb
from qedge.fleet.sparkplug.packets import Packet
from qedge.fleet.sparkplug.ports import BdSeqKeep, Controls, Readings, Spool
from qedge.fleet.sparkplug.recorder import Recorder
from qedge.fleet.sparkplug.servers import Server
from qedge.fleet.sparkplug.session import Rules, Session
from qedge.fleet.sparkplug.walk import Walk
from qedge.wire.node import SparkplugView

_LOG: Final = get_logger("sparkplug")
_BASE_S: Final = 1.0
_GOODBYE_S: Final = 2.0
_PUBACK_S: Final = 1.0
_QUIET_NS: Final = 10_000_000_000


@dataclass(frozen=True, slots=True)
class _End:
    """How an attempt ended; `spoke`: it came to an NBIRTH."""

    reason: Parting
    walk: bool
    spoke: bool
    problem: str = ""


class SparkplugService:
    """Runs until cancelled; then it says NDEATH and DISCONNECT."""

    name = "sparkplug"

    def __init__(
        self,
        rules: Rules,
        servers: Callable[[], Sequence[Server]],
        *,
        client_id: str,
        sample_s: float,
        connect_timeout_s: float,
        reconnect_cap_s: float,
        readings: Readings,
        controls: Controls,
        spool: Spool,
        bd_seq: BdSeqKeep,
        clock: Clock,
        metrics: Metrics,
        uniform: Callable[[], float],
    ) -> None:
        """`uniform` is random in [0, 1) and spreads the connections of a fleet after an outage of its server.

        `servers` is asked at every start, so that certificates are read again; it may raise `QedgeError`.
        """
        self._rules = rules
        self._read_servers = servers
        self._servers: Sequence[Server] = ()
        self._client_id = client_id
        self._connect_timeout_s = connect_timeout_s
        self._backoff = Backoff(_BASE_S, reconnect_cap_s)
        self._readings = readings
        self._bd_seq = bd_seq
        self._clock = clock
        self._metrics = metrics
        self._uniform = uniform
        self._recorder = Recorder(rules.deadband_ratio)
        self._session: Session | None = None
        self._wake = asyncio.Event()
        self._told = asyncio.Event()
        self._quiet_until_ns = 0
        self._problem = ""
        self._name = f"{rules.topics.group}/{rules.topics.node}"
        self._view = SparkplugView(self._name, "connecting")
        self._history = History(spool, session=lambda: self._session, wake=self._wake.set, clock=clock, metrics=metrics)
        self._control = NodeControl(
            rules.writable,
            controls,
            sample_s=sample_s,
            next_server=self._to_next_server,
            changed=self._sample,
            clock=clock,
            metrics=metrics,
        )

    def view(self) -> SparkplugView:
        """Describe the edge node."""
        return self._view

    async def run(self, ready: Ready) -> None:
        """Run until cancelled. It is ready at once: the node works without its SCADA system."""
        self._servers = self._read_servers()
        ready()
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(each) for each in (self._sample_always(), self._control.run())]
            history = group.create_task(self._history.run())
            try:
                await self._attempts()
            finally:
                # the history last: it writes down what the last session could not send
                for task in (*beside, history):
                    task.cancel()

    # One server after the other

    async def _attempts(self) -> None:
        """Never two at once.

        tck-id-operational-behavior-primary-application-state-with-multiple-servers-single-server.
        """
        walk = Walk(len(self._servers), self._backoff, self._rules.keepalive_s)
        await self._told.wait()
        while True:
            begun_ns = self._clock.now_ns()
            end = await self._attempt(self._servers[walk.at])
            lasted_s = (self._clock.now_ns() - begun_ns) / 1e9
            delay_s = walk.ended(walk=end.walk, spoke=end.spoke, lasted_s=lasted_s, uniform=self._uniform())
            if end.problem:
                _LOG.info("sparkplug.lost", reason=end.problem, delay_s=round(delay_s, 3))
            self._problem = end.problem or end.reason.value
            self._view = SparkplugView(self._name, "connecting", problem=self._problem)
            await asyncio.sleep(delay_s)

    async def _attempt(self, server: Server) -> _End:
        connection = Connection(server.endpoint, server.tls, self._hear, self._wake.set)
        session: Session | None = None
        goodbye = False
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                session = await self._connect(server, connection)
            leave = await self._write(session, connection)
            goodbye = True
            _LOG.info("sparkplug.left", reason=leave.reason.value, server=server.endpoint.shown)
            return _End(leave.reason, leave.walk, bool(session.births.owners))
        except asyncio.CancelledError:
            if session is not None:
                goodbye = await self._say_goodbye(session, connection)
            raise
        except (QedgeError, OSError, TimeoutError) as error:
            spoke = session is not None and bool(session.births.owners)
            return _End(Parting.LOST, walk=False, spoke=spoke, problem=str(error) or "no answer in time")
        finally:
            self._settle(session)
            await connection.close(goodbye=goodbye)

    async def _connect(self, server: Server, connection: Connection) -> Session:
        """Open the way, count, connect, subscribe; raises `OSError`, `bus.*`.

        The number is taken once the server has answered to TCP, so attempts without a CONNECT do not count, and before
        the CONNECT is written, so that no number is ever used twice.
        """
        await connection.dial()
        session = Session(self._rules, await self._bd_seq.next(), self._clock.now_ns())
        self._view = SparkplugView(self._name, "connecting", server.endpoint.shown, session.bd_seq, self._problem)
        self._session = session
        self._metrics.add("qedge_sparkplug_connects_total")
        await connection.connect(self._client_id, round(self._rules.keepalive_s), session.will(self._utc_ms()))
        await connection.subscribe(session.filters())
        self._sample()
        session.subscribed(self._clock.now_ns())
        return session

    def _settle(self, session: Session | None) -> None:
        """Take over from a session that has ended what its hosts know, and what may not have reached them."""
        self._session = None
        self._metrics.set("qedge_sparkplug_online", 0)
        if session is not None:
            self._recorder.follow(session.births)
            self._history.keep(session.unconfirmed())
            if session.strangers:
                self._metrics.add("qedge_sparkplug_history_total", ("strange",), session.strangers)

    async def _say_goodbye(self, session: Session, connection: Connection) -> bool:
        session.leave(Parting.STOPPED)
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._write(session, connection)
        except (QedgeError, OSError, TimeoutError):
            return False
        return True

    # The one writer

    async def _write(self, session: Session, connection: Connection) -> Leave:
        """Write what the session says until it leaves; raises `OSError`, `TimeoutError`, `bus.unavailable`."""
        while True:
            self._wake.clear()
            now_ns = self._clock.now_ns()
            step = session.next(now_ns, self._utc_ms())
            if isinstance(step, Leave):
                return step
            if isinstance(step, Broken):
                raise QedgeError("bus.unavailable", "The server does not answer any more.")
            if isinstance(step, Rest):
                self._tell(session)
                await self._rest(step, now_ns, connection)
                continue
            async with asyncio.timeout(self._rules.keepalive_s):
                if isinstance(step, Ping):
                    await connection.ping()
                else:
                    await self._send(step, session, connection)
            await asyncio.sleep(0)  # births of many devices are no reason to keep others waiting

    async def _send(self, send: Send, session: Session, connection: Connection) -> None:
        self._metrics.add("qedge_sparkplug_messages_total", (send.verb.value,))
        if send.verb is Verb.NDEATH:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PUBACK_S):
                    await connection.publish_sure(send.topic, send.payload)
                    session.all_read()
            return
        await connection.publish(send.topic, send.payload)
        if send.historical:
            self._metrics.add("qedge_sparkplug_history_total", ("sent",), send.historical)
        if send.verb is Verb.NBIRTH:
            self._metrics.add("qedge_sparkplug_births_total", ("again" if session.rebirths else "first",))

    async def _rest(self, rest: Rest, now_ns: int, connection: Connection) -> None:
        if not connection.lost.is_set():  # it may have been lost before `_wake` was cleared
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(60.0, max(0.0, (rest.until_ns - now_ns) / 1e9))):
                    await self._wake.wait()
        if connection.lost.is_set():
            raise QedgeError("bus.unavailable", f"The connection is gone: {connection.loss}.")

    def _tell(self, session: Session) -> None:
        """Say how far the session is, where that has changed."""
        state = "online" if session.is_online else "births" if session.has_begun else "waiting"
        if state == self._view.state:
            return
        self._view = SparkplugView(self._name, state, self._view.server, session.bd_seq)
        self._metrics.set("qedge_sparkplug_online", float(state == "online"))
        if state == "online":
            devices = len(session.births.owners) - 1
            _LOG.info("sparkplug.online", server=self._view.server, bd_seq=session.bd_seq, devices=devices)
        elif state == "waiting":
            _LOG.info("sparkplug.waiting", server=self._view.server, host=self._rules.primary_host)

    # What comes in

    def _hear(self, packet: Packet) -> None:
        session = self._session
        if session is None:
            return
        if packet.kind == "pingresp":
            if up_to := session.ponged():
                self._history.erase(up_to)
        else:
            heard = session.heard(packet.topic, packet.payload, retain=packet.retain)
            if heard.outcome != "state":
                self._take(packet.topic, heard)
        self._wake.set()

    def _take(self, topic: str, heard: Heard) -> None:
        self._metrics.add("qedge_sparkplug_commands_total", (heard.outcome,))
        if (heard.outcome != "taken" or heard.refused) and self._clock.now_ns() >= self._quiet_until_ns:
            self._quiet_until_ns = self._clock.now_ns() + _QUIET_NS  # whoever may publish here must not fill the log
            _LOG.warning("sparkplug.refused", topic=topic[:200], outcome=heard.outcome, metrics=heard.refused)
        for write in heard.writes:
            self._control.submit(write)

    def _to_next_server(self) -> None:
        if self._session is not None:
            self._session.leave(Parting.NEXT_SERVER, walk=True)
            self._wake.set()

    # What is observed

    async def _sample_always(self) -> None:
        while True:
            self._sample()
            await self._control.next_sample()

    def _sample(self) -> None:
        """Look at all readings: for the session, or for the spool while no host can be told."""
        utc_ms = self._utc_ms()
        told = self._readings.snapshot(utc_ms)
        if told is None:
            return
        self._told.set()
        snapshot = self._control.with_own(told)
        session = self._session
        if session is not None:
            session.observe(snapshot, utc_ms)
            self._wake.set()
        if session is None or not session.has_begun:
            self._history.keep(self._recorder.changes(snapshot, utc_ms))

    def _utc_ms(self) -> int:
        return max(0, self._clock.utc_ns() // 1_000_000)
