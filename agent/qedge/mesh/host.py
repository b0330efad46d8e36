"""Looks at the host through psutil and /sys (an edge module; it runs in a thread)."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import psutil

from qedge.base.clock import Clock
from qedge.mesh.health import Sample

_CGROUP: Final = Path("/sys/fs/cgroup")
_POWER_SUPPLIES: Final = Path("/sys/class/power_supply")
_POWER_CAPS: Final = Path("/sys/class/powercap")


class HostProbe:
    """Takes samples of the host; remembers the energy counters that processors keep (RAPL)."""

    def __init__(
        self, state_dir: Path, clock: Clock, *, supplies: Path = _POWER_SUPPLIES, power_caps: Path = _POWER_CAPS
    ) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._supplies = supplies
        self._power_caps = power_caps
        self._energy: tuple[int, int] = (0, 0)

    def look(self) -> Sample:
        """Take one sample; a value that the host does not tell is 0."""
        return Sample(
            cpu_ratio=psutil.cpu_percent(interval=None) / 100,
            memory_available_bytes=available_memory_bytes(),
            memory_total_bytes=int(psutil.virtual_memory().total),
            disk_free_bytes=_free_bytes(self._state_dir),
            temperature_celsius=_hottest_celsius(),
            power_watts=self._power_watts(),
            daemon_bytes=daemon_memory_bytes(),
            now_ns=self._clock.now_ns(),
            utc_ns=self._clock.utc_ns(),
        )

    def _power_watts(self) -> float:
        return _battery_watts(self._supplies) or self._processor_watts()

    def _processor_watts(self) -> float:
        """Average power of all processor packages since the last look (RAPL; often readable by root alone)."""
        packages = sorted(self._power_caps.glob("intel-rapl:[0-9]"))
        microjoules = sum(_read_int(package / "energy_uj") for package in packages)
        now_ns = self._clock.now_ns()
        before_microjoules, before_ns = self._energy
        self._energy = (microjoules, now_ns)
        if not 0 < before_microjoules <= microjoules or now_ns <= before_ns:
            return 0.0  # nothing to read, the first look, or a counter that began again
        return (microjoules - before_microjoules) / 1e6 / ((now_ns - before_ns) / 1e9)


def available_memory_bytes() -> int:
    """Return what can be used without swapping, within the limit of this process's control group."""
    available = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text("ascii").strip().rsplit(":", 1)[1].lstrip("/")
        limit = (_CGROUP / group / "memory.max").read_text("ascii").strip()
        if limit != "max":
            used = int((_CGROUP / group / "memory.current").read_text("ascii"))
            available = min(available, max(0, int(limit) - used))
    return available


def daemon_memory_bytes() -> int:
    """Return the proportional set size of this process, or its resident size where that cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)


def _free_bytes(folder: Path) -> int:
    try:
        return int(psutil.disk_usage(str(folder)).free)
    except OSError:
        return 0


def _hottest_celsius() -> float:
    sensors = getattr(psutil, "sensors_temperatures", dict)
    with contextlib.suppress(OSError, RuntimeError):
        return float(max((entry.current for entries in sensors().values() for entry in entries), default=0.0))
    return 0.0


def _battery_watts(supplies: Path) -> float:
    """Return what batteries and other supplies report: `power_now`, or current times voltage, in micro-units."""
    watts = 0.0
    with contextlib.suppress(OSError):
        for supply in supplies.iterdir():
            power = _read_int(supply / "power_now") / 1e6
            volts, amperes = _read_int(supply / "voltage_now") / 1e6, _read_int(supply / "current_now") / 1e6
            watts += abs(power or volts * amperes)
    return watts


def _read_int(file: Path) -> int:
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return 0
