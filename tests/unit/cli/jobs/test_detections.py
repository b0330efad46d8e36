"""Files of detection events, cut into rounds as they come."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.cli.jobs import decode
from qedge.cli.jobs.detections import Detections, Format
from qedge.wire.decode import DecodeOpened

SIZES = (4, 8)
CLOSING = 4


def opened(detectors: tuple[int, ...] = SIZES, closing: int = CLOSING, rounds: int = 0) -> DecodeOpened:
    return DecodeOpened("", 1, detectors, closing, 1, 6, 3, 100, rounds, 0.0, cached=False)


def size(number: int, last: int) -> int:
    return CLOSING if number == last else SIZES[min(number, 1)]


def cut(cutter: Detections, data: bytes, chunk: int) -> list[list[tuple[int, ...]]]:
    """Return the rounds of every record."""
    records: list[list[tuple[int, ...]]] = [[]]
    parts = [data[begin : begin + chunk] for begin in range(0, len(data), chunk)]
    found = itertools.chain(*(cutter.feed(part) for part in parts), cutter.end())
    for each in found:
        records[-1].append(each.events)
        if each.closing:
            records.append([])
    assert records.pop() == []
    return records


SHOTS = st.integers(2, 9).flatmap(
    lambda rounds: st.lists(
        st.tuples(*(st.tuples(*[st.integers(0, 1)] * size(number, rounds - 1)) for number in range(rounds))),
        min_size=1,
        max_size=4,
    )
)


@given(SHOTS, st.sampled_from(["01", "b8"]), st.integers(1, 40), st.booleans())
def test_rounds_come_out_as_stim_wrote_them(
    shots: list[tuple[tuple[int, ...], ...]], records: Format, chunk: int, told: bool
) -> None:
    rows = [[bit for events in shot for bit in events] for shot in shots]
    if records == "01":
        data = b"".join("".join(map(str, row)).encode() + b"\n" for row in rows)
    else:
        data = b"".join(np.packbits(row, bitorder="little").tobytes() for row in rows)
    rounds = len(shots[0]) if told or records == "b8" else 0
    assert cut(Detections(opened(), records, rounds), data, chunk) == [list(shot) for shot in shots]


def test_the_last_line_may_end_with_the_file() -> None:
    assert cut(Detections(opened(), "01", 0), b"1000000000010010", 5) == [
        [(1, 0, 0, 0), (0, 0, 0, 0, 0, 0, 0, 1), (0, 0, 1, 0)]
    ]


@pytest.mark.parametrize(
    ("data", "rounds"), [(b"00x", 0), (b"0000\n", 0), (b"000000000\n", 0), (b"00000", 3), (b"0" * 12 + b"\n", 3)]
)
def test_a_file_that_does_not_fit_the_model_is_refused(data: bytes, rounds: int) -> None:
    with pytest.raises(QedgeError) as caught:
        cut(Detections(opened(), "01", rounds), data, 7)
    assert caught.value.code == "client.data"


def test_records_of_bytes_need_the_number_of_their_rounds() -> None:
    with pytest.raises(QedgeError) as caught:
        Detections(opened(), "b8", 0)
    assert caught.value.code == "client.usage"
    assert Detections(opened(rounds=3), "b8", 0).between


def test_a_record_of_one_round_is_refused() -> None:
    with pytest.raises(QedgeError):
        Detections(opened(), "01", 1)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["none.01", "--model", "surface"], "client.file"),
        (["none.01", "--model", "none.dem"], "client.file"),
        (["none.01", "--model", "surface", "--distance", "99"], "client.usage"),
        (["none.01", "--model", "surface", "--error-rate", "nan"], "client.usage"),
    ],
)
def test_what_cannot_be_decoded_is_said_before_the_daemon_is_asked(
    words: list[str], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    decode.add_arguments(parser)
    with pytest.raises(QedgeError) as caught:
        decode.run(parser.parse_args(words))
    assert caught.value.code == code
