"""What a job does with its program, and what comes out: kinds of tasks and their results.

A Pauli sum is a mapping from products such as `Z0 Z1` (`X`, `Y` or `Z` and a qubit number each; the empty product is
`I`) to real coefficients. Qubit numbers count the qubits of the program in the order of their declaration. Angles of
QAOA follow exp(−iγC) and exp(−iβΣX).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

MAX_POINTS = 10_000
_Text = Annotated[str, msgspec.Meta(max_length=4096)]
_Bits = Annotated[str, msgspec.Meta(pattern=r"^[01]{0,64}\Z")]
PauliSum = Annotated[dict[_Text, float], msgspec.Meta(min_length=1, max_length=100_000)]
Sweep = Annotated[
    dict[
        Annotated[str, msgspec.Meta(max_length=64)],
        Annotated[tuple[float, ...], msgspec.Meta(min_length=1, max_length=MAX_POINTS)],
    ],
    msgspec.Meta(max_length=10_000),
]
"""Values of inputs of the program, equally many each: point i takes the i-th of all."""


class SampleTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sample"):
    """Run the program and count outcomes.

    `bits` keeps only these classical bits, which become bits 0, 1, … of the counts; `memory` also returns the shots one
    by one; `sweep` runs the program once per point.
    """

    bits: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(max_length=10_000)] = ()
    memory: bool = False
    sweep: Sweep = {}


class ExpectationTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="expectation"):
    """Give the values of Pauli sums in the state that the program prepares.

    Simulators compute them; other QPUs, and any with `sampled`, estimate them from the shots of the job.
    """

    observables: Annotated[tuple[PauliSum, ...], msgspec.Meta(min_length=1, max_length=1000)]
    sweep: Sweep = {}
    sampled: bool = False


class AmplitudeTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="amplitudes"):
    """Give amplitudes of the state that the program prepares, up to one global phase.

    `states` are bit strings, qubit 0 rightmost; none means all of them.
    """

    states: Annotated[tuple[_Bits, ...], msgspec.Meta(max_length=1 << 16)] = ()


class KernelTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="kernel"):
    """Give the quantum kernel |⟨ψ(x)|ψ(y)⟩|² of rows of input values, named by `inputs`.

    Entry (i, j) compares row i of `rows` with row j of `columns`, or of `rows` where there are none.
    """

    inputs: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], msgspec.Meta(min_length=1, max_length=1000)
    ]
    rows: Annotated[tuple[tuple[float, ...], ...], msgspec.Meta(min_length=1, max_length=MAX_POINTS)]
    columns: Annotated[tuple[tuple[float, ...], ...], msgspec.Meta(max_length=MAX_POINTS)] = ()


class QaoaTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="qaoa"):
    """Minimise C(z) = offset + Σ couplings·z_i·z_j + Σ fields·z_i over z = ±1 by QAOA; needs no program.

    `gammas` and `betas` are angles, one per layer; without them `layers` layers are optimised, with at most
    `evaluations` evaluations of the energy. Bit 1 of an answer is z = −1.
    """

    spins: Annotated[int, msgspec.Meta(ge=1, le=64)]
    couplings: Annotated[tuple[tuple[int, int, float], ...], msgspec.Meta(max_length=10_000)] = ()
    fields: Annotated[tuple[float, ...], msgspec.Meta(max_length=64)] = ()
    offset: float = 0.0
    layers: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    gammas: Annotated[tuple[float, ...], msgspec.Meta(max_length=100)] = ()
    betas: Annotated[tuple[float, ...], msgspec.Meta(max_length=100)] = ()
    evaluations: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 400


class QecTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="qec"):
    """Measure the logical error rate of a memory experiment; needs no program.

    `error_rate` is the strength of all four kinds of circuit noise: gates, idling, resets, measurements. With `window`
    the syndromes are decoded as a stream, by windows of so many rounds of which `commit` are decided at a time.
    """

    code: Literal["surface", "repetition"] = "surface"
    distance: Annotated[int, msgspec.Meta(ge=2, le=31)] = 3
    rounds: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 3
    basis: Literal["x", "z"] = "z"
    error_rate: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.001
    window: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    commit: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0


Task = SampleTask | ExpectationTask | AmplitudeTask | KernelTask | QaoaTask | QecTask


class SampleResult(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="sample"):
    """`points`: the counts of every point of a sweep; the counts of the result are those of the first.

    `memory`: the shots in order, each packed into ceil(bits/8) bytes, bit 0 least significant in the first byte.
    """

    points: tuple[dict[str, int], ...] = ()
    memory: bytes = b""


class ExpectationResult(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="expectation"):
    """`values[point][observable]`; `errors` are standard errors, where the values were estimated from shots."""

    values: tuple[tuple[float, ...], ...]
    errors: tuple[tuple[float, ...], ...] = ()


class AmplitudeResult(msgspec.Struct, frozen=True, tag_field="kind", tag="amplitudes"):
    """Real and imaginary parts in the order of the states that were asked for, or of all 2^qubits."""

    real: tuple[float, ...]
    imag: tuple[float, ...]


class KernelResult(msgspec.Struct, frozen=True, tag_field="kind", tag="kernel"):
    """`values[row][column]`, from 0 to 1."""

    values: tuple[tuple[float, ...], ...]


class QaoaResult(msgspec.Struct, frozen=True, tag_field="kind", tag="qaoa"):
    """What QAOA found: its mean energy, its best sample, and what a classical search finds on the same problem.

    `optimum` is the exact minimum where it was computed (`optimum_exact`), and else the best that the search found.
    """

    energy: float
    gammas: tuple[float, ...]
    betas: tuple[float, ...]
    best_bits: str
    best_cost: float
    optimum: float
    optimum_bits: str
    optimum_exact: bool
    optimum_probability: float
    baseline: str
    evaluations: int


class QecResult(msgspec.Struct, frozen=True, tag_field="kind", tag="qec"):
    """Logical errors in so many shots, with the 95 % interval of their rate (Wilson), and how long decoding took.

    The decoder's times are per shot for block decoding and per window for a stream, in microseconds.
    """

    shots: int
    logical_errors: int
    error_rate: float
    low: float
    high: float
    error_rate_per_round: float
    detectors: int
    qubits: int
    decode_p50_us: float
    decode_p99_us: float
    decoder: str


TaskResult = SampleResult | ExpectationResult | AmplitudeResult | KernelResult | QaoaResult | QecResult
