"""Reconciliation: syndromes are linear, decoders find the error on every path alike, and say so where they do not."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.qkd.reconciliation import check_node, reconciler, reference
from qedge.qkd.reconciliation.codes import CODES, choose_code
from qedge.qkd.reconciliation.model import FRAME_BYTES, Code, Packed
from qedge.qkd.reconciliation.reconciler import NARROW, WIDE, Effort, Reconciler
from qedge.qkd.simd import cpu

BOUNDS = {NARROW: (-128, 127), WIDE: (-32768, 32767)}
SMALL = Code("small", 8, 32, 128, 1, ((2, 5), (3, 19), (6, 8)), 0.03, 1)
"""A code of 4096 bits, for the slow reference."""


def code_for(qber: float) -> Code:
    code = choose_code(qber)
    assert code is not None
    return code


def frame(code: Code, chance: np.random.Generator, rate: float) -> Packed:
    return np.packbits(chance.random(code.frame_bits) < rate, bitorder="little")


def bits(packed: Packed) -> Packed:
    return np.unpackbits(packed, bitorder="little")


@pytest.fixture(scope="module")
def both() -> Reconciler:
    return Reconciler()


@pytest.mark.parametrize("qber", [0.01, 0.05])
def test_bob_finds_the_errors_of_fresh_frames_with_the_steps_he_asks_for(both: Reconciler, qber: float) -> None:
    code, chance = code_for(qber), np.random.default_rng(round(qber * 1e4))
    for _ in range(5):
        alice, error = frame(code, chance, 0.5), frame(code, chance, qber)
        bob, extra = alice ^ error, list[Packed]()
        difference = both.syndrome(code, alice) ^ both.syndrome(code, bob)
        while (found := both.decode(code, difference, qber, extra).error) is None and len(extra) < code.steps:
            step = len(extra) + 1
            extra.append(both.extra_syndrome(code, alice, step) ^ both.extra_syndrome(code, bob, step))
        assert found is not None
        assert np.array_equal(bob ^ found, alice)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from([SMALL, CODES[0], code_for(0.02), CODES[-1]]), st.integers(1, 8))
def test_syndromes_and_steps_are_linear(seed: int, code: Code, step: int) -> None:
    chance, made = np.random.default_rng(seed), Reconciler()
    one, other = frame(code, chance, 0.5), frame(code, chance, 0.1)
    assert np.array_equal(made.syndrome(code, one) ^ made.syndrome(code, other), made.syndrome(code, one ^ other))
    step = min(step, code.steps)
    turned = [made.extra_syndrome(code, each, step) for each in (one, other, one ^ other)]
    assert np.array_equal(turned[0] ^ turned[1], turned[2])


@pytest.mark.parametrize("code", [CODES[0], code_for(0.03), CODES[-1]], ids=lambda code: code.name)
def test_no_difference_means_no_error(both: Reconciler, code: Code) -> None:
    nothing = np.zeros(code.syndrome_bits // 8, np.uint8)
    extra = [np.zeros(code.step_bits // 8, np.uint8)] * 2
    for steps in ([], extra):
        found = both.decode(code, nothing, code.design_qber, steps)
        assert found.error is not None
        assert not found.error.any()
        assert (found.iterations, found.wide) == (1, False)


@pytest.mark.parametrize("effort", BOUNDS, ids=["narrow", "wide"])
@pytest.mark.parametrize(("rate", "steps"), [(0.02, 0), (0.04, 0), (0.04, 2), (0.06, 1)])
def test_kernels_do_what_the_reference_does(effort: Effort, rate: float, steps: int) -> None:
    chance, made = np.random.default_rng([round(rate * 1000), steps]), Reconciler()
    error = frame(SMALL, chance, rate)
    extra = [made.extra_syndrome(SMALL, error, step + 1) for step in range(steps)]
    sweeps, found = made.run(SMALL, made.syndrome(SMALL, error), extra, rate, effort)
    starts = SMALL.split(steps).starts
    scale = check_node.scale(rate, effort.units, effort.most)
    wanted = reference.parities(bits(error), SMALL.lifting, starts, SMALL.circulants)
    slow, same = reference.decode(wanted, SMALL, starts, scale, effort, BOUNDS[effort])
    assert sweeps == slow
    assert sweeps < 0 or np.array_equal(bits(found), same)


def test_a_syndrome_is_the_parities_of_the_rows() -> None:
    made, chance = Reconciler(), np.random.default_rng(4)
    alice, code = frame(SMALL, chance, 0.5), SMALL
    wanted = reference.parities(bits(alice), code.lifting, code.circulants.starts, code.circulants)
    assert np.array_equal(bits(made.syndrome(code, alice)), wanted)


@pytest.mark.parametrize("code", [SMALL, code_for(0.01), CODES[-1]], ids=lambda code: code.name)
def test_each_step_tells_something_that_no_row_before_it_told(code: Code) -> None:
    """Steps split other rows, so that the parities sent are those of disjoint parts of rows."""
    halves = [code.halves(step) for step in range(1, code.steps + 1)]
    begins = np.concatenate([half.begins for half in halves])
    ends = np.concatenate([half.ends for half in halves])
    assert len(set(begins.tolist())) == len(begins) == code.steps * code.step_rows
    assert np.all(ends > begins)
    assert len(code.split(code.steps).starts) == code.base_rows + len(begins) + 1


def test_a_frame_with_far_too_many_errors_is_none_and_no_exception(both: Reconciler) -> None:
    code = code_for(0.02)
    error = frame(code, np.random.default_rng(3), 0.2)
    extra = [both.extra_syndrome(code, error, step) for step in range(1, code.steps + 1)]
    assert both.decode(code, both.syndrome(code, error), 0.02, extra).error is None
    noise = np.random.default_rng(5).integers(0, 256, code.syndrome_bits // 8, np.uint8)
    assert both.decode(code, noise, 0.5).error is None
    assert both.decode(code, noise, 0.0).error is None


def test_what_does_not_fit_is_refused(both: Reconciler) -> None:
    code = code_for(0.02)
    good = np.zeros(code.syndrome_bits // 8, np.uint8)
    step = np.zeros(code.step_bits // 8, np.uint8)
    for bad in (good[:-1], np.zeros(len(good) + 1, np.uint8), good.astype(np.int64), good.reshape(2, -1), good[:0]):
        with pytest.raises(ValueError, match="expected"):
            both.decode(code, bad, 0.02)
    with pytest.raises(ValueError, match="expected"):
        both.decode(code, good, 0.02, [step[:-1]])
    with pytest.raises(ValueError, match="steps"):
        both.decode(code, good, 0.02, [step] * (code.steps + 1))
    for rate in (-0.1, 0.6, math.nan):
        with pytest.raises(ValueError, match="error rate"):
            both.decode(code, good, rate)
    with pytest.raises(ValueError, match="expected"):
        both.syndrome(code, np.zeros(FRAME_BYTES - 1, np.uint8))
    for number in (0, -1, code.steps + 1):
        with pytest.raises(ValueError, match="no step"):
            both.extra_syndrome(code, np.zeros(FRAME_BYTES, np.uint8), number)


def test_frames_may_lie_anywhere_in_memory_and_stay_as_they_are(both: Reconciler) -> None:
    code = code_for(0.02)
    large = np.random.default_rng(8).integers(0, 256, FRAME_BYTES + 3, np.uint8)
    odd, apart = large[3:], np.repeat(large, 2)[6::2]
    odd.flags.writeable = False
    assert np.array_equal(both.syndrome(code, odd), both.syndrome(code, np.ascontiguousarray(apart)))
    assert np.array_equal(both.syndrome(code, odd), both.syndrome(code, apart))


def test_codes_cover_half_a_percent_to_eleven_percent_in_fine_steps() -> None:
    rates = [code.design_qber for code in CODES]
    leaks = [code.syndrome_bits for code in CODES]
    assert rates == sorted(set(rates))
    assert leaks == sorted(leaks)
    assert rates[0] <= 0.005
    assert rates[-1] >= 0.11
    assert all(later / sooner < 1.09 for sooner, later in itertools.pairwise(leaks))
    for qber in np.geomspace(0.005, 0.11, 50):
        entropy = -(qber * math.log2(qber) + (1 - qber) * math.log2(1 - qber))
        assert code_for(float(qber)).syndrome_bits / (code_for(float(qber)).frame_bits * entropy) < 1.25
    assert choose_code(0.2) is None


@pytest.mark.parametrize("code", [SMALL, CODES[0], code_for(0.02)], ids=lambda code: code.name)
def test_a_row_joins_a_column_once_and_rows_are_about_as_heavy(code: Code) -> None:
    made = code.circulants
    weights = np.diff(made.starts)
    assert weights.max() - weights.min() <= 3
    for row in range(code.base_rows):
        columns = made.columns[made.starts[row] : made.starts[row + 1]]
        assert len(set(columns.tolist())) == len(columns)
    degrees = np.bincount(made.columns, minlength=code.base_columns)
    assert sorted(degrees) == sorted(degree for degree, number in code.degrees for _ in range(number))


def test_codes_are_the_same_for_ever() -> None:
    """Both ends of a link build them: a change here is one of the protocol."""
    digest = hashlib.sha256()
    for qber in (0.005, 0.01, 0.02, 0.05, 0.11):
        made = code_for(qber).circulants
        for array in (made.starts, made.columns, made.shifts, code_for(qber).split(3).starts):
            digest.update(array.astype("<i4").tobytes())
    assert digest.hexdigest()[:16] == "a1b825d9f7abb1af"


@given(st.floats(0.002, 0.2), st.floats(2, 8), st.integers(8, 64))
def test_the_last_entry_of_a_correction_is_zero_and_none_rises(qber: float, units: float, most: int) -> None:
    for table in check_node.scale(qber, units, most).correction:
        assert table[-1] == 0
        assert table.min() >= 0
        assert np.all(np.diff(table) <= 0)


CHILD = """
import hashlib, json, pathlib, sys
from qedge.qkd.simd import cpu
cpu.prepare_numba(pathlib.Path(sys.argv[1]))
import numpy as np
from qedge.qkd.reconciliation.codes import choose_code
from qedge.qkd.reconciliation.reconciler import NARROW, WIDE, Reconciler
made, chance, seen = Reconciler(), np.random.default_rng(6), []
for qber, rate, steps in json.loads(sys.argv[2]):
    code = choose_code(qber)
    error = np.packbits(chance.random(code.frame_bits) < rate, bitorder="little")
    extra = [made.extra_syndrome(code, error, step + 1) for step in range(steps)]
    syndrome = made.syndrome(code, error)
    for effort in (NARROW, WIDE):
        sweeps, found = made.run(code, syndrome, extra, qber, effort)
        digest = hashlib.sha256(b"".join([syndrome.tobytes(), *(each.tobytes() for each in extra), found.tobytes()]))
        seen.append([sweeps, digest.hexdigest()])
