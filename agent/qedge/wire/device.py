"""What a QPU says of itself: places, operations, couplings, queue; as QDMI has it."""

from __future__ import annotations

import msgspec


class DeviceSite(msgspec.Struct, frozen=True):
    """One qubit: `t1_us`, `t2_us` in microseconds (0: unknown), `readout_error` as a probability."""

    index: int
    name: str = ""
    t1_us: float = 0.0
    t2_us: float = 0.0
    readout_error: float = 0.0


class DeviceOperationAt(msgspec.Struct, frozen=True):
    """An operation on certain qubits."""

    qubits: tuple[int, ...]
    duration_us: float = 0.0
    fidelity: float = 0.0


class DeviceOperation(msgspec.Struct, frozen=True):
    """A kind of operation: `num_qubits` 0 means any number, `fidelity` 0 that it is unknown; `at` where it is told."""

    name: str
    num_qubits: int
    num_parameters: int = 0
    duration_us: float = 0.0
    fidelity: float = 0.0
    at: tuple[DeviceOperationAt, ...] = ()


class DeviceView(msgspec.Struct, frozen=True, tag_field="type", tag="device-view/1"):
    """A QPU now. `coupling` lists pairs, none means all; `calibrated_at_s` is wall time in seconds (0: unknown)."""

    name: str
    num_qubits: int
    status: str
    formats: tuple[str, ...] = ()
    queue_length: int = 0
    max_shots: int = 0
    calibrated_at_s: float = 0.0
    coupling: tuple[tuple[int, int], ...] = ()
    operations: tuple[DeviceOperation, ...] = ()
    sites: tuple[DeviceSite, ...] = ()
