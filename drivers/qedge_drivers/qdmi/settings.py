"""Settings of the driver for QDMI devices; standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qedge_driver_api import BadSettingsError, setting

SIMULATOR_PREFIX: Final = "mqt.ddsim."
"""Ids of devices that are simulators for certain; QDMI itself does not tell."""
SIMULATOR_QUBITS: Final = 20
"""Most qubits of a simulator where the setting `qubits` says nothing: a state in general position takes 1 GiB."""
SIMULATOR_SEED: Final = "custom1"


@dataclass(frozen=True)
class QdmiSettings:
    """Which device, how to get at it, and what QDMI cannot ask it."""

    device: str = setting("mqt.ddsim.default", description="Stable id of the QDMI device.")
    manifest: str = setting(
        "", description="Path of a QDMI manifest (*.qdmi.json) that names the device's library; empty: installed ones."
    )
    auth_file: str = setting("", description="Path of a file of credentials that is given to the device's library.")
    token_file: str = setting("", description="Path of a file that holds an access token for the device.")
    auth_url: str = setting("", description="Where the device's library authenticates.")
    project: str = setting("", description="Project that jobs are booked on.")
    format: str = setting(
        "auto",
        choices=("auto", "qasm2", "qasm3"),
        description="Language that programs are written in; auto: OpenQASM 2 where that can say it, else 3.",
    )
    qubits: int = setting(
        0,
        minimum=0,
        maximum=100_000,
        description="Most qubits that are used; 0: all that the device has, or 20 of a simulator.",
    )
    max_shots: int = setting(1_000_000, minimum=1, maximum=1_000_000_000, description="Most shots that a job may take.")
    simulated: str = setting(
        "auto",
        choices=("auto", "yes", "no"),
        description="Whether the device is a simulator, which QDMI does not tell; auto knows those of mqt-core.",
    )
    seed_parameter: str = setting(
        "auto",
        choices=("auto", "none", "custom1", "custom2", "custom3", "custom4", "custom5"),
        description="Parameter of a job that takes its seed (1 to 2^31 - 1); auto: custom1 for simulators of mqt-core.",
    )
    time_per_job_s: float = setting(0.05, unit="s", minimum=0, maximum=1e6, description="Time that any job takes.")
    time_per_shot_s: float = setting(
        1e-5,
        unit="s",
        minimum=0,
        maximum=1e3,
        description="Time that each shot adds to the durations of its operations; estimates are made of all these.",
    )


def check(settings: QdmiSettings) -> None:
    """Raise `BadSettingsError` for a device id or a path that cannot be one."""
    if not settings.device or not settings.device.isprintable() or len(settings.device) > 200:
        raise BadSettingsError("device: expected the id of a QDMI device", "device")
    for key in ("manifest", "auth_file", "token_file", "auth_url", "project"):
        value: str = getattr(settings, key)
        if not value.isprintable() or len(value) > 4096:
            raise BadSettingsError(f"{key}: expected at most 4096 printable characters", key)


def is_simulator(settings: QdmiSettings) -> bool:
    """Tell whether results of the device are to be labelled as simulated."""
    if settings.simulated == "auto":
        return settings.device.startswith(SIMULATOR_PREFIX)
    return settings.simulated == "yes"


def seed_parameter(settings: QdmiSettings) -> str:
    """Return the name of the job parameter that takes a seed; empty where there is none."""
    if settings.seed_parameter == "auto":
        return SIMULATOR_SEED if settings.device.startswith(SIMULATOR_PREFIX) else ""
    return "" if settings.seed_parameter == "none" else settings.seed_parameter
