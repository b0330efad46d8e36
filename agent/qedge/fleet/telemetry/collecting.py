"""A node's description of itself turned into telemetry. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from qedge.wire.node import DriverView, NodeStatus
from qedge.wire.telemetry import (
    Alarm,
    DriverReading,
    EntropyReading,
    GatewayReading,
    HealthState,
    HostReading,
    JobsReading,
    LinkReading,
    NodeHealth,
    Severity,
    Telemetry,
    TelemetryEvent,
)

NODE: Final = "node"
"""Subject of what concerns the node as a whole."""

_MAX_REASONS: Final = 32
_MAX_TEXT: Final = 200
_DOWN: Final = "down"
_DEGRADED: Final = "degraded"
_UNLOCKED: Final = "unlocked"
_FAILING: Final = frozenset({"backoff"})


def readings(status: NodeStatus) -> tuple[Telemetry, ...]:
    """Return the readings of this moment: one of the host, of jobs and of the pool, of each driver and link."""
    host, entropy, gateway = status.host, status.entropy, status.gateway
    found: list[Telemetry] = [
        HostReading(
            host.cpu_ratio,
            host.memory_available_bytes,
            host.memory_total_bytes,
            host.disk_free_bytes,
            host.temperature_celsius,
            host.power_watts,
        ),
        JobsReading(status.jobs_queued, status.jobs_running, status.jobs_done, status.jobs_failed),
        EntropyReading(entropy.healthy, entropy.raw_bits, entropy.failures),
    ]
    for driver in status.drivers:
        restarts = sum(worker.restarts for worker in driver.workers)
        found.append(DriverReading(driver.name, driver.kind, _works(driver), restarts))
    for link in status.links:
        figures = (link.qber, link.key_bit_s, link.key_bits, link.blocks, link.blocks_dropped)
        found.append(LinkReading(link.name, *figures))
    if gateway is not None:
        found.append(
            GatewayReading(
                gateway.devices,
                gateway.sessions,
                gateway.connections,
                gateway.taken,
                gateway.refused,
                gateway.denied,
                gateway.incidents,
            )
        )
    return tuple(found)


def health(status: NodeStatus) -> NodeHealth:
    """Say how the node is: `down` where it is not ready for work, `degraded` where something raises an alarm."""
    reasons = [*status.not_ready, *(alarm.text for alarm in alarms(status, 0))]
    state = HealthState.DOWN if status.not_ready else HealthState.DEGRADED if reasons else HealthState.UP
    told = tuple(reason[:_MAX_TEXT] for reason in reasons[:_MAX_REASONS])
    return NodeHealth(state, told, status.version, round(status.uptime_s, 1))


def alarms(status: NodeStatus, utc_ns: int) -> tuple[Alarm, ...]:
    """Return what is wrong at this moment, as if it had begun at `utc_ns`."""
    return tuple(
        Alarm(name, subject, severity, True, text[:_MAX_TEXT], utc_ns)
        for name, subject, severity, text in _wrongs(status)
    )


def _wrongs(status: NodeStatus) -> Iterator[tuple[str, str, Severity, str]]:
    for service in status.services:
        if service.state in _FAILING:
            why = f": {service.error}" if service.error else ""
            yield "service-failing", _subject(service.name), Severity.MAJOR, f"{service.name} keeps failing{why}"
    for driver in status.drivers:
        if driver.admin_state == _UNLOCKED and not _works(driver):
            why = f": {driver.reason}" if driver.reason else ""
            yield "driver-down", driver.name, Severity.MAJOR, f"{driver.name} is down{why}"
        elif driver.admin_state == _UNLOCKED and driver.operating_state == _DEGRADED:
            yield "driver-degraded", driver.name, Severity.WARNING, f"{driver.name} is degraded: {driver.reason}"
    for link in status.links:
        if link.state == "quarantined":
            yield "link-quarantined", link.name, Severity.MAJOR, f"{link.name} holds its key back: {link.reason}"
    if status.entropy.source and not status.entropy.healthy:
        text = f"the random pool is without its source: {status.entropy.reason}"
        yield "entropy-unhealthy", _subject(status.entropy.source), Severity.MAJOR, text
    for unwell in status.host.unwell:
        what, _, how = unwell.rpartition(" ")
        severity = Severity.CRITICAL if how == "critical" else Severity.WARNING
        yield "host-unwell", _subject(what), severity, unwell
    if "room on the disk" in status.not_ready:
        yield "disk-full", NODE, Severity.CRITICAL, "the state directory is full; nothing new is accepted"
    if status.gateway is not None and status.gateway.incidents:
        text = f"{status.gateway.incidents} incidents are not resolved"
        yield "incidents-open", NODE, Severity.MINOR, text


def events(before: NodeStatus | None, now: NodeStatus) -> tuple[TelemetryEvent, ...]:
    """Return what happened between two looks at the node; None: the daemon has just been started."""
    if before is None:
        return (TelemetryEvent("node.started", NODE, f"qedge {now.version} started"),)
    found: list[TelemetryEvent] = []
    if before.ready != now.ready:
        found.append(
            TelemetryEvent("node.ready", NODE, "the node is ready")
            if now.ready
            else TelemetryEvent("node.not_ready", NODE, f"the node lacks {', '.join(now.not_ready)}"[:_MAX_TEXT])
        )
    known = {driver.name: driver for driver in before.drivers}
    for driver in now.drivers:
        earlier = known.pop(driver.name, None)
        if earlier is None:
            found.append(TelemetryEvent("driver.added", driver.name, f"{driver.name} was added"))
        elif earlier.admin_state != driver.admin_state:
            found.append(TelemetryEvent("driver.locked", driver.name, f"{driver.name} is {driver.admin_state}"))
        elif earlier.operating_state != driver.operating_state:
            text = f"{driver.name} is {driver.operating_state} {driver.reason}".strip()
            found.append(TelemetryEvent("driver.state", driver.name, text[:_MAX_TEXT]))
    found += [TelemetryEvent("driver.removed", name, f"{name} was removed") for name in known]
    if before.bus.reconnects != now.bus.reconnects:
        found.append(TelemetryEvent("bus.reconnected", NODE, f"connected to {now.bus.broker}"[:_MAX_TEXT]))
    return tuple(found)


class AlarmBook:
    """Which alarms stand, so that each is told once when it begins, changes or ends.

    One that is not critical begins only once it has been wrong for `hold_ns`: a driver that opens, or a service that is
    started again, is no news.
    """

    def __init__(self, hold_ns: int) -> None:
        self._hold_ns = hold_ns
        self._suspected: dict[tuple[str, str], tuple[int, int]] = {}
        self.standing: dict[tuple[str, str], Alarm] = {}

    def update(self, now: tuple[Alarm, ...], now_ns: int, utc_ns: int) -> tuple[Alarm, ...]:
        """Compare with what is wrong now and return what has to be told; a text that changes is no news."""
        told: list[Alarm] = []
        current = {(alarm.name, alarm.subject): alarm for alarm in now}
        self._suspected = {
            key: self._suspected.get(key, (now_ns, alarm.since_utc_ns)) for key, alarm in current.items()
        }
        for key, alarm in current.items():
            earlier, (since_ns, since_utc_ns) = self.standing.get(key), self._suspected[key]
            if earlier is None and alarm.severity is not Severity.CRITICAL and now_ns - since_ns < self._hold_ns:
                continue
            if earlier is None or earlier.severity is not alarm.severity:
                self.standing[key] = Alarm(*key, alarm.severity, True, alarm.text, since_utc_ns)
                told.append(self.standing[key])
        for key in [key for key in self.standing if key not in current]:
            ended = self.standing.pop(key)
            told.append(Alarm(*key, ended.severity, False, ended.text, utc_ns))
        return tuple(told)


def _works(driver: DriverView) -> bool:
    return driver.operating_state != _DOWN


def _subject(name: str) -> str:
    """Make a name of the wire of any word."""
    legal = "".join(each if each.isascii() and (each.isalnum() or each in "-_") else "-" for each in name)
    return legal[:36] or NODE
