"""Watches the host: samples, verdicts, metrics."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from qedge.base.clock import Clock
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.mesh.config import HostConfig
from qedge.mesh.health import Findings, HostHealth, Level
from qedge.mesh.host import HostProbe
from qedge.wire.node import HostView

_LOG: Final = get_logger("mesh")


class HostWatch:
    """Looks at the host again and again."""

    def __init__(self, config: HostConfig, *, state_dir: Path, clock: Clock, metrics: Metrics) -> None:
        self._config = config
        self._probe = HostProbe(state_dir, clock)
        self._health = HostHealth(config)
        self._clock = clock
        self._metrics = metrics
        self.sampled_ns = clock.now_ns()
        """When the host was looked at last (boot-time clock)."""

    def view(self) -> HostView:
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
            unwell=self._health.unwell,
        )

    async def run(self) -> None:
        """Sample until cancelled; the first sample is taken by `sample`."""
        while True:
            await asyncio.sleep(self._config.sample_interval_s)
            await self.sample()

    async def sample(self) -> None:
        """Look once."""
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
