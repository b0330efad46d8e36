"""What a node found when it measured one of its QPUs."""

from __future__ import annotations

import msgspec


class Assessment(msgspec.Struct, frozen=True, tag_field="type", tag="assessment/1"):
    """Figures of one QPU, measured by this node; a figure that could not be measured is 0 and `notes` says why.

    - `state_qubits`: widest circuit with a full state that fits into the memory and time that one job may take now;
      of a device its qubits.
    - `log2_volume`: quantum volume, log2 (arXiv:1811.12926), of `volume_circuits` circuits a width and looked for up to
      `volume_limit`; `heavy_output` is the share of heavy outputs at that width.
    - `clops`: layers of parametrised circuits a second, update, run and counts included (after arXiv:2110.14108).
    - `cycle_fidelity`: average fidelity of a layer of two single-qubit gates and one CZ, by linear cross-entropy.
    - `decode_p50_us`, `decode_p99_us`: one window of the streaming decoder, surface code of distance 5.
    - `degraded`: in what it is worse than it was at its best; empty where it is not.
    """

    qpu: str
    measured_utc_ns: int
    took_s: float
    seed: int
    version: str
    cpu_model: str
    load: float
    simulated: bool
    state_qubits: int = 0
    log2_volume: int = 0
    volume_limit: int = 0
    volume_circuits: int = 0
    heavy_output: float = 0.0
    clops: float = 0.0
    cycle_fidelity: float = 0.0
    cycle_fidelity_error: float = 0.0
    decode_p50_us: float = 0.0
    decode_p99_us: float = 0.0
    degraded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
