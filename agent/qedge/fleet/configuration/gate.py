"""The health gate: whether a node is well with a new configuration. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qedge.fleet.configuration.model import Baseline


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the node is now.

    `services` by name with whether each is ready, `drivers` (those that are configured and unlocked) with whether each
    is up; `opening` are those of them that are down because they have not opened yet, and have not failed either;
    `pending`: the daemon has not taken over the configuration yet.
    """

    services: Mapping[str, bool]
    drivers: Mapping[str, bool]
    connected: bool
    pending: bool = False
    opening: frozenset[str] = frozenset()

    def baseline(self, touched: tuple[str, ...]) -> Baseline:
        """Return what is kept of it for a change that begins now and touches these drivers."""
        return Baseline(
            up=tuple(sorted(name for name, up in self.drivers.items() if up or name in self.opening)),
            touched=touched,
            unready=tuple(sorted(name for name, ready in self.services.items() if not ready)),
            connected=self.connected,
        )


def complaints(vitals: Vitals, baseline: Baseline) -> tuple[str, ...]:
    """Say what is not well: services, drivers that were up or that the change touches, and the broker.

    What was not well before and was not touched says nothing about the change.
    """
    unready = sorted(name for name, ready in vitals.services.items() if not ready and name not in baseline.unready)
    asked_of = {*baseline.up, *baseline.touched}
    down = sorted(name for name, up in vitals.drivers.items() if not up and name in asked_of)
    found = [f"service {name} is not ready" for name in unready]
    found += [f"driver {name} is down" for name in down]
    if baseline.connected and not vitals.connected:
        found.append("the broker is not connected")
    if vitals.pending:
        found.append("the daemon has not taken it over yet")
    return tuple(found)


class HealthGate:
    """Watches from `began_ns` (boot-time clock, as all times here): well for `hold_s` in a row within `limit_s`."""

    def __init__(self, limit_s: float, hold_s: float, began_ns: int) -> None:
        self._end_ns = began_ns + round(max(limit_s, hold_s) * 1e9)
        self._hold_ns = round(hold_s * 1e9)
        self._well_ns: int | None = None
        self.complaints: tuple[str, ...] = ("nobody looked yet",)

    def look(self, found: tuple[str, ...], now_ns: int) -> bool | None:
        """Take a look: True, it has passed; False, time is over; None, go on looking."""
        self.complaints = found
        if found:
            self._well_ns = None
        elif self._well_ns is None:
            self._well_ns = now_ns
        if self._well_ns is not None:
            # what is well at the end of its time is given the rest of its hold
            return True if now_ns - self._well_ns >= self._hold_ns else None
        return False if now_ns >= self._end_ns else None
