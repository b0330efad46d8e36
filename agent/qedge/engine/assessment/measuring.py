"""The worker's part of an assessment: one short step per call, so that jobs need not wait long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from qedge.base.errors import QedgeError
from qedge.engine.assessment.circuits import Known, cycle_circuit, volume_circuit
from qedge.workers.model import Msg
from qedge_driver_api import FlatCircuit, Gate, ProgramError, PropertyValue, QpuEstimate, QpuResult, QpuTask

if TYPE_CHECKING:
    from qedge_driver_api.circuit import Op

_DISTANCE: Final = 5
_RATE: Final = 0.003
_STEP_S: Final = 0.05
"""No circuit is begun after this time, so that jobs pass between the steps."""
_MOST_QUBITS: Final = 40
_FULL_STATE: Final[Mapping[str, PropertyValue]] = {"method": "state_vector"}


@dataclass(frozen=True, slots=True)
class Stand:
    """A QPU on the test stand."""

    execute: Callable[[QpuTask], QpuResult]
    estimate: Callable[[QpuTask], QpuEstimate]
    num_qubits: int
    simulated: bool


def measure(stand: Stand, step: str, args: Mapping[str, object]) -> dict[str, Msg]:
    """Do one step; numbers in `args` are checked by the caller.

    `state {memory_bytes, time_s}` → `qubits`; `volume {width, circuits, shots, seed}` → `heavy`, a share per circuit;
    `layers {width, templates, updates, shots, seed}` → `layers`, `took_s`; `cycles {depth, circuits, shots, seed}` →
    `seen`, `ideal`, a number per circuit; `decode {windows, seed}` → `times_us`. A slow device does fewer circuits, at
    least one.
    """
    if step == "state":
        return {"qubits": _widest(stand, _number(args, "memory_bytes"), _number(args, "time_s"))}
    rng = np.random.default_rng(_whole(args, "seed"))
    if step == "decode":
        return {"times_us": list[Msg](_decode_times_us(_whole(args, "windows"), _whole(args, "seed")))}
    if step == "layers":
        return _layers(stand, args, rng)
    shots, circuits = _whole(args, "shots"), _while_short(_whole(args, "circuits"))
    if step == "volume":
        heavy: list[Msg] = []
        for _ in circuits:
            known = volume_circuit(_whole(args, "width"), rng)
            heavy.append(known.heavy_share(_counts(stand, known, shots, rng)))
        return {"heavy": heavy}
    if step == "cycles":
        seen, ideal = list[Msg](), list[Msg]()
        for _ in circuits:
            known = cycle_circuit(_whole(args, "depth"), rng)
            pair = known.cross_entropy(_counts(stand, known, shots, rng))
            seen.append(pair[0])
            ideal.append(pair[1])
        return {"seen": seen, "ideal": ideal}
    raise QedgeError("worker.bad_answer", f"An assessment has no step {step!r}.")


def _while_short(most: int) -> Iterator[int]:
    """Count to `most` as long as the time of a step lasts, at least once."""
    end_s = time.perf_counter() + _STEP_S
    for number in range(most):
        if number and time.perf_counter() > end_s:
            return
        yield number


def _counts(stand: Stand, known: Known, shots: int, rng: np.random.Generator) -> dict[int, int]:
    return dict(stand.execute(QpuTask(known.circuit, shots, int(rng.integers(1 << 32)))).counts)


def _widest(stand: Stand, memory_bytes: float, time_s: float) -> int:
    """Return the width of the widest circuit with a full state that fits; of a device its qubits."""
    if not stand.simulated:
        return stand.num_qubits
    widest = 0
    # a noisy device has ways of its own and may refuse this one
    options = _FULL_STATE if _estimate(stand, 1, _FULL_STATE) is not None else {}
    for width in range(1, min(stand.num_qubits, _MOST_QUBITS) + 1):
        found = _estimate(stand, width, options)
        if found is None or found.memory_bytes > memory_bytes or found.time_s > time_s:
            break
        widest = width
    return widest


def _estimate(stand: Stand, width: int, options: Mapping[str, PropertyValue]) -> QpuEstimate | None:
    """Return what two layers of gates on `width` qubits cost; None where they are refused."""
    ops: list[Op] = []
    for layer in range(2):
        ops += [(int(Gate.RY), (qubit,), (0.3 + layer,), 0) for qubit in range(width)]
        ops += [(int(Gate.CZ), (qubit, qubit + 1), (), 0) for qubit in range(width - 1)]
    ops += [(int(Gate.MEASURE), (qubit,), (), qubit) for qubit in range(width)]
    try:
        return stand.estimate(QpuTask(FlatCircuit(width, width, tuple(ops)), 100, 1, options))
    except (ProgramError, QedgeError):
        return None


def _layers(stand: Stand, args: Mapping[str, object], rng: np.random.Generator) -> dict[str, Msg]:
    """Time templates with ever new angles: each update makes the circuit anew, runs it and takes its counts."""
    width, updates, shots = _whole(args, "width"), _whole(args, "updates"), _whole(args, "shots")
    took_s, runs = 0.0, 0
    for _ in range(_whole(args, "templates")):
        template = volume_circuit(width, rng).circuit
        shape = object()
        for _ in _while_short(updates):
            angles = iter((rng.random(sum(len(op[2]) for op in template.ops)) * 6.28).tolist())
            started = time.perf_counter()
            ops = tuple(
                (gate, qubits, tuple(next(angles) for _ in params), arg) for gate, qubits, params, arg in template.ops
            )
            circuit = FlatCircuit(width, width, ops, shape=shape)
            stand.execute(QpuTask(circuit, shots, int(rng.integers(1 << 32))))
            took_s += time.perf_counter() - started
            runs += 1
    return {"layers": runs * shots * width, "took_s": took_s}


def _decode_times_us(windows: int, seed: int) -> list[float]:
    """Return the microseconds that single windows of a stream take."""
    from qedge.engine.qec.model import Memory
    from qedge.engine.qec.window import Stream, memory_pieces

    memory = Memory("surface", _DISTANCE, _DISTANCE * (windows + 2), "z", _RATE)
    pieces = memory_pieces(memory, 2 * _DISTANCE, _DISTANCE)
    row = memory.circuit().compile_detector_sampler(seed=seed).sample(1).view(np.uint8)[0]
    first, each = pieces.sizes(0, 1), pieces.sizes(1, 2)
    stream, times = Stream(pieces), list[float]()
    stream.push(row[:first])
    for number in range(memory.rounds - 1):
        detectors = row[first + number * each : first + (number + 1) * each]
        began = time.perf_counter_ns()
        if stream.push(detectors):
            times.append((time.perf_counter_ns() - began) / 1e3)
    return times[1:]  # the first one of its kind makes its matcher


def _whole(args: Mapping[str, object], name: str) -> int:
    value = args.get(name)
    if type(value) is not int or value < 0:
        raise QedgeError("worker.bad_answer", f"An assessment needs a whole number as {name}.")
    return value


def _number(args: Mapping[str, object], name: str) -> float:
    value = args.get(name)
    if not isinstance(value, (int, float)):
        raise QedgeError("worker.bad_answer", f"An assessment needs a number as {name}.")
    return float(value)
