"""Decode streams in their worker: the same corrections as the decoder by itself, and models that are bounded first."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from qedge.base.errors import QedgeError
from qedge.engine.decoding.host import opened_of
from qedge.engine.decoding.model import Limits
from qedge.engine.decoding.models import Compiled, Models
from qedge.engine.decoding.session import Session
from qedge.engine.qec.model import Memory, memory_errors
from qedge.engine.qec.window import Bits, Stream, memory_pieces
from qedge.wire.decode import DecodeCommit, DecodeOpen, MemoryModel, StimModel, pack_rounds

stim = pytest.importorskip("stim")
pytest.importorskip("pymatching")

LIMITS = Limits(
    max_model_bytes=1 << 20, max_detectors=20_000, max_mechanisms=200_000, max_rounds_in_flight=4096, keep_models=3
)


def open_session(wanted: DecodeOpen) -> tuple[Session, Compiled]:
    compiled, _ = Models(LIMITS).get(wanted)
    return Session(compiled, lambda _arrived_ns: 7), compiled


def shot_of(memory: Memory, seed: int) -> list[Bits]:
    """Return the detection events of one shot, round by round."""
    row = memory.circuit().compile_detector_sampler(seed=seed).sample(1).view(np.uint8)[0]
    bounds = memory_errors(memory).bounds().tolist()
    return [row[begin:end] for begin, end in itertools.pairwise(bounds)]


def packed(rounds: list[Bits], round_bytes: int) -> bytes:
    return b"".join(np.packbits(row, bitorder="little").tobytes().ljust(round_bytes, b"\0") for row in rounds)


def decode(session: Session, compiled: Compiled, rounds: list[Bits], batch: int = 1) -> list[DecodeCommit]:
    """Send all rounds, `batch` in a message, the last one as the closing one."""
    commits: list[DecodeCommit] = []
    for first in range(0, len(rounds), batch):
        part = rounds[first : first + batch]
        closing = first + len(part) == len(rounds)
        commits += session.take(
            pack_rounds(first, packed(part, compiled.round_bytes), compiled.round_bytes, closing=closing), 0
        )
    return commits


def decoded_alone(memory: Memory, window: int, commit: int, rounds: list[Bits]) -> list[tuple[int, int]]:
    """Return (rounds committed, frame) after every window of the decoder by itself."""
    stream = Stream(memory_pieces(memory, window, commit))
    found = [(stream.committed, stream.frame) for row in rounds[:-1] if stream.push(row)]
    stream.close(rounds[-1])
    return [*found, (stream.committed, stream.frame)]


@pytest.mark.parametrize(("code", "distance"), [("surface", 3), ("surface", 5), ("repetition", 5)])
@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("rounds", [1, 4, 40])
def test_a_stream_gives_the_corrections_of_the_window_decoder(
    code: str, distance: int, batch: int, rounds: int
) -> None:
    memory = Memory(code, distance, rounds, "z", 0.01)
    model = MemoryModel(code, distance, "z", 0.01)  # type: ignore[arg-type] # one of the two codes
    for seed in range(5):
        events = shot_of(memory, seed)
        session, compiled = open_session(DecodeOpen(model, 2 * distance, distance))
        commits = decode(session, compiled, events, batch)
        assert [(each.committed, each.frame) for each in commits] == decoded_alone(
            memory, 2 * distance, distance, events
        )
        assert [each.last for each in commits] == [False] * (len(commits) - 1) + [True]
        frame = 0
        for each in commits:
            frame ^= each.flips
            assert frame == each.frame
        summary = session.summary()
        assert (summary.rounds, summary.committed, summary.flushed) == (rounds + 1, rounds + 1, True)
        assert (summary.windows, summary.latency_max_us) == (len(commits), 0.007)


def test_a_stream_of_an_uploaded_model_gives_the_same_corrections_and_ends_with_it() -> None:
    memory = Memory("surface", 3, 30, "x", 0.005)
    text = str(memory.circuit().detector_error_model(decompose_errors=True))
    events = shot_of(memory, 3)
    session, compiled = open_session(DecodeOpen(StimModel(text), 6, 3))
    assert (compiled.rounds, compiled.detectors, compiled.closing) == (31, (4, 8), 4)
    commits = decode(session, compiled, events, 4)
    assert [(each.committed, each.frame) for each in commits] == decoded_alone(memory, 6, 3, events)
    again, _ = open_session(DecodeOpen(StimModel(text), 6, 3))
    with pytest.raises(QedgeError, match="closes a stream of 31 rounds"):
        decode(again, compiled, [*events[:10], events[30]])


@pytest.mark.parametrize("rounds", [9, 30, 75])
def test_an_uploaded_model_that_repeats_serves_streams_of_other_lengths(rounds: int) -> None:
    short = Memory("surface", 3, 20, "z", 0.005)
    text = str(short.circuit().detector_error_model(decompose_errors=True))
    memory = Memory("surface", 3, rounds, "z", 0.005)
    for seed in range(4):
        events = shot_of(memory, seed)
        session, compiled = open_session(DecodeOpen(StimModel(text, repeats_from=2), 6, 3))
        assert (compiled.rounds, compiled.detectors) == (0, (4, 8))
        commits = decode(session, compiled, events)
        assert [(each.committed, each.frame) for each in commits] == decoded_alone(memory, 6, 3, events)


def test_a_repeating_model_refuses_an_end_before_its_windows_repeat() -> None:
    text = str(Memory("surface", 3, 20, "z", 0.005).circuit().detector_error_model(decompose_errors=True))
    session, compiled = open_session(DecodeOpen(StimModel(text, repeats_from=2), 6, 3))
    with pytest.raises(QedgeError, match="cannot end with round 4"):
        decode(session, compiled, shot_of(Memory("surface", 3, 4, "z", 0.005), 1))


@pytest.mark.long  # it would take minutes where the rounds were looked for one by one among all errors
def test_a_model_of_as_many_rounds_as_are_allowed_is_looked_through_once() -> None:
    limits = msgspec.structs.replace(LIMITS, max_detectors=100_000, max_mechanisms=1_000_000)
    body = "error(0.001) D0 D1 L0\nerror(0.002) D0 D1\ndetector(0,0) D0\nshift_detectors(0,1) 1"
    text = f"repeat 99900 {{\n{body}\n}}\ndetector(0,0) D0\nerror(0.1) D0"
    compiled, _ = Models(limits).get(DecodeOpen(StimModel(text, repeats_from=1), 6, 3))
    assert (compiled.rounds, compiled.detectors, compiled.closing) == (0, (1,), 1)


@pytest.mark.parametrize("repeats_from", [1, 19])
def test_a_model_that_does_not_repeat_as_it_says_is_refused(repeats_from: int) -> None:
    text = str(Memory("surface", 3, 20, "z", 0.005).circuit().detector_error_model(decompose_errors=True))
    with pytest.raises(QedgeError) as caught:
        open_session(DecodeOpen(StimModel(text, repeats_from), 6, 3))
    assert caught.value.code == "decode.bad_model"


def test_one_error_that_differs_in_a_later_round_is_found() -> None:
    memory = Memory("surface", 3, 20, "z", 0.005)
    lines = str(memory.circuit().detector_error_model(decompose_errors=True).flattened()).splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("error") and " D80" in line)
    changed = "error(0.25)" + lines[place][lines[place].index(")") + 1 :]
    for text, good in (("\n".join(lines), True), ("\n".join([*lines[:place], changed, *lines[place + 1 :]]), False)):
        wanted = DecodeOpen(StimModel(text, repeats_from=2), 6, 3)
        if good:
            open_session(wanted)
        else:
            with pytest.raises(QedgeError, match="are not those of round"):
                open_session(wanted)


@pytest.mark.parametrize(
    "text",
    [
        "error(0.1) D999999999",
        "detector(0) D999999999",
        "repeat 1000000000 {\n error(0.1) D0\n shift_detectors(1) 1\n}",
        "repeat 1000000000 {\n repeat 1000000000 {\n shift_detectors 0\n }\n}",
        "repeat 1000000000000000000 {\n error(0.1) D0\n}",
        "shift_detectors 1000000000\nerror(0.1) D5",
        "repeat 2 {\n" * 40 + "error(0.1) D0\n" + "}\n" * 40,
        "repeat 100000 {\nerror(0.1) " + "D0 D1 ^ " * 1000 + "D0\n}",
        "detector(0) D0\ndetector(1000000000000) D1\nerror(0.1) D0 D1",
        "#" * (2 << 20),
    ],
)
def test_a_model_of_a_thousand_million_detectors_is_refused_before_it_takes_memory(text: str) -> None:
    with pytest.raises(QedgeError) as caught:
        Models(LIMITS).get(DecodeOpen(StimModel(text)))
    assert caught.value.code == "decode.model_too_large"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a model",
        "error(0.1) D0",
        "error(2) D0",
        "detector(0) D0\nerror(0.1) D0",
        "detector(1e300) D0\nerror(0.1) D0",
        "detector(nan) D0\nerror(0.1) D0",
        "}{",
        "\ud800",
    ],
)
def test_a_model_that_cannot_be_decoded_is_refused(text: str) -> None:
    with pytest.raises(QedgeError) as caught:
        Models(LIMITS).get(DecodeOpen(StimModel(text)))
    assert caught.value.code in ("decode.bad_model", "job.bad_request")


def test_a_memory_too_large_for_the_node_is_refused() -> None:
    with pytest.raises(QedgeError) as caught:
        Models(LIMITS).get(DecodeOpen(MemoryModel(distance=31), window=1000))
    assert caught.value.code == "decode.model_too_large"


def test_an_even_distance_of_the_surface_code_is_refused() -> None:
    with pytest.raises(QedgeError) as caught:
        Models(LIMITS).get(DecodeOpen(MemoryModel(distance=4)))
    assert caught.value.code == "decode.bad_model"


def test_a_model_is_compiled_once_and_the_oldest_is_dropped() -> None:
    models = Models(LIMITS)
    wanted = [DecodeOpen(MemoryModel("repetition", 3, "z", rate)) for rate in (0.01, 0.02, 0.03, 0.04)]
    first, cached = models.get(wanted[0])
    assert not cached
    assert models.get(wanted[0]) == (first, True)
    for each in wanted[1:]:
        models.get(each)
    assert models.get(wanted[3])[1]
    assert not models.get(wanted[0])[1]


def test_a_window_that_does_not_fit_into_the_credit_is_refused() -> None:
    wanted = DecodeOpen(MemoryModel("repetition"), window=10, credit=10)
    compiled, _ = Models(LIMITS).get(wanted)
    with pytest.raises(QedgeError) as caught:
        opened_of(wanted, compiled, LIMITS, 0.0, cached=False)
    assert caught.value.code == "decode.bad_open"


def test_bits_beyond_the_detectors_of_a_round_are_refused() -> None:
    session, compiled = open_session(DecodeOpen(MemoryModel()))
    assert compiled.round_bytes == 1
    with pytest.raises(QedgeError, match="Round 0 has 4 detectors, and bits beyond them are set") as caught:
        list(session.take(pack_rounds(0, b"\x10", 1), 0))
    assert caught.value.code == "decode.bad_frame"


def test_the_first_round_is_not_the_closing_one() -> None:
    session, _ = open_session(DecodeOpen(MemoryModel()))
    with pytest.raises(QedgeError, match="cannot be the closing one"):
        list(session.take(pack_rounds(0, b"\0", 1, closing=True), 0))


def test_a_round_that_is_not_due_is_refused() -> None:
    session, _ = open_session(DecodeOpen(MemoryModel()))
    with pytest.raises(QedgeError) as caught:
        list(session.take(pack_rounds(1, b"\0", 1), 0))
    assert caught.value.code == "decode.out_of_order"


def test_events_that_no_error_explains_are_an_error_of_their_own() -> None:
    pairs = "\n".join(f"detector({number}) D{2 * number}\ndetector({number}) D{2 * number + 1}" for number in range(4))
    edges = "\n".join(f"error(0.1) D{2 * number} D{2 * number + 1}" for number in range(4))
    session, compiled = open_session(DecodeOpen(StimModel(f"{pairs}\n{edges}"), 2, 1))
    with pytest.raises(QedgeError) as caught:
        decode(session, compiled, [np.array(row, dtype=np.uint8) for row in ([1, 0], [0, 0], [0, 0], [0, 0])])
    assert caught.value.code == "decode.unexplained"


def test_a_stream_that_is_left_in_the_middle_says_how_far_it_is() -> None:
    memory = Memory("surface", 3, 40, "z", 0.01)
    session, compiled = open_session(DecodeOpen(MemoryModel(error_rate=0.01), 6, 3))
    events = shot_of(memory, 2)[:20]
    for first, row in enumerate(events):
        list(session.take(pack_rounds(first, packed([row], 1), compiled.round_bytes), 0))
    summary = session.summary()
    assert (summary.rounds, summary.committed, summary.flushed) == (20, 15, False)
