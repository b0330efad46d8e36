"""The entropy service: keeps the pool full of tested quantum blocks, and says honestly when it cannot."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.entropy.conditioning import condition, input_bytes
from qedge.entropy.config import EntropyConfig
from qedge.entropy.health_tests import STARTUP_SAMPLES, HealthTests, is_stuck
from qedge.entropy.model import SOURCE_STATES, Failure, PoolOutput, SourceEvent, SourceState
from qedge.entropy.pool import OsRandom, RandomPool
from qedge.entropy.ports import RawSource
from qedge.wire.node import EntropyView
from qedge_driver_api import RawSamples

_LOG: Final = get_logger("entropy")
_RETRY_S: Final = 0.5
_PERSISTENT_FAILURES: Final = 3
_PERSISTENT_READS: Final = 1000


class _AlarmError(Exception):
    def __init__(self, test: str, failure: Failure) -> None:
        super().__init__(test)
        self.test = test
        self.failure = failure


class EntropyService:
    """Gives random bytes from its construction on; quantum ones once its source has passed the start-up test."""

    name = "entropy"

    def __init__(
        self,
        config: EntropyConfig,
        source: RawSource | None,
        *,
        clock: Clock,
        metrics: Metrics,
        personalization: bytes,
        os_random: OsRandom = os.urandom,
    ) -> None:
        self._config = config
        self._source = source
        self._clock = clock
        self._metrics = metrics
        self._pool = RandomPool(os_random, personalization, config.pool_bytes)
        os.register_at_fork(after_in_child=self._pool.restart)
        self._state = SourceState.STARTING
        self._reason = "waiting for the source" if source else "no source is configured"
        self._tests: HealthTests | None = None
        self._shape: tuple[int, float] = (0, 0.0)
        self._raw_bits = 0
        self._failures = 0
        self._alarms: deque[int] = deque(maxlen=_PERSISTENT_FAILURES)
        self._reads = 0
        self._wanted = asyncio.Event()

    def get(self, number: int, *, require_quantum: bool) -> PoolOutput:
        """Draw `number` bytes; with `require_quantum` raises `entropy.no_quantum` rather than give others."""
        name = self._source.name if self._source else ""
        if require_quantum and (self._state is not SourceState.HEALTHY or number > self._pool.quantum_bytes):
            self._wanted.set()
            reason = self._reason or "the pool is being filled"
            raise QedgeError(
                "entropy.no_quantum",
                f"No quantum random bytes can be given: {reason}.",
                fix="Try again soon, look at the source with `qedge drivers list`, or accept other bytes.",
                available_bytes=self._pool.quantum_bytes if self._state is SourceState.HEALTHY else 0,
            )
        data, quantum = self._pool.draw(number)
        self._metrics.add("qedge_random_bytes_total", ("quantum" if quantum else "system",), number)
        if self._pool.is_low:
            self._wanted.set()
        simulated = quantum and self._source is not None and self._source.simulated
        return PoolOutput(data, quantum, simulated, name if quantum else "system")

    def random_bytes(self, number: int) -> bytes:
        """Draw bytes for keys, ids and protocol choices of this node."""
        return self.get(number, require_quantum=False).data

    def view(self) -> EntropyView:
        """Describe the source."""
        return EntropyView(
            source=self._source.name if self._source else "",
            healthy=self._state is SourceState.HEALTHY,
            simulated=self._source.simulated if self._source else False,
            reason=self._reason,
            raw_bits=self._raw_bits,
            failures=self._failures,
        )

    async def run(self, ready: Ready) -> None:
        """Test and refill until cancelled."""
        ready()
        if self._source is None:
            await asyncio.Event().wait()
            return
        if self._state is SourceState.FAILED:  # it was ended before it could try again
            self._state = SOURCE_STATES.next(self._state, SourceEvent.RETRY)
        while True:
            try:
                await self._start_up(self._source)
                await self._refill(self._source)
            except _AlarmError as alarm:
                self._fail(alarm.test, alarm.failure)
            except QedgeError as error:
                self._fail(error.code, Failure.TOTAL, str(error))
            await asyncio.sleep(_RETRY_S)
            self._state = SOURCE_STATES.next(self._state, SourceEvent.RETRY)

    async def _start_up(self, source: RawSource) -> None:
        """Wait for the source, then test it over fresh samples that are not used for anything else."""
        while not source.is_ready:  # noqa: ASYNC110 - readiness belongs to another room, which tells only who asks
            await asyncio.sleep(0.1)
        self._tests = None
        tested_bits = 0
        while tested_bits < STARTUP_SAMPLES * 8:
            samples = await self._read(source)
            self._judge(samples)
            tested_bits += 8 * len(samples.data)
        if self._state is SourceState.STARTING:
            self._state = SOURCE_STATES.next(self._state, SourceEvent.STARTUP_PASSED)
            self._reason = ""
            self._metrics.set("qedge_entropy_healthy", 1, (source.name,))
            _LOG.info("entropy.source_healthy", source=source.name)

    async def _refill(self, source: RawSource) -> None:
        filling = True
        while True:
            # small draws are left to add up: a refill costs the event loop more than they do
            filling = filling and not self._pool.is_full
            if not filling:
                filling = await self._pause()
            samples = await self._read(source)
            try:
                self._judge(samples)
            except _AlarmError as alarm:
                if alarm.failure is Failure.TOTAL:
                    raise
                self._note_alarm(source, alarm)
                await self._start_up(source)
                continue
            size = input_bytes(samples.bits_per_sample, samples.min_entropy_per_sample)
            blocks = list(condition(samples.data, size))
            if blocks:
                self._pool.reseed(blocks.pop())
            for block in blocks:
                self._pool.add(block)

    async def _pause(self) -> bool:
        """Wait until the pool has to be filled (True), or until an idle source is due for a test (False)."""
        self._wanted.clear()
        try:
            async with asyncio.timeout(self._config.check_interval_s):
                await self._wanted.wait()
                return True
        except TimeoutError:
            return False

    async def _read(self, source: RawSource) -> RawSamples:
        samples = await source.read(self._config.refill_bytes, self._config.read_deadline_s)
        self._reads += 1
        self._raw_bits += 8 * len(samples.data)
        self._metrics.add("qedge_entropy_raw_bits_total", (source.name,), 8 * len(samples.data))
        return samples

    def _judge(self, samples: RawSamples) -> None:
        if is_stuck(samples.data):
            raise _AlarmError("stuck", Failure.TOTAL)
        shape = (samples.bits_per_sample, samples.min_entropy_per_sample)
        if not 0 < input_bytes(*shape) <= len(samples.data):
            raise QedgeError(
                "entropy.too_little",
                f"The source claims {shape[1]:g} bits of entropy a sample: a read of {len(samples.data)} bytes is too "
                "short for one block of the pool.",
                fix="Raise entropy.refill_bytes, or look at the settings of the source.",
            )
        if self._tests is None or self._shape != shape:
            self._tests, self._shape = HealthTests(*shape, self._config.alpha_exponent), shape
        test = self._tests.check(samples.data)
        if test:
            # During start-up an alarm is final: the source has not shown yet that it works at all.
            starting = self._state is not SourceState.HEALTHY
            raise _AlarmError(test, Failure.TOTAL if starting else Failure.INTERMITTENT)

    def _note_alarm(self, source: RawSource, alarm: _AlarmError) -> None:
        self._failures += 1
        self._metrics.add("qedge_entropy_failures_total", (source.name, alarm.test))
        _LOG.warning("entropy.source_failed", source=source.name, test=alarm.test, failure=alarm.failure.value)
        self._alarms.append(self._reads)
        if len(self._alarms) == _PERSISTENT_FAILURES and self._reads - self._alarms[0] < _PERSISTENT_READS:
            self._alarms.clear()
            raise _AlarmError(alarm.test, Failure.PERSISTENT)

    def _fail(self, test: str, failure: Failure, reason: str = "") -> None:
        name = self._source.name if self._source else ""
        self._pool.purge()
        self._failures += 1
        before = self._state
        self._state = SOURCE_STATES.next(self._state, SourceEvent.FAILURE)
        self._reason = reason or f"the source failed its {test} test"
        self._metrics.set("qedge_entropy_healthy", 0, (name,))
        self._metrics.add("qedge_entropy_failures_total", (name, test))
        if before is SourceState.HEALTHY:
            _LOG.error("entropy.source_failed", source=name, test=test, failure=failure.value)
