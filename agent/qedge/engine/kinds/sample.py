"""Counting outcomes: of one program, of a sweep, of some of the bits, and shot by shot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qedge.base.errors import QedgeError
from qedge.engine.kinds.model import Bench, Forecast, Outcome, point_seeds, points_of
from qedge.engine.qasm.model import Program
from qedge.wire.jobs import Register
from qedge.wire.tasks import SampleResult, SampleTask
from qedge_driver_api import PropertyValue
from qedge_driver_api.counts import key_bytes


@dataclass(frozen=True, slots=True)
class SampleKind:
    """See `SampleTask`."""

    def forecast(self, bench: Bench, task: SampleTask) -> Forecast:
        """See `Kind.forecast`."""
        points = points_of(task.sweep)
        program = bench.program(points[0])
        estimate = bench.estimate(bench.task(program))
        circuit = program.circuit
        clbits, registers = _kept(program, task.bits)
        strings = len(points) > 1
        entry = clbits + 16 if strings else key_bytes(clbits) + 8
        result_bytes = len(points) * shots_bound(clbits, bench.shots) * entry
        if task.memory:
            result_bytes += bench.shots * key_bytes(clbits)
        return Forecast(
            qubits=circuit.num_qubits,
            clbits=clbits,
            operations=len(circuit.ops),
            memory_bytes=int(estimate.memory_bytes) + 3 * result_bytes * strings,
            time_s=float(estimate.time_s) * len(points),
            result_bytes=result_bytes,
            method=str(estimate.method),
            registers=registers,
        )

    def perform(self, bench: Bench, task: SampleTask) -> Outcome:
        """See `Kind.perform`."""
        points = points_of(task.sweep)
        every: list[Mapping[int, int]] = []
        metadata: dict[str, PropertyValue] = {}
        clbits = 0
        registers: tuple[Register, ...] = ()
        for values, seed in zip(points, point_seeds(bench.seed, points), strict=True):
            bench.stop_if_unwanted()
            program = bench.program(values)
            result = bench.execute(bench.task(program, seed=seed))
            clbits, registers = _kept(program, task.bits)
            every.append(marginal(result.counts, task.bits))
            for name, value in result.metadata.items():
                known = metadata.get(name)
                # times of a sweep add up; everything else is that of the last point
                adds = name.endswith("_s") and isinstance(value, float) and isinstance(known, float)
                metadata[name] = known + value if adds else value  # type: ignore[operator] # both are floats
        data: SampleResult | None = None
        if task.sweep or task.memory:
            strings = tuple({format(key, f"0{clbits}b"): n for key, n in counts.items()} for counts in every)
            memory = shot_by_shot(every[0], key_bytes(clbits), bench.seed) if task.memory else b""
            data = SampleResult(points=strings if task.sweep else (), memory=memory)
        return Outcome(every[0], clbits, registers, data, metadata)


def _kept(program: Program, bits: Sequence[int]) -> tuple[int, tuple[Register, ...]]:
    clbits = program.circuit.num_clbits
    if not bits:
        return clbits, program.registers
    wrong = [bit for bit in bits if bit >= clbits]
    if wrong or len(set(bits)) != len(bits):
        raise QedgeError(
            "job.bad_bits",
            f"The program has the bits 0 to {clbits - 1}, and each can be kept once.",
            fix="Number the bits of all registers in the order of their declaration.",
        )
    return len(bits), (Register("bits", len(bits), 0),)


def marginal(counts: Mapping[int, int], bits: Sequence[int]) -> Mapping[int, int]:
    """Keep only these bits of the counted values; none means all."""
    if not bits:
        return counts
    kept: dict[int, int] = {}
    for value, times in counts.items():
        key = sum((value >> bit & 1) << place for place, bit in enumerate(bits))
        kept[key] = kept.get(key, 0) + times
    return kept


def shot_by_shot(counts: Mapping[int, int], width: int, seed: int) -> bytes:
    """Lay counts out as single shots of `width` bytes, in an order that the seed draws."""
    import numpy as np

    rows = [value.to_bytes(width, "little") for value, times in counts.items() for _ in range(times)]
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    return b"".join([rows[place] for place in order])


def shots_bound(num_clbits: int, shots: int) -> int:
    """Return how many different values `shots` shots can give at most."""
    return min(shots, 1 << min(num_clbits, 40))
