"""Settings of the adapter for cirq samplers; standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from qedge_driver_api import BadSettingsError, setting


@dataclass(frozen=True)
class CirqSamplerSettings:
    """Which sampler, and what the node cannot ask it."""

    sampler: str = setting(
        "cirq:Simulator",
        description="The sampler as module:attribute: a cirq.Sampler, or something callable without arguments that "
        "returns one; a callable with a parameter named seed is called for each job with the job's seed.",
    )
    qubits: int = setting(24, minimum=1, maximum=10_000, description="Qubits that the device has.")
    max_shots: int = setting(1_000_000, minimum=1, maximum=1_000_000_000, description="Most shots that a job may take.")
    time_per_job_s: float = setting(0.1, unit="s", minimum=0, maximum=1e6, description="Time that any job takes.")
    time_per_shot_s: float = setting(
        1e-5, unit="s", minimum=0, maximum=1e3, description="Time that each shot adds; estimates are made of both."
    )


def sampler_path(settings: CirqSamplerSettings) -> tuple[str, str]:
    """Return module and attribute of the setting `sampler`; raises `BadSettingsError`."""
    module, separator, attribute = settings.sampler.partition(":")
    names = [*module.split("."), *attribute.split(".")]
    if not separator or not all(name.isidentifier() for name in names):
        raise BadSettingsError(f"sampler: expected module:attribute, got {settings.sampler!r}", "sampler")
    return module, attribute
