"""What a node says of itself follows from its description, once each."""

from __future__ import annotations

import asyncio
import os

import msgspec

from qedge.base.clock import ManualClock
from qedge.fleet.telemetry.collecting import AlarmBook, alarms, events, health, readings
from qedge.fleet.telemetry.config import TelemetryConfig
from qedge.fleet.telemetry.model import Item, series_of
from qedge.fleet.telemetry.service import Collector
from qedge.web.fake import FakeNode
from qedge.wire.node import GatewayView, NodeStatus
from qedge.wire.telemetry import (
    Alarm,
    DriverReading,
    GatewayReading,
    HealthState,
    HostReading,
    LinkReading,
    NodeHealth,
    Severity,
    Telemetry,
    TelemetryEvent,
)

replace = msgspec.structs.replace


def status() -> NodeStatus:
    """Describe a node that is well, with two drivers and a link."""
    found = FakeNode(ManualClock(), os.urandom).status()
    services = tuple(replace(each, state="ready", error="") for each in found.services)
    drivers = tuple(replace(each, operating_state="up", admin_state="unlocked") for each in found.drivers)
    links = tuple(replace(each, state="running" if each.state else "") for each in found.links)
    return replace(found, services=services, drivers=drivers, links=links)


def down(found: NodeStatus, reason: str = "no answer") -> NodeStatus:
    first, *others = found.drivers
    return replace(found, drivers=(replace(first, operating_state="down", reason=reason), *others))


def test_readings_have_the_host_every_driver_every_link_and_the_gateway_where_there_is_one() -> None:
    found = replace(status(), gateway=GatewayView(devices=7, taken=12))
    told = readings(found)
    assert [each.driver for each in told if isinstance(each, DriverReading)] == [each.name for each in found.drivers]
    assert [each.link for each in told if isinstance(each, LinkReading)] == [each.name for each in found.links]
    [host] = [each for each in told if isinstance(each, HostReading)]
    assert host.disk_free_bytes == found.host.disk_free_bytes
    [gateway] = [each for each in told if isinstance(each, GatewayReading)]
    assert (gateway.devices, gateway.taken) == (7, 12)
    assert len({series_of(each) for each in told}) == len(told)
    assert not any(isinstance(each, GatewayReading) for each in readings(status()))


def test_a_node_is_up_degraded_with_an_alarm_and_down_when_it_is_not_ready() -> None:
    assert health(status()).state is HealthState.UP
    worse = health(down(status()))
    assert worse.state is HealthState.DEGRADED
    assert "no answer" in worse.reasons[0]
    off = health(replace(status(), ready=False, not_ready=("room on the disk",)))
    assert off.state is HealthState.DOWN
    assert off.reasons[0] == "room on the disk"


def test_what_is_wrong_has_an_alarm_each_and_what_is_locked_has_none() -> None:
    found = status()
    first, *others = down(found).drivers
    locked = replace(found, drivers=(replace(first, admin_state="locked"), *others))
    assert alarms(locked, 1) == ()
    service = replace(found.services[0], state="backoff", error="it fell over")
    bad = replace(
        down(found),
        services=(service,),
        ready=False,
        not_ready=("room on the disk",),
        entropy=replace(found.entropy, healthy=False, reason="stuck"),
        host=replace(found.host, unwell=("temperature critical", "cpu degraded")),
        gateway=GatewayView(incidents=2),
        links=tuple(replace(each, state="quarantined", reason="alarm") for each in found.links[:1]),
    )
    told = {(alarm.name, alarm.subject): alarm.severity for alarm in alarms(bad, 1)}
    assert told == {
        ("service-failing", service.name): Severity.MAJOR,
        ("driver-down", first.name): Severity.MAJOR,
        ("link-quarantined", found.links[0].name): Severity.MAJOR,
        ("entropy-unhealthy", "rng"): Severity.MAJOR,
        ("host-unwell", "temperature"): Severity.CRITICAL,
        ("host-unwell", "cpu"): Severity.WARNING,
        ("disk-full", "node"): Severity.CRITICAL,
        ("incidents-open", "node"): Severity.MINOR,
    }


def test_an_alarm_is_told_once_when_it_has_lasted_and_once_when_it_is_over() -> None:
    book, bad = AlarmBook(20), down(status())
    told: list[tuple[int, Alarm]] = []
    for now_ns in range(0, 100, 10):
        now = alarms(bad if now_ns < 50 else status(), now_ns)
        told += [(now_ns, alarm) for alarm in book.update(now, now_ns, now_ns)]
    [(begun, first), (ended, last)] = told
    assert (begun, first.active, first.since_utc_ns) == (20, True, 0)
    assert (ended, last.active, last.since_utc_ns) == (50, False, 50)
    assert book.standing == {}


def test_a_critical_alarm_does_not_wait_and_a_severity_that_changes_is_news() -> None:
    book = AlarmBook(20)

    def unwell(how: str) -> tuple[Alarm, ...]:
        found = status()
        return alarms(replace(found, host=replace(found.host, unwell=(f"disk {how}",))), 0)

    assert [each.severity for each in book.update(unwell("critical"), 0, 0)] == [Severity.CRITICAL]
    assert book.update(unwell("critical"), 1, 1) == ()
    assert [each.severity for each in book.update(unwell("degraded"), 2, 2)] == [Severity.WARNING]


def test_events_tell_what_changed_between_two_looks() -> None:
    found = status()
    assert [each.name for each in events(None, found)] == ["node.started"]
    assert events(found, found) == ()
    first, *others = found.drivers
    assert [(each.name, each.subject) for each in events(found, down(found))] == [("driver.state", first.name)]
    assert [each.name for each in events(found, replace(found, drivers=tuple(others)))] == ["driver.removed"]
    assert [each.name for each in events(replace(found, drivers=tuple(others)), found)] == ["driver.added"]
    off = replace(found, ready=False, not_ready=("bus",))
    assert [each.name for each in events(found, off)] == ["node.not_ready"]
    again = replace(found, bus=replace(found.bus, reconnects=found.bus.reconnects + 1))
    assert [each.name for each in events(found, again)] == ["bus.reconnected"]


async def test_the_collector_tells_changes_at_once_and_unchanged_health_only_now_and_then() -> None:
    clock, told = ManualClock(), list[Telemetry]()
    now = status()
    collector = Collector(TelemetryConfig(health_s=100, alarm_after_s=0), lambda: now, clock=clock)
    collector.add(lambda item: told.append(item.body))
    collector.look()
    assert [type(each) for each in told] == [TelemetryEvent, NodeHealth]
    collector.look()
    assert len(told) == 2
    clock.advance_s(101)
    collector.look()
    assert isinstance(told[2], NodeHealth)
    now = down(now)
    collector.look()
    assert [type(each) for each in told[3:]] == [TelemetryEvent, Alarm, NodeHealth]
    assert len(collector.standing) == 1
    assert collector.health.state is HealthState.DEGRADED


async def test_the_collector_measures_at_its_start_and_goes_on() -> None:
    clock, told = ManualClock(), list[Item]()
    collector = Collector(TelemetryConfig(period_s=0.1), status, clock=clock)
    collector.add(told.append)
    ready = asyncio.Event()
    task = asyncio.create_task(collector.run(ready.set))
    await ready.wait()
    while sum(isinstance(item.body, HostReading) for item in told) < 2:
        clock.advance_s(0.2)
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
