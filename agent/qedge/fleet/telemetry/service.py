"""Two services: one looks at the node and tells what it sees, the other keeps it on the disk and sends it.

Everything goes over the disk, also while the broker is there, so there is one order and one path that crashes are
tested on. What is new goes first, class by class; what waited for the connection follows, marked as historical and
paced by a token bucket, with one message under way at a time: a new item waits at most for one of those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from qedge.base.bucket import Bucket
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.fleet.telemetry.collecting import AlarmBook, alarms, events, health, readings
from qedge.fleet.telemetry.config import TelemetryConfig
from qedge.fleet.telemetry.model import KINDS, Item, Row, kind_of, read, written
from qedge.fleet.telemetry.ports import Sink, Source, Uplink
from qedge.fleet.telemetry.spool import Spool
from qedge.store.fifo import Span
from qedge.wire.node import NodeStatus
from qedge.wire.telemetry import (
    Alarm,
    NodeHealth,
    Telemetry,
    TelemetryBatch,
    TelemetryClass,
    TelemetryItem,
    TelemetryLane,
    TelemetryView,
)

_LOG: Final = get_logger("fleet")
MAX_MESSAGE_BYTES: Final = 96 * 1024
_LOOK_S: Final = 0.25
_WATCH_S: Final = 2.0
_RETRY_S: Final = 1.0
_LAST_RETRY_S: Final = 30.0
_EXPIRE_S: Final = 30.0


class Collector:
    """Looks at the node again and again and tells sinks: what changed soon, readings once a period."""

    name = "telemetry-collector"

    def __init__(self, config: TelemetryConfig, source: Source, *, clock: Clock) -> None:
        self._config = config
        self._source = source
        self._clock = clock
        self._sinks: list[Sink] = []
        self._alarms = AlarmBook(round(config.alarm_after_s * 1e9))
        self._before: NodeStatus | None = None
        self._told: NodeHealth | None = None
        self._told_ns = 0

    @property
    def status(self) -> NodeStatus:
        """The node as it was last seen."""
        return self._before if self._before is not None else self._source()

    @property
    def standing(self) -> tuple[Alarm, ...]:
        """Alarms that have not ended."""
        return tuple(self._alarms.standing.values())

    @property
    def health(self) -> NodeHealth:
        """How the node is now."""
        return health(self.status)

    def add(self, sink: Sink) -> None:
        """Tell another from now on."""
        self._sinks.append(sink)

    def look(self) -> None:
        """Look once and tell what changed; health also where it was not told for long."""
        status, utc_ns = self._source(), self._clock.utc_ns()
        for event in events(self._before, status):
            self.tell(event, utc_ns)
        self._before = status
        for alarm in self._alarms.update(alarms(status, utc_ns), self._clock.now_ns(), utc_ns):
            self.tell(alarm, utc_ns)
        now = health(status)
        same = self._told is not None and (self._told.state, self._told.reasons) == (now.state, now.reasons)
        if not same or self._clock.now_ns() - self._told_ns >= self._config.health_s * 1e9:
            self._told, self._told_ns = now, self._clock.now_ns()
            self.tell(now, utc_ns)

    def measure(self) -> None:
        """Tell the readings of this moment."""
        utc_ns = self._clock.utc_ns()
        for reading in readings(self._source()):
            self.tell(reading, utc_ns)

    def tell(self, body: Telemetry, utc_ns: int) -> None:
        """Hand one item to all sinks."""
        for sink in self._sinks:
            sink(Item(utc_ns, body))

    async def run(self, ready: Ready) -> None:
        """Look until cancelled."""
        ready()
        period_s, due_ns = self._config.period_s, 0
        while True:
            self.look()
            if self._clock.now_ns() >= due_ns:
                due_ns = self._clock.now_ns() + round(period_s * 1e9)
                self.measure()
            await asyncio.sleep(min(_WATCH_S, period_s))


class TelemetryService:
    """Keeps what it is told and sends it. `take` is a `Sink`."""

    name = "telemetry"

    def __init__(
        self, config: TelemetryConfig, spool: Spool, uplink: Uplink, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._config = config
        self._spool = spool
        self._uplink = uplink
        self._clock = clock
        self._metrics = metrics
        self._written = asyncio.Event()
        spool.on_written = self._written.set
        self._up = False
        self._batch = config.batch_items
        # Ids up to here waited for the connection; ids above it up to `_sent` have arrived since it is there.
        self._waited: dict[TelemetryClass, int] = dict.fromkeys(KINDS, 0)
        self._sent: dict[TelemetryClass, int] = dict.fromkeys(KINDS, 0)
        self._left: dict[TelemetryClass, int] = dict.fromkeys(KINDS, 0)
        self._counts: dict[TelemetryClass, int] = dict.fromkeys(KINDS, 0)
        self._problem = ""
        self.adapters: Callable[[], dict[str, str]] = dict
        """How the adapters to other tools are, by name; the daemon sets it."""

    def take(self, item: Item) -> None:
        """Keep an item; never waits."""
        self._spool.put(kind_of(item.body), written(item))

    def view(self) -> TelemetryView:
        """Describe what waits and what gave way."""
        utc_ns = self._clock.utc_ns()
        lanes = tuple(
            TelemetryLane(
                kind,
                state.rows,
                state.num_bytes,
                round(max(0, utc_ns - state.oldest_utc_ns) / 1e9, 3) if state.rows else 0.0,
                self._counts[kind],
                dict(self._spool.dropped[kind]),
            )
            for kind, state in self._spool.lanes.items()
        )
        left = sum(self._left.values()) if self._up else 0
        problem = self._spool.problem or self._problem
        return TelemetryView(
            True, self._up, self._spool.id, self._spool.in_memory, left, lanes, problem, self.adapters()
        )

    async def run(self, ready: Ready) -> None:
        """Write and send until cancelled; what waits in memory then is written first."""
        await self._spool.open()
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._spool.run())
                group.create_task(self._send())
                group.create_task(self._expire())
        finally:
            await self._spool.drain()

    async def _send(self) -> None:
        retry_s = _RETRY_S
        pace = Bucket(self._config.replay_per_s, self._config.batch_items, self._now_ns())
        wait_s = 0.0
        while True:
            self._written.clear()
            self._look_up()
            try:
                if self._up and await self._send_new():
                    continue
                if self._up and wait_s <= 0 and (sent := await self._send_waited()):
                    retry_s, wait_s = _RETRY_S, pace.take(sent, self._now_ns())
                    continue
            except QedgeError as error:
                self._lost(error)
                await asyncio.sleep(retry_s)
                retry_s = min(_LAST_RETRY_S, retry_s * 2)
                continue
            await self._rest(min(wait_s, _LOOK_S) if wait_s > 0 else _LOOK_S)
            wait_s = pace.take(0, self._now_ns())

    async def _rest(self, seconds: float) -> None:
        """Wait until something new is on the disk, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._written.wait()
        except TimeoutError:
            pass
        if not self._up:
            await asyncio.sleep(_LOOK_S / 4)

    def _look_up(self) -> None:
        up = self._uplink.is_up
        if up and not self._up:
            for kind, state in self._spool.lanes.items():
                self._waited[kind] = self._sent[kind] = state.last_id
                self._left[kind] = state.rows
            self._up = True
            _LOG.info("telemetry.up", waiting=sum(self._left.values()))
        elif not up and self._up:
            self._up = False
            _LOG.info("telemetry.down", code="", waiting=sum(each.rows for each in self._spool.lanes.values()))

    def _lost(self, error: QedgeError) -> None:
        self._spool.release()
        self._problem = error.code
        if self._up:
            _LOG.info("telemetry.down", code=error.code, waiting=sum(each.rows for each in self._spool.lanes.values()))
        self._up = False

    async def _send_new(self) -> int:
        """Send what came since the connection is there, of the first class that has any."""
        for kind, state in self._spool.lanes.items():
            if state.last_id > self._sent[kind]:
                span = Span(self._sent[kind], state.last_id)
                rows = await self._spool.batch(self._batch, kind=kind, span=span, max_bytes=MAX_MESSAGE_BYTES)
                if not rows:
                    self._sent[kind] = span.upto
                    continue
                if await self._send_rows(kind, rows, after=span.after, historical=False):
                    self._sent[kind] = rows[-1].id
                return len(rows)
        return 0

    async def _send_waited(self) -> int:
        """Send the oldest items that waited for the connection, of the first class that has any."""
        for kind in KINDS:
            if not self._left[kind]:
                continue
            span = Span(0, self._waited[kind])
            rows = await self._spool.batch(self._batch, kind=kind, span=span, max_bytes=MAX_MESSAGE_BYTES)
            if not rows:
                self._left[kind] = 0
                continue
            if await self._send_rows(kind, rows, after=0, historical=True):
                self._left[kind] = max(1, self._left[kind] - len(rows))
            return len(rows)
        return 0

    async def _send_rows(self, kind: TelemetryClass, rows: list[Row], *, after: int, historical: bool) -> bool:
        """Send rows and forget them once they are acknowledged; False where they have to be sent in smaller parts."""
        items = tuple(
            TelemetryItem(row.sequence, row.utc_ns, body, historical)
            for row in rows
            if (body := _readable(row)) is not None
        )
        try:
            if items:
                await self._uplink.send(TelemetryBatch(self._spool.id, kind, items))
        except QedgeError as error:
            if error.code != "bus.too_large":
                raise
            # a broker may take less than the wire allows: go on with smaller messages rather than stand still
            if len(rows) > 1:
                self._batch = len(rows) // 2
                self._spool.release()
                return False
            self._spool.drop(kind, "size", 1)
        else:
            self._spool.drop(kind, "unreadable", len(rows) - len(items))
            self._problem = ""
            self._batch = min(self._config.batch_items, self._batch + 1)
            self._counts[kind] += len(items)
            word = "historical" if historical else "live"
            self._metrics.add("qedge_telemetry_sent_total", (kind.value, word), len(items))
        await self._spool.done(rows[-1].id, kind=kind, after=after)
        self._metrics.set("qedge_telemetry_rows", self._spool.lanes[kind].rows, (kind.value,))
        return True

    async def _expire(self) -> None:
        while True:
            try:
                await self._spool.expire()
            except QedgeError as error:
                self._problem = error.code
            await asyncio.sleep(_EXPIRE_S)

    @staticmethod
    def _now_ns() -> int:
        return round(asyncio.get_running_loop().time() * 1e9)


def _readable(row: Row) -> Telemetry | None:
    """Read a row; None for one that another version wrote and this one cannot read."""
    try:
        return read(row.body)
    except msgspec.DecodeError:
        return None
