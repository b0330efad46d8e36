"""What is decoded: a memory experiment, and the errors that its circuit can suffer."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qedge.base.errors import QedgeError

Integers = npt.NDArray[np.int64]
BOUNDARY: Final = -1
MAX_DETECTORS: Final = 2_000_000
MAX_OBSERVABLES: Final = 64


@dataclass(frozen=True, slots=True)
class Memory:
    """A logical qubit that is kept for `rounds` rounds: `code` surface (rotated) or repetition, `basis` x or z."""

    code: str
    distance: int
    rounds: int
    basis: str
    error_rate: float

    @property
    def num_qubits(self) -> int:
        """Data and ancilla qubits."""
        d = self.distance
        return 2 * d * d - 1 if self.code == "surface" else 2 * d - 1

    @property
    def num_detectors(self) -> int:
        """Detectors of the whole experiment."""
        d = self.distance
        return (d * d - 1) * self.rounds if self.code == "surface" else (d - 1) * (self.rounds + 1)

    def circuit(self) -> Any:  # a stim circuit
        """Return the circuit with noise on gates, idling, resets and measurements; raises `circuit.unsupported`."""
        stim = stim_library()
        task = "repetition_code:memory" if self.code == "repetition" else f"surface_code:rotated_memory_{self.basis}"
        return stim.Circuit.generated(
            task,
            distance=self.distance,
            rounds=self.rounds,
            after_clifford_depolarization=self.error_rate,
            before_round_data_depolarization=self.error_rate,
            before_measure_flip_probability=self.error_rate,
            after_reset_flip_probability=self.error_rate,
        )


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """Independent errors, each seen by one or two detectors, in the order of when they are first seen.

    `detectors[e]` are the two detectors of error e (`BOUNDARY` for the one that is not there), `observables[e]` the
    observables it flips as a bit mask, `probability[e]` its chance, `first[e]` and `last[e]` the rounds of its earliest
    and latest detector. `round_of[d]` is the round of detector d, ascending.
    """

    detectors: Integers
    observables: npt.NDArray[np.uint64]
    probability: npt.NDArray[np.float64]
    first: Integers
    last: Integers
    round_of: Integers
    num_observables: int

    @property
    def num_rounds(self) -> int:
        """Rounds, each with the detectors that are known when it ends."""
        return int(self.round_of[-1]) + 1 if len(self.round_of) else 0

    def bounds(self) -> Integers:
        """Return where the detectors of each round begin, and after the last one how many there are."""
        return np.searchsorted(self.round_of, np.arange(self.num_rounds + 1))


def stim_library() -> Any:  # an untyped module
    """Import stim; raises `circuit.unsupported` where it is not installed."""
    try:
        import stim
    except ImportError as error:
        raise _missing("stim") from error
    return stim


def matching_library() -> Any:  # an untyped module
    """Import pymatching; raises `circuit.unsupported` where it is not installed."""
    try:
        import pymatching
    except ImportError as error:
        raise _missing("pymatching") from error
    return pymatching


def _missing(name: str) -> QedgeError:
    return QedgeError(
        "circuit.unsupported", f"{name} is not installed on this node, so it does not decode.", fix=f"Install {name}."
    )


def read_error_model(dem: Any) -> ErrorModel:  # a stim detector error model, decomposed into edges
    """Read a detector error model whose detectors have their round as last coordinate.

    Components of an error are taken as errors of their own (the matching approximation); equal ones are merged. Raises
    `job.bad_request` for what matching cannot decode.
    """
    if dem.num_detectors > MAX_DETECTORS or dem.num_observables > MAX_OBSERVABLES:
        raise QedgeError(
            "circuit.too_large",
            f"The error model has {dem.num_detectors} detectors and {dem.num_observables} observables.",
            fix=f"At most {MAX_DETECTORS} and {MAX_OBSERVABLES} are decoded.",
        )
    merged: dict[tuple[int, int, int], float] = {}
    for instruction in dem.flattened():
        if instruction.type != "error":
            continue
        chance = instruction.args_copy()[0]
        for key in _components(instruction.targets_copy()):
            known = merged.get(key, 0.0)
            merged[key] = known * (1 - chance) + chance * (1 - known)
    return _model(dem, merged)


def _components(targets: list[Any]) -> list[tuple[int, int, int]]:  # stim targets
    found: list[tuple[int, int, int]] = []
    detectors: list[int] = []
    observables = 0
    for target in [*targets, None]:
        if target is None or target.is_separator():
            if len(detectors) > 2:
                raise QedgeError(
                    "job.bad_request",
                    f"An error is seen by {len(detectors)} detectors, and matching decodes at most two.",
                    fix="Decompose the error model.",
                )
            if detectors:
                low, high = (min(detectors), max(detectors)) if len(detectors) == 2 else (detectors[0], BOUNDARY)
                found.append((low, high, observables))
            detectors, observables = [], 0
        elif target.is_relative_detector_id():
            detectors.append(target.val)
        else:
            observables ^= 1 << target.val
    return found


def _model(dem: Any, merged: dict[tuple[int, int, int], float]) -> ErrorModel:  # a stim detector error model
    coordinates = dem.get_detector_coordinates()
    if len(coordinates) != dem.num_detectors or not all(coordinates.values()):
        raise QedgeError("job.bad_request", "A detector has no coordinates, so its round is not known.")
    rounds = np.array([int(coordinates[index][-1]) for index in range(dem.num_detectors)], dtype=np.int64)
    if len(rounds) and (int(rounds.min()) < 0 or (np.diff(rounds) < 0).any()):
        raise QedgeError("job.bad_request", "The detectors are not numbered in the order of their rounds.")
    keys = np.array(list(merged), dtype=object).reshape(-1, 3)
    detectors = keys[:, :2].astype(np.int64)
    other = np.where(detectors[:, 1] == BOUNDARY, detectors[:, 0], detectors[:, 1])
    first, last = rounds[detectors[:, 0]], rounds[other]
    order = np.argsort(first, kind="stable")
    return ErrorModel(
        detectors[order],
        keys[:, 2].astype(np.uint64)[order],
        np.array(list(merged.values()), dtype=np.float64)[order],
        np.minimum(first, last)[order],
        np.maximum(first, last)[order],
        rounds,
        int(dem.num_observables),
    )


@functools.lru_cache(maxsize=8)
def block_decoder(memory: Memory) -> Any:  # a pymatching.Matching
    """Return the matcher of a whole experiment; the last few are kept."""
    dem = memory.circuit().detector_error_model(decompose_errors=True)
    return matching_library().Matching.from_detector_error_model(dem)


@functools.lru_cache(maxsize=16)
def memory_errors(memory: Memory) -> ErrorModel:
    """Return the error model of an experiment; the last few are kept."""
    return read_error_model(memory.circuit().detector_error_model(decompose_errors=True))
