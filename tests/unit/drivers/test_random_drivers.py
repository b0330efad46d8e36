"""The two random number drivers: faults on demand, and devices that are silent, gone or forbidden."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from qedge_driver_api import BadSettingsError, DriverContext, FatalError, OperatingState, RetriableError
from qedge_drivers.hwrng import HwRng, HwRngSettings
from qedge_drivers.sim_qrng import SimQrng, SimQrngSettings

CONTEXT = DriverContext("rng", "", os.urandom, lambda: False)
SAMPLE_BYTES = 1 << 17


def opened(settings: SimQrngSettings) -> SimQrng:
    """An open simulated source."""
    driver = SimQrng(settings)
    driver.open(CONTEXT)
    return driver


def ones(data: bytes) -> float:
    """Share of one bits."""
    return int.from_bytes(data, "big").bit_count() / (8 * len(data))


@pytest.mark.parametrize("bias", [-0.3, -0.01, 0.0, 0.05, 0.4])
def test_the_share_of_ones_is_what_the_bias_says(bias: float) -> None:
    data = opened(SimQrngSettings(bias=bias, seed=11)).read(SAMPLE_BYTES).data
    sigma = (0.25 / (8 * SAMPLE_BYTES)) ** 0.5
    assert abs(ones(data) - 0.5 - bias) < 5 * sigma


def test_correlated_bits_repeat_more_often_than_fair_ones() -> None:
    data = opened(SimQrngSettings(correlation=0.5, seed=3)).read(1 << 14).data
    bits = int.from_bytes(data, "big")
    changes = (bits ^ (bits >> 1)).bit_count() / (8 * len(data))
    assert abs(changes - 0.25) < 0.01


def test_a_drift_moves_the_bias_with_the_output() -> None:
    driver = opened(SimQrngSettings(drift_per_mib=0.4, seed=5))
    first = ones(driver.read(SAMPLE_BYTES).data)
    for _ in range(6):
        driver.read(SAMPLE_BYTES)
    assert ones(driver.read(SAMPLE_BYTES).data) > first + 0.2


def test_faults_can_be_switched_on_and_off_while_it_runs() -> None:
    driver = opened(SimQrngSettings())
    driver.reconfigure(SimQrngSettings(stuck=True))
    assert driver.read(64).data == bytes(64)
    driver.reconfigure(SimQrngSettings(dry=True))
    assert driver.health().state is OperatingState.DEGRADED
    with pytest.raises(RetriableError):
        driver.read(64)
    driver.reconfigure(SimQrngSettings())
    assert driver.read(64).data != driver.read(64).data
    driver.close()
    with pytest.raises(RetriableError):
        driver.read(64)


def test_one_seed_gives_one_sequence_and_settings_that_cannot_be_are_refused() -> None:
    first, second = (opened(SimQrngSettings(seed=9)).read(100).data for _ in range(2))
    assert first == second
    with pytest.raises(BadSettingsError):
        SimQrng(SimQrngSettings(bias=0.4, drift_per_mib=0.4))


def test_a_character_device_gives_exactly_what_is_asked_for() -> None:
    driver = HwRng(HwRngSettings(path="/dev/urandom"))
    driver.probe()
    driver.open(CONTEXT)
    for number in (1, 1000, 1 << 20):
        samples = driver.read(number)
        assert (len(samples.data), samples.bits_per_sample) == (number, 8)
    assert driver.health().state is OperatingState.UP
    driver.close()
    driver.close()


def test_a_silent_device_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    path = tmp_path / "device"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    driver = HwRng(HwRngSettings(path=str(path), read_timeout_s=0.2))
    driver.open(CONTEXT)
    with pytest.raises(RetriableError, match="gives nothing"):
        driver.read(10)
    assert driver.health().state is OperatingState.DEGRADED
    os.write(writer, b"0123456789")
    assert driver.read(10).data == b"0123456789"
    assert driver.health().state is OperatingState.UP
    late = threading.Timer(0.05, os.write, (writer, b"abc"))
    late.start()
    assert driver.read(3).data == b"abc"
    late.join()
    driver.close()
    os.close(writer)


def test_what_is_missing_or_no_device_is_said(tmp_path: Path) -> None:
    with pytest.raises(RetriableError, match="is not there"):
        HwRng(HwRngSettings(path=str(tmp_path / "none"))).probe()
    (tmp_path / "file").write_bytes(bytes(100))
    with pytest.raises(FatalError, match="no device"):
        HwRng(HwRngSettings(path=str(tmp_path / "file"))).probe()
    with pytest.raises(BadSettingsError):
        HwRng(HwRngSettings(path="relative"))
    with pytest.raises(BadSettingsError):
        HwRng(HwRngSettings(bits_per_sample=1, min_entropy_per_sample=2.0))
