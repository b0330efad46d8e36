"""Settings of the simulated QPU, its presets, and the device that comes out of them; standard library only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qedge_driver_api import BadSettingsError, setting

_AS_PRESET: Final = -1.0


@dataclass(frozen=True)
class SimQpuSettings:
    """A device is a preset plus what is set beside it."""

    preset: str = setting(
        "ideal",
        choices=("ideal", "plan", "custom"),
        description="Where unset values come from: ideal (64 qubits, no noise), plan (64 qubits, all-to-all, fidelity "
        "at least 0.999, coherence above 100 us) or custom (20 qubits, noise only where it is set).",
    )
    qubits: int = setting(0, minimum=0, maximum=1000, description="Number of qubits; 0 takes that of the preset.")
    connectivity: str = setting(
        "all",
        choices=("all", "line", "ring", "grid"),
        description="Pairs that two-qubit gates may act on; grid is the most nearly square one, filled by rows.",
    )
    fidelity_1q: float = setting(
        _AS_PRESET,
        minimum=-1,
        maximum=1,
        description="Average fidelity of one-qubit gates; -1 takes that of the preset.",
    )
    fidelity_2q: float = setting(
        _AS_PRESET,
        minimum=-1,
        maximum=1,
        description="Average fidelity of two-qubit gates; -1 takes that of the preset.",
    )
    readout_error: float = setting(
        _AS_PRESET, minimum=-1, maximum=0.5, description="Chance that a measured bit is flipped; -1 takes the preset's."
    )
    t1_us: float = setting(
        _AS_PRESET,
        unit="us",
        minimum=-1,
        maximum=1e9,
        description="Relaxation time; 0 is no relaxation, -1 the preset's.",
    )
    t2_us: float = setting(
        _AS_PRESET,
        unit="us",
        minimum=-1,
        maximum=1e9,
        description="Coherence time, at most twice t1_us; 0 adds no dephasing to relaxation, -1 takes the preset's.",
    )
    duration_1q_us: float = setting(
        _AS_PRESET,
        unit="us",
        minimum=-1,
        maximum=1e6,
        description="Duration of a one-qubit gate; -1 takes the preset's.",
    )
    duration_2q_us: float = setting(
        _AS_PRESET,
        unit="us",
        minimum=-1,
        maximum=1e6,
        description="Duration of a two-qubit gate; -1 takes the preset's.",
    )
    duration_readout_us: float = setting(
        _AS_PRESET, unit="us", minimum=-1, maximum=1e6, description="Duration of a measurement or reset; -1 as preset."
    )
    backend: str = setting(
        "auto",
        choices=("auto", "native", "cirq"),
        description="State vector kernel: native (qsim called directly), cirq (public interfaces only), or auto: "
        "native where its self-test passes.",
    )


@dataclass(frozen=True, slots=True)
class Device:
    """A resolved device. Times in microseconds; `t1_us`, `t2_us` are `inf` where there is no decay."""

    num_qubits: int
    connectivity: str
    fidelity_1q: float
    fidelity_2q: float
    readout_error: float
    t1_us: float
    t2_us: float
    duration_1q_us: float
    duration_2q_us: float
    duration_readout_us: float

    @property
    def decays(self) -> bool:
        """Tell whether qubits lose their state over time."""
        return math.isfinite(self.t1_us) or math.isfinite(self.t2_us)

    @property
    def noisy(self) -> bool:
        """Tell whether anything but readout disturbs a run."""
        return self.decays or self.fidelity_1q < 1 or self.fidelity_2q < 1

    @property
    def columns(self) -> int:
        """Return the width of the grid."""
        return max(1, math.isqrt(self.num_qubits - 1) + 1)

    def coupled(self, one: int, other: int) -> bool:
        """Tell whether a two-qubit gate may act on this pair."""
        if self.connectivity == "all":
            return True
        low, high = sorted((one, other))
        if self.connectivity == "grid":
            columns = self.columns
            return high - low == columns or (high - low == 1 and high % columns != 0)
        wraps = self.connectivity == "ring" and low == 0 and high == self.num_qubits - 1
        return high - low == 1 or wraps

    def coupling(self) -> tuple[tuple[int, int], ...]:
        """List the allowed pairs, lower qubit first; empty for all-to-all."""
        if self.connectivity == "all":
            return ()
        reach = {1, self.columns, self.num_qubits - 1}
        return tuple(
            (low, low + step)
            for low in range(self.num_qubits)
            for step in sorted(reach)
            if 0 < step < self.num_qubits - low and self.coupled(low, low + step)
        )


_IDEAL: Final[Mapping[str, float]] = {
    "qubits": 64,
    "fidelity_1q": 1.0,
    "fidelity_2q": 1.0,
    "readout_error": 0.0,
    "t1_us": 0.0,
    "t2_us": 0.0,
    "duration_1q_us": 0.05,
    "duration_2q_us": 0.2,
    "duration_readout_us": 1.0,
}
_PRESETS: Final[Mapping[str, Mapping[str, float]]] = {
    "ideal": _IDEAL,
    "custom": {**_IDEAL, "qubits": 20},
    "plan": {
        **_IDEAL,
        "fidelity_1q": 0.9999,
        "fidelity_2q": 0.999,
        "readout_error": 0.001,
        "t1_us": 400.0,
        "t2_us": 300.0,
    },
}
_NOISE: Final = ("fidelity_1q", "fidelity_2q", "readout_error", "t1_us", "t2_us")


def resolve(settings: SimQpuSettings) -> Device:
    """Return the device that the settings describe; raises `BadSettingsError`."""
    given = dataclasses.asdict(settings)
    preset = _PRESETS[settings.preset]
    for key in preset:
        if key != "qubits" and given[key] < 0 and given[key] != _AS_PRESET:
            raise BadSettingsError(f"{key}: expected -1 (as the preset) or a value from 0 on, got {given[key]}", key)
    values = {key: (preset[key] if given[key] == _AS_PRESET else given[key]) for key in preset if key != "qubits"}
    if settings.preset == "ideal":
        for key in _NOISE:
            if values[key] != _IDEAL[key]:
                raise BadSettingsError(f'{key}: preset "ideal" has no noise; expected preset "plan" or "custom"', key)
    for key, least in (("fidelity_1q", 0.5), ("fidelity_2q", 0.25)):
        if values[key] < least:
            raise BadSettingsError(f"{key}: expected at least {least} (a fully random gate), got {values[key]}", key)
    t1_us = values.pop("t1_us") or math.inf
    t2_us = min(values.pop("t2_us") or math.inf, 2 * t1_us)
    if settings.t2_us > 2 * t1_us:
        raise BadSettingsError(f"t2_us: expected at most twice t1_us ({2 * t1_us}), got {settings.t2_us}", "t2_us")
    return Device(
        num_qubits=settings.qubits or int(preset["qubits"]),
        connectivity=settings.connectivity,
        t1_us=t1_us,
        t2_us=t2_us,
        **values,
    )
