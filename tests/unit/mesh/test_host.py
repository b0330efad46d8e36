"""Looking at the host."""

from __future__ import annotations

from pathlib import Path

from qedge.base.clock import ManualClock
from qedge.base.system_clock import SystemClock
from qedge.mesh.host import HostProbe, available_memory_bytes, daemon_memory_bytes


def test_a_look_at_this_host_has_plausible_values(tmp_path: Path) -> None:
    sample = HostProbe(tmp_path, SystemClock()).look()
    assert 0 <= sample.cpu_ratio <= 1
    assert 0 < sample.memory_available_bytes <= sample.memory_total_bytes
    assert sample.disk_free_bytes > 0
    assert sample.daemon_bytes > 2**20
    assert available_memory_bytes() > 0
    assert daemon_memory_bytes() > 2**20


def test_a_state_folder_that_is_gone_counts_as_a_full_disk(tmp_path: Path) -> None:
    assert HostProbe(tmp_path / "gone", SystemClock()).look().disk_free_bytes == 0


def test_batteries_tell_power_or_current_and_voltage(tmp_path: Path) -> None:
    for name, values in {
        "BAT0": {"power_now": "7500000\n"},
        "BAT1": {"current_now": "-500000\n", "voltage_now": "12000000\n"},
        "AC": {"online": "1\n"},
        "BAT2": {"power_now": "nonsense"},
    }.items():
        (tmp_path / name).mkdir()
        for key, value in values.items():
            (tmp_path / name / key).write_text(value)
    probe = HostProbe(tmp_path, ManualClock(), supplies=tmp_path, power_caps=tmp_path / "none")
    assert probe.look().power_watts == 7.5 + 6.0


def test_processors_tell_power_by_their_energy_counters(tmp_path: Path) -> None:
    counters = [tmp_path / f"intel-rapl:{index}" / "energy_uj" for index in range(2)]
    clock = ManualClock()
    probe = HostProbe(tmp_path, clock, supplies=tmp_path / "none", power_caps=tmp_path)

    def look(microjoules: int) -> float:
        for counter in counters:
            counter.parent.mkdir(exist_ok=True)
            counter.write_text(f"{microjoules}\n")
        watts = probe.look().power_watts
        clock.advance_s(2)
        return watts

    assert look(1_000_000) == 0.0
    assert look(11_000_000) == 10.0
    assert look(5) == 0.0  # the counter began again
