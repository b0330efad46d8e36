"""Figures of links: a laboratory's, the plan's, classes of detectors, and published systems as far as they are known.

Where a publication or our sheet does not give a figure it is chosen so that the published rate or background comes out;
the README says which. All numbers are of the simulated device; none was measured by us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class SourceFigures:
    """Alice and the fibre: mean photons as sent, with what the modulator lets through."""

    mean_photon_numbers: tuple[float, ...]
    intensity_probabilities: tuple[float, ...]
    z_basis_probability: float
    length_km: float
    loss_db_per_km: float = 0.2
    extinction_db: float = 0.0


@dataclass(frozen=True)
class ReceiverFigures:
    """Bob: chances per slot and detector; 0 clicks per second means that there is no limit."""

    z_basis_probability: float
    loss_db: float
    efficiency: float
    dark_count_probability: float
    misalignment: float
    dead_time_ns: float = 0.0
    after_pulse_probability: float = 0.0
    after_pulse_time_ns: float = 100.0
    max_count_rate_hz: float = 0.0


@dataclass(frozen=True)
class Figures:
    """A link."""

    clock_hz: float
    source: SourceFigures
    receiver: ReceiverFigures


# Grid search of the key length of Lim et al. 2014 with blocks of 2²² sifted bits at 25 km, all epsilons 1e-10; they
# give a key from 2²⁰ bits on, which a basis chosen more often, or a signal sent more often, does not.
_DECOYS: Final = (0.4, 0.2, 2e-4)
_CHANCES: Final = (0.5, 0.325, 0.175)

PRESETS: Final[Mapping[str, Figures]] = {
    "lab": Figures(
        1e9,
        SourceFigures((0.5, 0.1, 0.0), (0.8, 0.15, 0.05), 0.9, 25.0),
        ReceiverFigures(0.9, 0.0, 0.2, 1e-7, 0.01, 30.0),
    ),
    # 1 GHz over 25 km with superconducting detectors; intensities and biases tuned for the secret rate there.
    "plan": Figures(
        1e9,
        SourceFigures(_DECOYS, _CHANCES, 0.85, 25.0),
        ReceiverFigures(0.85, 1.5, 0.7, 1e-8, 0.005, max_count_rate_hz=40e6),
    ),
    "snspd": Figures(
        1e9,
        SourceFigures(_DECOYS, _CHANCES, 0.85, 25.0),
        ReceiverFigures(0.85, 1.5, 0.7, 1e-8, 0.01, max_count_rate_hz=40e6),
    ),
    "ingaas": Figures(
        1e9,
        SourceFigures(_DECOYS, _CHANCES, 0.8, 25.0),
        ReceiverFigures(0.8, 1.5, 0.25, 5e-6, 0.02, max_count_rate_hz=60e6),
    ),
    # Gobby, Yuan, Shields 2004, as Ma et al. 2005 use it: Y0 = 1.7e-6 of two detectors, Bob's 4.5 % as efficiency.
    "gys": Figures(
        2e6,
        SourceFigures((0.48, 0.05, 0.0), (0.8, 0.1, 0.1), 0.5, 20.0, 0.21),
        ReceiverFigures(0.5, 0.0, 0.045, 0.85e-6, 0.033),
    ),
    # Lucamarini et al. 2013 (T12): test basis 1/16 at both ends; after-pulses make up the modelled background.
    "lucamarini2013": Figures(
        1e9,
        SourceFigures((0.425, 0.044, 0.001), (0.9883, 0.0078, 0.0039), 15 / 16, 50.0),
        ReceiverFigures(15 / 16, 2.53, 0.204, 2.1e-5, 0.01, 0.0, 0.0525, 20.0),
    ),
    # Yuan et al. 2018 (arXiv:1807.04484): 1 GHz, InGaAs, 2 dB of fibre.
    "yuan2018": Figures(
        1e9,
        SourceFigures((0.4, 0.1, 7e-4), (0.97, 0.02, 0.01), 15 / 16, 10.0),
        ReceiverFigures(15 / 16, 2.0, 0.25, 1e-5, 0.025, 0.0, 0.03, 20.0, 70e6),
    ),
    # Li et al. 2023 (arXiv:2307.02364): 2.5 GHz, superconducting detectors of 8 pixels each, 10 km.
    "li2023": Figures(
        2.5e9,
        SourceFigures((0.5, 0.15, 2e-4), (0.8, 0.15, 0.05), 0.96, 10.0, 0.19),
        ReceiverFigures(0.96, 1.5, 0.78, 1e-8, 0.004, max_count_rate_hz=550e6),
    ),
    # Grünenfelder et al. 2023 (arXiv:2210.16126): 2.5 GHz, one decoy, superconducting detectors of 14 pixels, 10 km.
    "grunenfelder2023": Figures(
        2.5e9,
        SourceFigures((0.49, 0.17), (0.7, 0.3), 0.9, 10.0, 0.2),
        ReceiverFigures(0.9, 3.0, 0.8, 1e-8, 0.003, max_count_rate_hz=300e6),
    ),
}


def preset_of(name: str) -> Figures:
    """Return a preset by its name."""
    return PRESETS[name]
