"""Values of Pauli sums: exact where the QPU can look at its state, estimated from shots where it cannot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError
from qedge.engine.kinds.model import Bench, Forecast, Outcome, point_seeds, points_of
from qedge.engine.kinds.pauli import Setting, measured_in, read_off, read_sums, settings_of
from qedge.wire.tasks import ExpectationResult, ExpectationTask
from qedge_driver_api import ProgramError, PropertyValue, QpuTask, StateQpu

_PER_TERM_S: Final = 2e-6
_PER_TERM_AMPLITUDE_S: Final = 8e-9
_VALUE_BYTES: Final = 24
_CHUNK_POINTS: Final = 64


@dataclass(frozen=True, slots=True)
class ExpectationKind:
    """See `ExpectationTask`."""

    def forecast(self, bench: Bench, task: ExpectationTask) -> Forecast:
        """See `Kind.forecast`."""
        points = points_of(task.sweep)
        circuit = bench.program(points[0], counted=False).circuit
        observables = read_sums(task.observables, circuit.num_qubits)
        exact = _is_exact(bench, task)
        shots = 1
        if exact:
            named = {qubit: "Z" for sums in observables for product, _ in sums for qubit, _ in product}
            settings = [Setting(named, ())]
        else:
            settings = settings_of(observables)[1] or [Setting({}, ())]
            shots = _shots_each(bench, settings)
        estimate = bench.estimate(QpuTask(measured_in(circuit, settings[0]), shots, 0, bench.options))
        terms = sum(len(each) for each in observables)
        amplitudes = 1 << min(circuit.num_qubits, 34) if exact and estimate.method != "mps" else 0
        time_s = len(points) * (len(settings) * estimate.time_s + terms * _PER_TERM_S)
        time_s += len(points) * terms * amplitudes * _PER_TERM_AMPLITUDE_S
        # the state, a turned copy of it, and the weights of the terms
        extra = 40 * amplitudes + (16 << 20) if amplitudes > 1 << 16 else 16 << 20
        return Forecast(
            qubits=circuit.num_qubits,
            clbits=0,
            operations=len(circuit.ops),
            memory_bytes=int(estimate.memory_bytes) + extra,
            time_s=time_s,
            result_bytes=len(points) * len(observables) * _VALUE_BYTES,
            method=str(estimate.method),
        )

    def perform(self, bench: Bench, task: ExpectationTask) -> Outcome:
        """See `Kind.perform`."""
        if _is_exact(bench, task):
            try:
                return self._exact(bench, task)
            except ProgramError as error:
                if error.code != "not_exact":
                    raise
        return self._sampled(bench, task)

    def _exact(self, bench: Bench, task: ExpectationTask) -> Outcome:
        qpu = bench.qpu
        if not isinstance(qpu, StateQpu):
            raise ProgramError("not_exact", "the QPU does not show its state")
        points = points_of(task.sweep)
        rows: list[tuple[float, ...]] = []
        observables = None
        for start in range(0, len(points), _CHUNK_POINTS):
            bench.stop_if_unwanted()
            circuits = [
                bench.program(values, counted=False).circuit for values in points[start : start + _CHUNK_POINTS]
            ]
            observables = observables or read_sums(task.observables, circuits[0].num_qubits)
            rows += [tuple(row) for row in qpu.expectations(circuits, observables, bench.options)]
        metadata: dict[str, PropertyValue] = {"method": str(bench.options.get("method") or "exact"), "exact": True}
        return Outcome(None, 0, (), ExpectationResult(tuple(rows)), metadata)

    def _sampled(self, bench: Bench, task: ExpectationTask) -> Outcome:
        points = points_of(task.sweep)
        rows: list[tuple[float, ...]] = []
        errors: list[tuple[float, ...]] = []
        metadata: dict[str, PropertyValue] = {}
        for point, seed in zip(points, point_seeds(bench.seed, points), strict=True):
            circuit = bench.program(point, counted=False).circuit
            observables = read_sums(task.observables, circuit.num_qubits)
            values, settings = settings_of(observables)
            variances = [0.0] * len(observables)
            shots = _shots_each(bench, settings)
            for number, setting in enumerate(settings):
                bench.stop_if_unwanted()
                own_seed = (seed + number * 0x85EBCA6B) % (1 << 32)
                result = bench.execute(QpuTask(measured_in(circuit, setting), shots, own_seed, bench.options))
                read_off(setting, result.counts, circuit.num_clbits, values, variances)
                metadata = dict(result.metadata)
            rows.append(tuple(values))
            errors.append(tuple(math.sqrt(variance) for variance in variances))
        metadata |= {"exact": False}
        return Outcome(None, 0, (), ExpectationResult(tuple(rows), tuple(errors)), metadata)


def _is_exact(bench: Bench, task: ExpectationTask) -> bool:
    return isinstance(bench.qpu, StateQpu) and not task.sampled


def _shots_each(bench: Bench, settings: list[Setting]) -> int:
    """Share the shots of the job among the settings."""
    if len(settings) > bench.shots:
        raise QedgeError(
            "job.bad_shots",
            f"The observables need {len(settings)} ways of measuring, with at least one shot each.",
            fix=f"Ask for {100 * len(settings)} shots or more.",
        )
    return bench.shots // max(1, len(settings))
