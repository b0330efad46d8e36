"""The kit checks what the contract asks; the rest checks what only this driver promises."""

from __future__ import annotations

import os
from typing import Any

import pytest
from coin_qrng import CoinQrng, CoinSettings

from qedge_driver_api import BadSettingsError, DriverContext, FatalError, OperatingState, RetriableError
from qedge_driver_api.conformance import run


def opened(cancelled: bool = False, **settings: Any) -> CoinQrng:
    coin = CoinQrng(CoinSettings(**settings))
    coin.open(DriverContext("coin", "", os.urandom, lambda: cancelled))
    return coin


@pytest.mark.parametrize("settings", [{}, {"bias": 0.2, "edge_probability": 0.3, "min_entropy": 0.5}])
def test_the_driver_passes_the_conformance_kit(settings: dict[str, object]) -> None:
    report = run(CoinQrng, settings, cycles=5)
    assert report.ok, report.text()


def test_a_biased_coin_shows_its_bias() -> None:
    data = opened(bias=0.2, min_entropy=0.5).read(8192).data
    heads = int.from_bytes(data, "big").bit_count() / (8 * len(data))
    assert heads == pytest.approx(0.7, abs=0.02)


def test_more_entropy_than_the_bias_leaves_cannot_be_claimed() -> None:
    with pytest.raises(BadSettingsError, match="min_entropy"):
        CoinQrng(CoinSettings(bias=0.25, min_entropy=0.9))


def test_a_worn_out_coin_says_so_and_gives_nothing() -> None:
    coin = opened(worn_out_after=80)
    coin.read(10)
    assert coin.health().state is OperatingState.DEGRADED
    with pytest.raises(FatalError):
        coin.read(1)


def test_a_cancelled_read_ends() -> None:
    with pytest.raises(RetriableError):
        opened(cancelled=True).read(1 << 20)
