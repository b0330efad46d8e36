"""Settings of the simulated QKD transceiver."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qedge_driver_api import BadSettingsError, setting
from qedge_drivers.sim_qkd.presets import PRESETS, Figures, SourceFigures, preset_of

MAX_BLOCK_DETECTIONS = 1 << 20


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
    preset: str = setting(
        "lab",
        description="Where unset values come from, at both ends: a laboratory's link, the plan of a fast one, a class "
        "of detectors, or a published system.",
        choices=tuple(PRESETS),
    )
    clock_hz: float = setting(
        -1.0, description="Pulses per second; -1 takes the preset's.", unit="Hz", minimum=-1.0, maximum=1e11
    )
    mean_photon_numbers: tuple[float, ...] = setting(
        (),
        description="Mean photons of the intensities, largest first; empty takes the preset's.",
        minimum=0.0,
        maximum=10.0,
    )
    intensity_probabilities: tuple[float, ...] = setting(
        (),
        description="How often each intensity is sent, in all 1; empty takes the preset's.",
        minimum=0.0,
        maximum=1.0,
    )
    z_basis_probability: float = setting(
        -1.0, description="How often this end chooses the Z basis; -1 takes the preset's.", minimum=-1.0, maximum=1.0
    )
    extinction_db: float = setting(
        -1.0,
        description="Alice: how far the modulator can darken a pulse below the largest intensity; the rest leaks into "
        "each intensity. 0: entirely; -1 takes the preset's.",
        unit="dB",
        minimum=-1.0,
        maximum=100.0,
    )
    length_km: float = setting(
        -1.0, description="Alice: length of the fibre; -1 takes the preset's.", unit="km", minimum=-1.0, maximum=1000.0
    )
    loss_db_per_km: float = setting(
        -1.0,
        description="Alice: attenuation of the fibre; -1 takes the preset's.",
        unit="dB/km",
        minimum=-1.0,
        maximum=10.0,
    )
    loss_drift_db: float = setting(
        0.0, description="Alice: how far the loss wanders, as standard deviation.", unit="dB", minimum=0.0, maximum=10.0
    )
    fibre_cut: bool = setting(False, description="Alice, fault: no light arrives.")
    eve_attack: str = setting(
        "intercept",
        description="Alice: what an eavesdropper does to her share of the pulses: measures and resends them, splits "
        "off a photon where there are several, or blinds Bob's detectors and steers them.",
        choices=("intercept", "split", "blind"),
    )
    eve_fraction: float = setting(
        0.0, description="Alice: share of the pulses that an eavesdropper attacks.", minimum=0.0, maximum=1.0
    )
    receiver_loss_db: float = setting(
        -1.0,
        description="Bob: loss between fibre and detectors; -1 takes the preset's.",
        unit="dB",
        minimum=-1.0,
        maximum=60.0,
    )
    detector_efficiency: float = setting(
        -1.0,
        description="Bob: chance that a photon that arrives is detected; -1 takes the preset's.",
        minimum=-1.0,
        maximum=1.0,
    )
    dark_count_probability: float = setting(
        -1.0, description="Bob: dark counts per detector and slot; -1 takes the preset's.", minimum=-1.0, maximum=0.1
    )
    dead_time_ns: float = setting(
        -1.0,
        description="Bob: time after a click in which neither detector clicks; -1 takes the preset's.",
        unit="ns",
        minimum=-1.0,
        maximum=1e7,
    )
    after_pulse_probability: float = setting(
        -1.0,
        description="Bob: chance that a click causes a later one of the same detector; -1 takes the preset's.",
        minimum=-1.0,
        maximum=0.5,
    )
    after_pulse_time_ns: float = setting(
        -1.0,
        description="Bob: mean time from the end of dead time to an after-pulse; -1 takes the preset's.",
        unit="ns",
        minimum=-1.0,
        maximum=1e6,
    )
    misalignment: float = setting(
        -1.0,
        description="Bob: chance that a photon goes to the wrong detector; -1 takes the preset's.",
        minimum=-1.0,
        maximum=0.5,
    )
    misalignment_drift_deg: float = setting(
        0.0,
        description="Bob: how far the polarisation wanders, as standard deviation of its angle.",
        unit="deg",
        minimum=0.0,
        maximum=45.0,
    )
    drift_time_s: float = setting(
        60.0,
        description="Time after which drifts have forgotten where they were.",
        unit="s",
        minimum=0.01,
        maximum=1e6,
    )
    max_count_rate_hz: float = setting(
        -1.0,
        description="Bob: clicks per second that the receiver can take; 0: any number, -1 takes the preset's.",
        unit="Hz",
        minimum=-1.0,
        maximum=1e11,
    )
    block_detections: int = setting(
        32_768,
        description="Bob: the longest block of detections. Where it is above 65,536, light is fetched a block ahead.",
        minimum=256,
        maximum=MAX_BLOCK_DETECTIONS,
    )
    realtime: bool = setting(
        True, description="Bob: blocks come no faster than the pulses would; false as fast as they can be computed."
    )
    replay: str = setting(
        "", description="Recording of this end that is played instead of a simulation: a file as the README says."
    )
    seed: int = setting(0, description="Seed of the simulated physics; 0 draws one.", minimum=0, maximum=2**63 - 1)


def figures(settings: SimQkdSettings) -> Figures:
    """Take unset values from the preset."""
    chosen = preset_of(settings.preset)
    source, receiver = chosen.source, chosen.receiver

    def pick(value: float, preset: float) -> float:
        return preset if value < 0 else value

    means = settings.mean_photon_numbers or source.mean_photon_numbers
    extinction_db = pick(settings.extinction_db, source.extinction_db)
    leak = means[0] * 10 ** (-extinction_db / 10) if extinction_db > 0 else 0.0
    return Figures(
        pick(settings.clock_hz, chosen.clock_hz),
        SourceFigures(
            (means[0], *(mean + leak for mean in means[1:])),
            settings.intensity_probabilities or source.intensity_probabilities,
            pick(settings.z_basis_probability, source.z_basis_probability),
            pick(settings.length_km, source.length_km),
            pick(settings.loss_db_per_km, source.loss_db_per_km),
            extinction_db,
        ),
        type(receiver)(
            pick(settings.z_basis_probability, receiver.z_basis_probability),
            pick(settings.receiver_loss_db, receiver.loss_db),
            pick(settings.detector_efficiency, receiver.efficiency),
            pick(settings.dark_count_probability, receiver.dark_count_probability),
            pick(settings.misalignment, receiver.misalignment),
            pick(settings.dead_time_ns, receiver.dead_time_ns),
            pick(settings.after_pulse_probability, receiver.after_pulse_probability),
            pick(settings.after_pulse_time_ns, receiver.after_pulse_time_ns),
            pick(settings.max_count_rate_hz, receiver.max_count_rate_hz),
        ),
    )


def check(settings: SimQkdSettings) -> None:
    """Raise `BadSettingsError` where single settings are in range but do not fit together."""
    source = figures(settings).source
    means, chances = source.mean_photon_numbers, source.intensity_probabilities
    given = settings.mean_photon_numbers or means
    if not 1 <= len(given) <= 8 or list(given) != sorted(given, reverse=True):
        raise BadSettingsError("mean_photon_numbers: expected 1 to 8 numbers, largest first", "mean_photon_numbers")
    if len(chances) != len(means) or not math.isclose(sum(chances), 1.0, abs_tol=1e-6):
        raise BadSettingsError(
            "intensity_probabilities: expected one for each mean photon number, 1 in all", "intensity_probabilities"
        )
    if 0 <= settings.clock_hz < 1e3:
        raise BadSettingsError("clock_hz: expected at least 1000 Hz", "clock_hz")
    if not settings.link or not all(letter.isalnum() or letter in "-_" for letter in settings.link):
        raise BadSettingsError("link: expected letters, digits, - and _", "link")
    kind, _, place = settings.fibre.partition(":")
    host, _, port = place.rpartition(":")
    tcp = kind == "tcp" and host and port.isdecimal() and int(port) < 65_536
    if settings.fibre and not tcp and not (kind == "unix" and place.startswith("/")):
        raise BadSettingsError("fibre: expected unix:/path or tcp:host:port", "fibre")
