"""Looks at the host through psutil and /sys (an edge module; it runs in a thread)."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import psutil

from qedge.base.clock import Clock
from qedge.mesh.health import Sample

_POWER: Final = Path("/sys/class/power_supply")
_CGROUP: Final = Path("/sys/fs/cgroup")


def look(state_dir: Path, clock: Clock) -> Sample:
    """Take one sample; a value that the host does not tell is 0."""
    memory = psutil.virtual_memory()
    return Sample(
        cpu_ratio=psutil.cpu_percent(interval=None) / 100,
        memory_available_bytes=available_memory_bytes(),
        memory_total_bytes=memory.total,
        disk_free_bytes=psutil.disk_usage(str(state_dir)).free,
        temperature_celsius=_hottest(),
        power_watts=_power_watts(),
        now_ns=clock.now_ns(),
        utc_ns=clock.utc_ns(),
    )


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


def _hottest() -> float:
    sensors = getattr(psutil, "sensors_temperatures", dict)
    with contextlib.suppress(OSError, RuntimeError):
        readings = [entry.current for entries in sensors().values() for entry in entries if entry.current]
        return max(readings, default=0.0)
    return 0.0


def _power_watts() -> float:
    total = 0.0
    with contextlib.suppress(OSError):
        for supply in _POWER.iterdir():
            with contextlib.suppress(OSError, ValueError):
                total += int((supply / "power_now").read_text("ascii")) / 1e6
    return total
