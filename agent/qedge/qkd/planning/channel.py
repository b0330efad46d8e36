"""Fibre and receiver in closed form: gains, errors, clicks per second, and what no protocol can exceed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Receiver:
    """Bob's end: two detectors behind a basis choice.

    `efficiency` of a detector, `dark_counts` per slot and detector, `misalignment`: chance that a photon goes to
    the wrong detector, `afterpulses` per detection, `loss_db` between fibre and detector. Detections are thinned to
    what is left of the time after each (`dead_time_s`, non-paralysable) and to `max_counts_per_s`, equally for all
    intensities.
    """

    efficiency: float
    dark_counts: float
    misalignment: float
    afterpulses: float = 0.0
    loss_db: float = 0.0
    dead_time_s: float = 0.0
    max_counts_per_s: float = math.inf

    def __post_init__(self) -> None:
        if not 0 < self.efficiency <= 1 or not 0 <= self.misalignment <= 0.5:
            raise ValueError("efficiency is above 0 and at most 1, misalignment between 0 and 0.5")
        if not (0 <= self.dark_counts < 0.5 and 0 <= self.afterpulses < 1):
            raise ValueError("dark counts and afterpulses are probabilities")
        if not (self.loss_db >= 0 and self.dead_time_s >= 0 and self.max_counts_per_s > 0):
            raise ValueError("loss and dead time are not negative, and some counts per second are taken")

    @property
    def transmittance(self) -> float:
        """Chance that a photon that leaves the fibre is detected."""
        return self.efficiency * math.pow(10, -self.loss_db / 10)


RECEIVERS: Final[Mapping[str, Receiver]] = MappingProxyType(
    {
        # what superconducting and fast-gated semiconductor detectors do in published systems of 1 GHz
        "snspd": Receiver(0.7, 1e-8, 0.01, loss_db=1.5, max_counts_per_s=40e6),
        "ingaas": Receiver(0.25, 5e-6, 0.02, loss_db=1.5, max_counts_per_s=60e6),
        # the receivers that papers calculate with: Lim et al. 2014, Rusca et al. 2018, Gobby, Yuan, Shields 2004
        "lim2014": Receiver(0.1, 6e-7, 0.005, afterpulses=0.04),
        "rusca2018": Receiver(0.5, 0.5e-8, 0.01, dead_time_s=100e-9),
        "gys2004": Receiver(0.045, 0.85e-6, 0.033),
    }
)
"""Receivers by the name that `qedge link plan --detector` takes."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A fibre of `loss_db` with a receiver at its end, pulsed with `clock_hz`."""

    receiver: Receiver
    loss_db: float
    clock_hz: float = 1e9

    @property
    def transmittance(self) -> float:
        """η: chance that a photon that Alice sends is detected."""
        return math.pow(10, -self.loss_db / 10) * self.receiver.transmittance

    def gain(self, mean: float) -> float:
        """Detections per pulse of `mean` photons: D = 1 − (1 − 2 p_d) e^(−ημ), with afterpulses D (1 + p_ap)."""
        return self._clicks(mean) * (1 + self.receiver.afterpulses)

    def error_gain(self, mean: float) -> float:
        """Wrong detections per pulse in equal bases: p_d + e_mis (1 − e^(−ημ)) + p_ap D / 2, a joint probability."""
        seen = -math.expm1(-self.transmittance * mean)
        receiver = self.receiver
        return receiver.dark_counts + receiver.misalignment * seen + receiver.afterpulses * self._clicks(mean) / 2

    def duty(self, clicks_per_pulse: float) -> float:
        """Share of detections that dead time and the limit of the counter leave."""
        rate = self.clock_hz * clicks_per_pulse
        alive = 1 / (1 + rate * self.receiver.dead_time_s)
        return min(alive, self.receiver.max_counts_per_s / rate) if rate > 0 else 1.0

    def _clicks(self, mean: float) -> float:
        dark = self.receiver.dark_counts
        return -math.expm1(-self.transmittance * mean + math.log1p(-2 * dark))


def repeaterless_bound(transmittance: float) -> float:
    """Return −log2(1 − η): secret bits per pulse that no protocol without a repeater exceeds (Pirandola et al. 2017).

    Infinite for a transmittance of 1.
    """
    return math.inf if transmittance >= 1 else -math.log1p(-transmittance) / math.log(2)
