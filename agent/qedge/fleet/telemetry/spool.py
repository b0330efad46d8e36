"""A spool: what is put there is on the disk soon after, and stays until somebody says that it has arrived.

Whoever sends takes `batch`, the oldest rows, and says `done` with the id of the last one that has arrived. What is
taken twice has the same id and the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.lanes import Lanes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.fleet.telemetry.config import TelemetryConfig
from qedge.fleet.telemetry.model import FIRST_COME, KINDS, URGENT, Row, Waiting
from qedge.fleet.telemetry.rows import Change, LaneLimits, LaneState, Rows
from qedge.store.fifo import Span
from qedge.store.intake import Intake
from qedge.store.store import Store
from qedge.wire.telemetry import TelemetryClass

_LOG: Final = get_logger("fleet")
_ID_KEY: Final = "spool"
_ID_BYTES: Final = 8
MAX_BODY_BYTES: Final = 16 * 1024
"""Of one item; it has to fit into a message with others."""


class Spool:
    """Items of all classes in one file. `open`, then `run` in a task of its own, at last `drain`."""

    def __init__(
        self, config: TelemetryConfig, store: Store, *, clock: Clock, metrics: Metrics, random_bytes: RandomBytes
    ) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes
        keeps = {each: config.keep(each) for each in KINDS}
        self._rows = Rows(
            {each: LaneLimits(keep.max_rows, keep.max_mib * 2**20, keep.drop) for each, keep in keeps.items()}
        )
        self._intake: Intake[TelemetryClass, Waiting, list[Change]] = Intake(
            store,
            Lanes(config.queue_items, KINDS, FIRST_COME),
            self._rows.append,
            written=self._written,
            gave_way=lambda kind, number: self.drop(kind, "memory", number),
            failed=self._failed,
            urgent=URGENT,
        )
        self.id = ""
        """Names the file: numbers of items are unique in it."""

        self.problem = ""
        """Code of the error that keeps items in memory; empty: none."""

        self.dropped: dict[TelemetryClass, dict[str, int]] = {each: {} for each in KINDS}
        """What gave way since the start, by class and reason."""

        self.on_written: Callable[[], None] = lambda: None
        """Called after new rows are on the disk."""

    @property
    def lanes(self) -> Mapping[TelemetryClass, LaneState]:
        """What is on the disk, by class."""
        return self._rows.lanes

    @property
    def in_memory(self) -> int:
        """How many items wait for the disk."""
        return len(self._intake)

    async def open(self) -> None:
        """Count what is there; raises `store.*`."""
        self.id = await self._store.get_meta(_ID_KEY)
        if not self.id:
            self.id = self._random_bytes(_ID_BYTES).hex()
            await self._store.set_meta(_ID_KEY, self.id)
        await self._store.read(self._rows.load)

    async def run(self) -> None:
        """Write what is put, until cancelled."""
        await self._intake.run()

    async def drain(self) -> None:
        """Write once what waits in memory."""
        await self._intake.drain()

    def put(self, kind: TelemetryClass, item: Waiting) -> bool:
        """Keep an item; never waits. False where it had to be dropped. On the disk once `settled` returns."""
        if len(item.body) > MAX_BODY_BYTES:
            self.drop(kind, "size", 1)
            return False
        return self._intake.put(kind, item)

    async def settled(self) -> None:
        """Return when everything that was put before is on the disk, or had to give way."""
        await self._intake.settled()

    async def batch(
        self,
        limit: int,
        *,
        kind: TelemetryClass | None = None,
        span: Span | None = None,
        max_bytes: int = 2**62,
    ) -> list[Row]:
        """Return the oldest rows, at most `limit`, of one class or of all; they stay until `done`.

        With `span` only those with ids in it. Raises `store.unavailable`.
        """
        return await self._store.read(partial(self._rows.read, limit=limit, kind=kind, span=span, max_bytes=max_bytes))

    async def done(self, upto: int, *, kind: TelemetryClass | None = None, after: int = 0) -> None:
        """Forget rows with ids above `after` up to `upto`, of one class or of all: they have arrived. Raises `store.*`.

        Works on a full disk, too.
        """
        work = partial(self._rows.erase, span=Span(after, upto), kind=kind)
        self._rows.apply(await self._store.write(work, accepted=True))

    def release(self) -> None:
        """Say that what `batch` gave did not arrive; it may give way again."""
        self._rows.release()

    async def expire(self) -> None:
        """Drop what is older than its class may be; raises `store.*`."""
        utc_ns = self._clock.utc_ns()
        limits = {kind: utc_ns - self._config.keep(kind).max_age_s * 10**9 for kind in KINDS}
        old = {kind: limit for kind, limit in limits.items() if 0 < self.lanes[kind].oldest_utc_ns < limit}
        if old:
            changes = await self._store.write(partial(self._rows.expire, before_ns=old), accepted=True)
            self._rows.apply(changes)
            for change in changes:
                self.drop(change.kind, "age", change.gave_way)

    def drop(self, kind: TelemetryClass, reason: str, number: int) -> None:
        """Count items that gave way."""
        if number:
            reasons = self.dropped[kind]
            reasons[reason] = reasons.get(reason, 0) + number
            self._metrics.add("qedge_telemetry_dropped_total", (kind.value, reason), number)

    def _written(self, changes: list[Change]) -> None:
        if not self._store.disk_full:
            self.problem = ""
        self._rows.apply(changes)
        for change in changes:
            self.drop(change.kind, "space", change.gave_way + change.refused)
            self._metrics.set("qedge_telemetry_rows", self.lanes[change.kind].rows, (change.kind.value,))
        self.on_written()

    def _failed(self, error: QedgeError) -> None:
        if not self.problem:
            _LOG.warning("telemetry.not_kept", code=error.code, waiting=self.in_memory)
        self.problem = error.code
