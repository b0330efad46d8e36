"""Store and forward: `put` never waits, the disk has a reading soon after, the upstream when the way is there.

Every reading goes over the disk, also while the way is up, so there is one order and one path that crashes are tested
on. It is erased after the upstream's broker has acknowledged it; what is sent twice has the same sequence number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.devices.onward.config import OnwardConfig
from qedge.devices.onward.ports import Uplink
from qedge.devices.onward.spool import LANES, Change, LaneLimits, Row, Spool, Waiting
from qedge.devices.onward.steps import ForwardSteps
from qedge.devices.segments.lanes import Lanes
from qedge.devices.segments.model import RetentionClass
from qedge.store.intake import Intake
from qedge.store.store import Store
from qedge.wire.segments import OnwardReading, OnwardReadings, OnwardView

_LOG: Final = get_logger("devices")
MAX_MESSAGE_BYTES: Final = 128 * 1024
MAX_BODY_BYTES: Final = 96 * 1024
"""Of one reading; a larger one would not fit into a message with its seal."""

_LOOK_S: Final = 0.25
_RETRY_S: Final = 1.0
_LAST_RETRY_S: Final = 30.0
_EXPIRE_S: Final = 30.0


class OnwardService:
    """Implements `qedge.devices.segments.ports.Onward`."""

    name = "onward"

    def __init__(
        self,
        config: OnwardConfig,
        store: Store,
        uplink: Uplink,
        *,
        clock: Clock,
        metrics: Metrics,
        may_send: Callable[[str, str], bool] = lambda _segment, _channel: True,
    ) -> None:
        """`may_send` says of a segment and a channel whether what waited of it may still go upstream."""
        self._config = config
        self._store = store
        self._uplink = uplink
        self._clock = clock
        self._metrics = metrics
        self._may_send = may_send
        limits = {each: config.keep(each) for each in LANES}
        self._spool = Spool(
            {each: LaneLimits(keep.max_mib * 2**20, keep.drop == "oldest") for each, keep in limits.items()}
        )
        self._intake: Intake[RetentionClass, Waiting, list[Change]] = Intake(
            store,
            Lanes(config.queue_readings),
            self._spool.append,
            written=self._written_down,
            gave_way=lambda retention, number: self._drop(retention, "memory", number),
            failed=self._not_written,
        )
        self._written = asyncio.Event()
        self._sent = 0
        self._dropped: dict[str, int] = {}
        self._up_since_utc_ns = 0
        self._problem = ""
        self._batch = config.batch_readings
        self._steps = ForwardSteps(clock.now_ns(), clock.utc_ns())

    def put(self, device: str, segment: str, channel: str, retention: RetentionClass, utc_ns: int, body: bytes) -> bool:
        """Keep a reading; False where it had to be dropped. On the disk once `settled` returns."""
        if len(body) > MAX_BODY_BYTES:
            self._drop(retention, "size", 1)
            return False
        return self._intake.put(retention, Waiting(device, segment, channel, utc_ns, body))

    async def settled(self) -> None:
        """Return when everything that was put before is on the disk, or had to give way."""
        await self._intake.settled()

    def when_safe(self, then: Callable[[], None]) -> bool:
        """Return True where all that was put is on the disk; otherwise False, and call `then` once it is.

        Ways in hold back their acknowledgements (QoS 1) until then.
        """
        return self._intake.when_safe(then)

    def view(self) -> OnwardView:
        """Describe what waits and what was dropped."""
        lanes = self._spool.lanes.values()
        oldest = min((each.oldest_utc_ns for each in lanes if each.rows), default=0)
        return OnwardView(
            up=self._up_since_utc_ns > 0,
            waiting=sum(each.rows for each in lanes) + len(self._intake),
            waiting_bytes=sum(each.num_bytes for each in lanes),
            oldest_s=round(max(0, self._clock.utc_ns() - oldest) / 1e9, 3) if oldest else 0.0,
            sent=self._sent,
            dropped=dict(self._dropped),
            problem=self._problem,
        )

    async def run(self, ready: Ready) -> None:
        """Write and send until cancelled; what waits in memory then is written first."""
        await self._store.read(self._spool.load)
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._intake.run())
                group.create_task(self._forward())
                group.create_task(self._expire())
        finally:
            await self._intake.drain()

    def _written_down(self, changes: list[Change]) -> None:
        self._problem = ""
        self._spool.apply(changes)
        for change in changes:
            self._drop(change.lane, "space", change.erased + change.refused)
        self._written.set()

    def _not_written(self, error: QedgeError) -> None:
        if not self._problem:
            _LOG.warning("onward.not_kept", code=error.code, waiting=len(self._intake))
        self._problem = error.code

    def _drop(self, retention: RetentionClass, reason: str, number: int) -> None:
        if number:
            name = f"{retention.value}.{reason}"
            self._dropped[name] = self._dropped.get(name, 0) + number
            self._metrics.add("qedge_onward_dropped_total", (retention.value, reason), number)

    # Upstream

    async def _forward(self) -> None:
        retry_s = _RETRY_S
        while True:
            self._look_up()
            if not await self._has_rows():
                continue
            try:
                await self._send_some()
                retry_s = _RETRY_S
            except QedgeError as error:
                self._lost(error)
                await asyncio.sleep(retry_s)
                retry_s = min(_LAST_RETRY_S, retry_s * 2)

    def _look_up(self) -> None:
        up = self._uplink.is_up
        if up and not self._up_since_utc_ns:
            self._up_since_utc_ns = self._clock.utc_ns()
            _LOG.info("onward.up", waiting=self.view().waiting)
        elif up:
            # where the clock was set back, what is said from now on has not waited
            self._up_since_utc_ns = min(self._up_since_utc_ns, self._clock.utc_ns())
        elif not up and self._up_since_utc_ns:
            self._up_since_utc_ns = 0
            _LOG.info("onward.down", code="", waiting=self.view().waiting)

    def _lost(self, error: QedgeError) -> None:
        if self._up_since_utc_ns:
            _LOG.info("onward.down", code=error.code, waiting=self.view().waiting)
        self._up_since_utc_ns = 0

    async def _has_rows(self) -> bool:
        """Say whether something can go upstream; waits a while where nothing can."""
        if self._up_since_utc_ns and any(each.rows for each in self._spool.lanes.values()):
            return True
        self._gauge()
        self._written.clear()
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._written.wait()
        except TimeoutError:
            pass
        if not self._up_since_utc_ns:
            await asyncio.sleep(_LOOK_S / 4)
        return False

    async def _send_some(self) -> None:
        """Send the first readings of the highest class that has any, and erase them once they are acknowledged."""
        lane = next((each for each, state in self._spool.lanes.items() if state.rows), None)
        if lane is None:
            return
        rows = await self._store.read(
            partial(self._spool.read, lane=lane, limit=self._batch, max_bytes=MAX_MESSAGE_BYTES)
        )
        if not rows:
            return
        message = OnwardReadings(tuple(self._reading(row) for row in rows if self._may_send(row.segment, row.channel)))
        if not message.readings:
            self._drop(lane, "policy", len(rows))
            await self._remove(lane, rows)
            return
        try:
            await self._uplink.send(message)
        except QedgeError as error:
            if error.code != "bus.too_large":
                raise
            # a broker may take less than the wire allows: go on with smaller messages rather than stand still
            if len(rows) > 1:
                self._batch = len(rows) // 2
                return
            self._drop(lane, "size", 1)
            await self._remove(lane, rows)
            return
        self._batch = min(self._config.batch_readings, self._batch + 1)
        await self._remove(lane, rows)
        sent, historical = len(message.readings), sum(each.historical for each in message.readings)
        self._drop(lane, "policy", len(rows) - sent)
        self._sent += sent
        self._metrics.add("qedge_onward_sent_total", ("historical",), historical)
        self._metrics.add("qedge_onward_sent_total", ("live",), sent - historical)
        if historical:
            await asyncio.sleep(historical / self._config.replay_per_s)

    async def _remove(self, lane: RetentionClass, rows: list[Row]) -> None:
        work = partial(self._spool.remove, lane=lane, upto=rows[-1].id)
        self._spool.apply(await self._store.write(work, accepted=True))

    def _reading(self, row: Row) -> OnwardReading:
        old = row.utc_ns < self._up_since_utc_ns
        return OnwardReading(row.device, row.sequence, row.segment, row.channel, row.utc_ns, row.body, old)

    async def _expire(self) -> None:
        while True:
            self._steps.look(self._clock.now_ns(), self._clock.utc_ns())
            for lane in LANES:
                max_age_ns = self._config.keep(lane).max_age_s * 10**9
                before_ns = self._steps.unstepped(self._clock.now_ns(), self._clock.utc_ns(), max_age_ns) - max_age_ns
                if 0 < self._spool.lanes[lane].oldest_utc_ns < before_ns:
                    work = partial(self._spool.expire, lane=lane, utc_ns=before_ns)
                    try:
                        changes = await self._store.write(work, accepted=True)
                    except QedgeError as error:
                        self._problem = error.code
                        continue
                    self._spool.apply(changes)
                    for change in changes:
                        self._drop(lane, "age", change.erased)
            await asyncio.sleep(_EXPIRE_S)

    def _gauge(self) -> None:
        for lane, state in self._spool.lanes.items():
            self._metrics.set("qedge_onward_rows", state.rows, (lane.value,))
            self._metrics.set("qedge_onward_bytes", state.num_bytes, (lane.value,))
