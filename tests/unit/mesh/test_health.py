"""Verdicts on the host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qedge.mesh.config import HostConfig
from qedge.mesh.health import HostHealth, Level, Sample, judge

MIB = 2**20
WELL = Sample(
    cpu_ratio=0.1,
    memory_available_bytes=4096 * MIB,
    memory_total_bytes=8192 * MIB,
    disk_free_bytes=4096 * MIB,
    temperature_celsius=40.0,
    power_watts=0.0,
    daemon_bytes=50 * MIB,
    now_ns=0,
    utc_ns=1_800_000_000_000_000_000,
)


def later(sample: Sample, seconds: float, *, step_s: float = 0.0, **values: float) -> Sample:
    passed_ns = round(seconds * 1e9)
    return replace(
        sample,
        now_ns=sample.now_ns + passed_ns,
        utc_ns=sample.utc_ns + passed_ns + round(step_s * 1e9),
        **values,  # type: ignore[arg-type] # the test names fields of numbers
    )


def test_the_verdict_is_unknown_before_the_first_sample_and_ok_after_a_good_one() -> None:
    health = HostHealth(HostConfig())
    assert health.verdict == "unknown"
    assert health.take(WELL).changes == ()
    assert health.verdict == "ok"


@pytest.mark.parametrize(
    ("what", "value", "verdict"),
    [
        ("memory_available_bytes", 100 * MIB, "degraded"),
        ("memory_available_bytes", 63 * MIB, "critical"),
        ("disk_free_bytes", 63 * MIB, "degraded"),
        ("disk_free_bytes", 15 * MIB, "critical"),
        ("temperature_celsius", 91.0, "degraded"),
        ("temperature_celsius", 101.0, "critical"),
        ("temperature_celsius", 0.0, "ok"),
    ],
)
def test_a_value_past_its_limit_makes_the_host_degraded_or_critical(what: str, value: float, verdict: str) -> None:
    health = HostHealth(HostConfig())
    health.take(later(WELL, 0, **{what: value}))
    assert health.verdict == verdict


def test_the_host_is_as_well_as_the_worst_of_its_values() -> None:
    health = HostHealth(HostConfig())
    health.take(replace(WELL, temperature_celsius=91.0, disk_free_bytes=0))
    assert health.verdict == "critical"


def test_a_change_tells_the_value_and_the_limit_it_crossed() -> None:
    health = HostHealth(HostConfig())
    (worse,) = health.take(replace(WELL, temperature_celsius=91.0)).changes
    assert (worse.what, worse.level, worse.value, worse.limit) == ("temperature", Level.DEGRADED, 91.0, 90.0)
    (worst,) = health.take(replace(WELL, temperature_celsius=101.0)).changes
    assert (worst.level, worst.limit) == (Level.CRITICAL, 100.0)


@pytest.mark.parametrize("limit", [100.0, -0.98, 128 * MIB])
def test_a_value_on_the_edge_does_not_flap(limit: float) -> None:
    level, changes = Level.OK, 0
    for number in range(100):
        value = limit * (1 + (0.01 if number % 2 else -0.01))
        after = judge(level, value, limit, -1e12)
        changes += after is not level
        level = after
    assert changes == 1
    assert level is Level.DEGRADED


def test_a_critical_value_has_to_get_clearly_better() -> None:
    assert judge(Level.OK, 49, 100, 50) is Level.CRITICAL
    assert judge(Level.CRITICAL, 54, 100, 50) is Level.CRITICAL
    assert judge(Level.CRITICAL, 56, 100, 50) is Level.DEGRADED
    assert judge(Level.DEGRADED, 109, 100, 50) is Level.DEGRADED
    assert judge(Level.DEGRADED, 111, 100, 50) is Level.OK


def test_a_short_burst_of_work_is_no_illness_but_a_long_one_is_told() -> None:
    health, sample = HostHealth(HostConfig()), WELL
    health.take(sample)
    for _ in range(5):
        sample = later(sample, 2, cpu_ratio=1.0)
        health.take(sample)
    assert health.verdict == "ok"
    for _ in range(100):
        sample = later(sample, 2, cpu_ratio=1.0)
        health.take(sample)
    assert health.verdict == "degraded"


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, 0.6])
def test_a_step_of_the_wall_clock_is_counted(step_s: float) -> None:
    health = HostHealth(HostConfig())
    health.take(WELL)
    assert health.take(later(WELL, 2, step_s=step_s)).clock_step_s == pytest.approx(step_s)
    assert health.clock_steps == 1


@pytest.mark.parametrize("seconds", [2.0, 86_400.0])
def test_a_long_sleep_of_the_box_is_no_step_of_the_clock(seconds: float) -> None:
    health = HostHealth(HostConfig())
    health.take(WELL)
    assert health.take(later(WELL, seconds, step_s=0.1)).clock_step_s == 0.0
    assert health.clock_steps == 0
