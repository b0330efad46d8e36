"""Error correction: error models, block decoding, streams of any length."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from qedge.base.errors import QedgeError
from qedge.engine.qec.experiment import Logical, run_block, run_stream
from qedge.engine.qec.model import BOUNDARY, Memory, block_decoder, memory_errors, read_error_model, stim_library
from qedge.engine.qec.rates import per_round
from qedge.engine.qec.window import Pieces, Stream, memory_pieces

stim = pytest.importorskip("stim")
pytest.importorskip("pymatching")


def never() -> bool:
    return False


def memory(distance: int = 3, rounds: int = 8, rate: float = 0.004, code: str = "surface", basis: str = "z") -> Memory:
    return Memory(code, distance, rounds, basis, rate)


@pytest.mark.parametrize("code", ["surface", "repetition"])
@pytest.mark.parametrize("distance", [3, 5])
def test_the_numbers_of_an_experiment_are_those_of_its_circuit(code: str, distance: int) -> None:
    each = memory(distance, 6, code=code)
    circuit = each.circuit()
    assert circuit.num_detectors == each.num_detectors
    used = {target.value for part in circuit.flattened() if part.name in ("R", "RX") for target in part.targets_copy()}
    assert len(used) == each.num_qubits
    model = memory_errors(each)
    assert model.num_rounds == 7
    assert model.num_observables == 1


def test_an_error_model_merges_equal_errors_and_splits_joint_ones() -> None:
    dem = stim.DetectorErrorModel(
        """
        detector(0, 0) D0
        detector(0, 1) D1
        error(0.1) D0 D1
        error(0.2) D1 D0
        error(0.05) D0 ^ D1 L0
        """
    )
    model = read_error_model(dem)
    found = {
        tuple(row): (p, o)
        for row, p, o in zip(model.detectors.tolist(), model.probability, model.observables, strict=True)
    }
    assert found[0, 1][0] == pytest.approx(0.1 * 0.8 + 0.2 * 0.9)
    assert found[0, BOUNDARY] == (pytest.approx(0.05), 0)
    assert found[1, BOUNDARY] == (pytest.approx(0.05), 1)
    assert model.first.tolist() == sorted(model.first.tolist())


@pytest.mark.parametrize(
    "text",
    [
        "error(0.1) D0 D1 D2\ndetector(0) D0\ndetector(0) D1\ndetector(0) D2",
        "error(0.1) D0",
        "detector(1) D0\ndetector(0) D1\nerror(0.1) D0 D1",
    ],
)
def test_error_models_that_matching_cannot_decode_are_refused(text: str) -> None:
    with pytest.raises(QedgeError) as caught:
        read_error_model(stim.DetectorErrorModel(text))
    assert caught.value.code == "job.bad_request"


def decode(each: Memory, pieces: Pieces, row: np.ndarray) -> Stream:
    model = memory_errors(each)
    stream = Stream(pieces)
    bounds = model.bounds().tolist()
    for begin, end in itertools.pairwise(bounds[:-1]):
        stream.push(row[begin:end])
    stream.close(row[bounds[-2] : bounds[-1]])
    return stream


@pytest.mark.parametrize("code", ["surface", "repetition"])
@pytest.mark.parametrize(("window", "commit"), [(6, 3), (4, 1), (5, 3), (9, 2)])
@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 6, 7, 11, 20, 33])
def test_a_stream_of_any_length_explains_every_single_error_as_the_block_does(
    code: str, window: int, commit: int, rounds: int
) -> None:
    """One error is always decoded right, wherever it strikes; `close` raises where the syndrome is not explained."""
    each = memory(3, rounds, code=code)
    pieces = memory_pieces(each, window, commit)
    model = memory_errors(each)
    rng = np.random.default_rng(rounds)
    for error in rng.permutation(len(model.first))[:40]:
        row = np.zeros(each.num_detectors, dtype=np.uint8)
        for detector in model.detectors[error]:
            if detector != BOUNDARY:
                row[detector] = 1
        stream = decode(each, pieces, row)
        assert stream.frame == int(model.observables[error])
        assert stream.committed == rounds + 1


def test_a_window_of_two_distances_decodes_as_well_as_the_block() -> None:
    each = memory(3, 30, rate=0.003)
    block = run_block(each, 6000, 5, never)
    stream = run_stream(each, 6, 3, 6000, 5, never)
    sigma = math.sqrt(2 * block.errors)
    assert block.errors > 150
    assert abs(stream.errors - block.errors) < 3 * sigma
    assert len(stream.times_us) > 6000


def test_a_window_that_is_too_short_is_worse() -> None:
    each = memory(5, 20, rate=0.004)
    good = run_stream(each, 10, 5, 1500, 3, never)
    bad = run_stream(each, 1, 1, 1500, 3, never)
    assert bad.errors > 2 * good.errors


def test_logical_errors_fall_with_distance_below_threshold_and_rise_above() -> None:
    below = [run_block(memory(d, 5, rate=0.003), 20_000, 1, never).errors for d in (3, 5, 7)]
    above = [run_block(memory(d, 5, rate=0.03), 2_000, 1, never).errors for d in (3, 5, 7)]
    assert below[0] > 2 * below[1] > 2 * below[2]
    assert above[0] < above[2]


def test_a_stream_says_what_it_expects_and_how_far_it_is() -> None:
    stream = Stream(memory_pieces(memory(), 6, 3))
    with pytest.raises(QedgeError, match="Round 0 has 4 detectors, not 8") as caught:
        stream.push(np.zeros(8, dtype=np.uint8))
    assert caught.value.code == "job.bad_request"
    decoded = [stream.push(np.zeros(4 if number == 0 else 8, dtype=np.uint8)) for number in range(13)]
    assert [number for number, now in enumerate(decoded) if now] == [6, 9, 12]
    assert (stream.rounds, stream.committed, stream.frame) == (13, 9, 0)


def test_a_commit_beyond_the_window_is_refused() -> None:
    with pytest.raises(QedgeError):
        memory_pieces(memory(), 3, 4)


def test_a_given_model_ends_where_it_ends() -> None:
    each = memory(3, 4)
    pieces = Pieces(memory_errors(each), 2, 1)
    stream = Stream(pieces)
    for number in range(5):
        stream.push(np.zeros(4 if number in (0, 4) else 8, dtype=np.uint8))
    with pytest.raises(QedgeError, match="ends after 5 rounds"):
        stream.push(np.zeros(8, dtype=np.uint8))


def test_matchers_are_made_once_for_all_rounds() -> None:
    pieces = memory_pieces(memory(3, 400), 6, 3)
    assert run_stream(memory(3, 400), 6, 3, 2, 1, never).shots == 2
    stream = Stream(pieces)
    stream.push(np.zeros(4, dtype=np.uint8))
    for _ in range(300):
        stream.push(np.zeros(8, dtype=np.uint8))
    assert len(pieces._made) <= 3


def test_the_block_decoder_is_the_library_on_the_whole_circuit() -> None:
    each = memory(5, 5)
    detectors, flips = each.circuit().compile_detector_sampler(seed=3).sample(500, separate_observables=True)
    found = block_decoder(each).decode_batch(detectors)
    assert run_block(each, 500, 3, never).errors == int((found != flips).any(axis=1).sum())


def test_the_interval_of_a_rate_is_wilsons() -> None:
    low, high = Logical(1000, 10, ()).interval()
    assert (low, high) == (pytest.approx(0.00544, abs=1e-4), pytest.approx(0.01831, abs=1e-4))
    assert Logical(100, 0, ()).interval()[0] == 0
    assert per_round(0.5, 7) == 0.5
    assert pytest.approx((1 - 2 * per_round(0.2, 9)) ** 9) == 1 - 2 * 0.2


def test_a_run_that_is_not_wanted_ends() -> None:
    with pytest.raises(QedgeError) as caught:
        run_block(memory(), 10, 1, lambda: True)
    assert caught.value.code == "job.cancelled"


def test_without_stim_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "stim", None)
    with pytest.raises(QedgeError, match="stim is not installed"):
        stim_library()
