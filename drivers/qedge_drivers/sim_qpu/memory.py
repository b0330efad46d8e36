"""How much memory this process may still take; standard library only."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

_UNKNOWN: Final = 1 << 62


def available_bytes() -> int:
    """Return the least of: memory available on the machine, left in the control group, left below `RLIMIT_AS`."""
    return min(_machine(), _control_group(), _address_space())


def _machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return _UNKNOWN


def _control_group() -> int:
    try:
        path = Path("/proc/self/cgroup").read_text(encoding="utf-8").rsplit("::", 1)[1].strip()
        folder = Path("/sys/fs/cgroup") / path.lstrip("/")
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return _UNKNOWN
        return int(limit) - int((folder / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError, IndexError):
        return _UNKNOWN


def _address_space() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return _UNKNOWN
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return soft
    return soft - pages * resource.getpagesize()
