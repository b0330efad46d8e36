"""Settings of the simulated QKD transceiver."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qedge_driver_api import BadSettingsError, setting


@dataclass(frozen=True)
class SimQkdSettings:
    """One end of a decoy-state BB84 link. Alice's settings describe source and fibre, Bob's the receiver."""

    role: str = setting(description="The end of the link that this is.", choices=("alice", "bob"))
    link: str = setting("local", description="Name of the fibre; both ends on one box give the same.")
    fibre: str = setting(
        "",
        description="Where the fibre runs: `unix:/path` or `tcp:host:port`; Alice listens, Bob connects. Empty: a unix "
        "socket beside the state folders of both ends.",
    )
    clock_hz: float = setting(1e9, description="Pulses per second.", unit="Hz", minimum=1e3, maximum=1e11)
    mean_photon_numbers: tuple[float, ...] = setting(
        (0.5, 0.1, 0.0), description="Alice: mean photons of the intensities, largest first.", minimum=0.0, maximum=10.0
    )
    intensity_probabilities: tuple[float, ...] = setting(
        (0.8, 0.15, 0.05), description="Alice: how often each intensity is sent; sums to 1.", minimum=0.0, maximum=1.0
    )
    z_basis_probability: float = setting(
        0.9, description="How often this end chooses the Z basis.", minimum=0.0, maximum=1.0
    )
    length_km: float = setting(25.0, description="Alice: length of the fibre.", unit="km", minimum=0.0, maximum=1000.0)
    loss_db_per_km: float = setting(
        0.2, description="Alice: attenuation of the fibre.", unit="dB/km", minimum=0.0, maximum=10.0
    )
    eve_fraction: float = setting(
        0.0, description="Alice: share of the pulses that an eavesdropper intercepts.", minimum=0.0, maximum=1.0
    )
    detector_efficiency: float = setting(
        0.2, description="Bob: chance that a photon that arrives is detected.", minimum=0.0, maximum=1.0
    )
    dark_count_probability: float = setting(
        1e-7, description="Bob: dark counts per detector and slot.", minimum=0.0, maximum=0.1
    )
    dead_time_ns: float = setting(
        30.0, description="Bob: time after a click in which neither detector clicks.", unit="ns", minimum=0, maximum=1e7
    )
    misalignment: float = setting(
        0.01, description="Bob: chance that a photon goes to the wrong detector.", minimum=0.0, maximum=0.5
    )
    seed: int = setting(0, description="Seed of the simulated physics; 0 draws one.", minimum=0, maximum=2**63 - 1)


def check(settings: SimQkdSettings) -> None:
    """Raise `BadSettingsError` where single settings are in range but do not fit together."""
    means, chances = settings.mean_photon_numbers, settings.intensity_probabilities
    if not 1 <= len(means) <= 8 or list(means) != sorted(means, reverse=True):
        raise BadSettingsError("mean_photon_numbers: expected 1 to 8 numbers, largest first", "mean_photon_numbers")
    if len(chances) != len(means) or not math.isclose(sum(chances), 1.0, abs_tol=1e-6):
        raise BadSettingsError(
            "intensity_probabilities: expected one for each mean photon number, 1 in all", "intensity_probabilities"
        )
    if not settings.link or not all(letter.isalnum() or letter in "-_" for letter in settings.link):
        raise BadSettingsError("link: expected letters, digits, - and _", "link")
    kind, _, place = settings.fibre.partition(":")
    host, _, port = place.rpartition(":")
    tcp = kind == "tcp" and host and port.isdecimal() and int(port) < 65_536
    if settings.fibre and not tcp and not (kind == "unix" and place.startswith("/")):
        raise BadSettingsError("fibre: expected unix:/path or tcp:host:port", "fibre")
