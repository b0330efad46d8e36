"""Logical error rates of memory experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError
from qedge.engine.kinds.model import Bench, Forecast, Outcome
from qedge.engine.qec.experiment import Logical, run_block, run_stream
from qedge.engine.qec.model import Memory, matching_library, stim_library
from qedge.engine.qec.rates import per_round
from qedge.wire.tasks import QecResult, QecTask
from qedge_driver_api import PropertyValue

_MAX_BLOCK_DETECTORS: Final = 500_000
_BUILD_S: Final = 1.2e-4
_BUILD_BYTES: Final = 4_000
_RESULT_BYTES: Final = 512
_METADATA: Final[Mapping[str, PropertyValue]] = {
    "driver": "engine",
    "method": "stabilizer",
    "backend": "stim",
    "simulated": True,
}


@dataclass(frozen=True, slots=True)
class QecKind:
    """See `QecTask`."""

    def forecast(self, bench: Bench, task: QecTask) -> Forecast:
        """See `Kind.forecast`."""
        memory = _memory(bench, task)
        window, _ = _window(task)
        per_round_detectors = memory.num_detectors / memory.rounds
        built = min(memory.num_detectors, per_round_detectors * (2 * window + 4)) if window else memory.num_detectors
        if built > _MAX_BLOCK_DETECTORS:
            raise QedgeError(
                "circuit.too_large",
                f"The experiment has {memory.num_detectors} detectors; {_MAX_BLOCK_DETECTORS} are decoded at once.",
                fix="Ask for fewer rounds, or set a window to decode them as a stream.",
            )
        fired = memory.num_detectors * min(1.0, 20 * memory.error_rate)
        windows = memory.rounds / (task.commit or task.distance) if window else 0.0
        per_shot_s = (
            3e-6 + fired * 1.2e-6 + memory.num_detectors * 1e-8 + windows * 12e-6 + (window > 0) * memory.rounds * 3e-6
        )
        return Forecast(
            qubits=memory.num_qubits,
            clbits=0,
            operations=memory.rounds * memory.num_qubits * 6,
            memory_bytes=int(built * _BUILD_BYTES) + memory.num_detectors * 2 + (128 << 20),
            time_s=0.05 + built * _BUILD_S + bench.shots * per_shot_s,
            result_bytes=_RESULT_BYTES,
            method="stabilizer",
        )

    def perform(self, bench: Bench, task: QecTask) -> Outcome:
        """See `Kind.perform`."""
        memory = _memory(bench, task)
        window, commit = _window(task)
        if window:
            logical = run_stream(memory, window, commit, bench.shots, bench.seed, bench.cancelled)
            decoder = f"matching, windows of {window} rounds, {commit} committed"
        else:
            logical = run_block(memory, bench.shots, bench.seed, bench.cancelled)
            decoder = "matching, whole blocks"
        return Outcome(None, 0, (), _result(memory, logical, decoder), _METADATA)


def _memory(bench: Bench, task: QecTask) -> Memory:
    if bench.template is not None:
        raise QedgeError("job.bad_request", "An error correction task takes no program.", fix="Leave the program out.")
    if task.code == "surface" and task.distance % 2 == 0:
        raise QedgeError(
            "job.bad_request", "The distance of a rotated surface code is odd here.", fix="Use 3, 5, 7, …."
        )
    stim_library()
    matching_library()
    return Memory(task.code, task.distance, task.rounds, task.basis, task.error_rate)


def _window(task: QecTask) -> tuple[int, int]:
    """Return `(window, commit)`; without a commit a distance of rounds, or the window where that is shorter."""
    commit = task.commit or min(task.distance, task.window)
    if task.commit > task.window:
        raise QedgeError("job.bad_request", "A window cannot commit more rounds than it has.", fix="Try 2d and d.")
    return task.window, commit


def _result(memory: Memory, logical: Logical, decoder: str) -> QecResult:
    low, high = logical.interval()
    rate = logical.errors / logical.shots
    return QecResult(
        shots=logical.shots,
        logical_errors=logical.errors,
        error_rate=rate,
        low=low,
        high=high,
        error_rate_per_round=per_round(rate, memory.rounds),
        detectors=memory.num_detectors,
        qubits=memory.num_qubits,
        decode_p50_us=logical.time_us(0.5),
        decode_p99_us=logical.time_us(0.99),
        decoder=decoder,
    )