print(json.dumps([cpu.selected_path(), seen]))
"""
SHARED = [(0.01, 0.0095, 0), (0.03, 0.0305, 1), (0.05, 0.07, 0)]
"""Rate of the code, rate of errors, steps."""
HASWELL = (
    "+64bit,+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+pclmul,+popcnt"
    ",+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave"
)
PATHS = {
    "avx512": {"QEDGE_SIMD": "avx512"},
    "avx2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": HASWELL},
    "none": {"QEDGE_SIMD": "none"},
}


def in_child(path: str | None, cache: Path) -> list[list[object]]:
    """Decode in a process on a path, or on the best; skip where this CPU cannot."""
    best = cpu.choose(cpu.compiled_features(cpu.host_features(), {})).path
    if path is not None and cpu.PATHS.index(path) > cpu.PATHS.index(best):
        pytest.skip(f"this CPU can do {best} only")
    plain = {each: value for each, value in os.environ.items() if not each.startswith(("NUMBA_", "QEDGE_SIMD"))}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(cache), json.dumps(SHARED)],
        env=plain | PATHS.get(path or "", {}) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    found, seen = json.loads(done.stdout)
    assert found == (path or best)
    return list(seen)


@pytest.fixture(scope="module")
def kept() -> Path:
    return Path(os.environ["NUMBA_CACHE_DIR"]).parent


@pytest.fixture(scope="module")
def on_the_best_path(kept: Path) -> list[list[object]]:
    return in_child(None, kept)


@pytest.mark.long
@pytest.mark.parametrize("path", ["avx512", "avx2", "none"])
def test_every_path_gives_the_same_bits(path: str, kept: Path, on_the_best_path: list[list[object]]) -> None:
    assert in_child(path, kept) == on_the_best_path


@pytest.mark.long
@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_code_works_at_its_rate_and_below(both: Reconciler, code: Code) -> None:
    chance = np.random.default_rng(code.seed)
    for rate in (code.design_qber, code.design_qber * 0.9):
        steps = 0
        for _ in range(20):
            error, extra = frame(code, chance, rate), list[Packed]()
            difference = both.syndrome(code, error)
            while (found := both.decode(code, difference, rate, extra).error) is None and len(extra) < code.steps:
                extra.append(both.extra_syndrome(code, error, len(extra) + 1))
            assert found is not None
            assert np.array_equal(found, error)
            steps += len(extra)
        assert steps < (30 if rate == code.design_qber else 8)


def test_warming_up_loads_both_decoders() -> None:
    reconciler.warm()
