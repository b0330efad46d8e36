"""One stream as its worker sees it: messages of rounds in, commits out; pure but for the decoder's own work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from qedge.base.errors import QedgeError
from qedge.engine.decoding.latency import Latencies
from qedge.engine.decoding.models import Compiled
from qedge.engine.qec.window import Bits, Stream
from qedge.wire.decode import HEADER, DecodeCommit, DecodeSummary, read_rounds

_US: Final = 1e-3
"""Microseconds in a nanosecond."""


class Session:
    """Decodes the rounds of one stream; `take` gives a commit as soon as its window is decoded."""

    def __init__(self, compiled: Compiled, elapsed_ns: Callable[[int], int]) -> None:
        self._compiled = compiled
        self._elapsed_ns = elapsed_ns
        self._stream = Stream(compiled.pieces)
        self._latencies = Latencies()
        self._flushed = False

    @property
    def over(self) -> bool:
        """Say whether the closing round was decoded."""
        return self._flushed

    def take(self, message: bytes, arrived_ns: int) -> Iterator[DecodeCommit]:
        """Decode the rounds of a message that arrived then; raises `decode.*`."""
        compiled, stream = self._compiled, self._stream
        head = read_rounds(message, compiled.round_bytes)
        if head.first != stream.rounds or self._flushed:
            raise QedgeError("decode.out_of_order", f"Round {head.first} came, and {stream.rounds} was due.")
        packed = np.frombuffer(message, dtype=np.uint8, offset=HEADER.size).reshape(head.number, compiled.round_bytes)
        rows = np.unpackbits(packed, axis=1, bitorder="little")
        for number, row in enumerate(rows, head.first):
            closing = head.closing and number == head.first + head.number - 1
            events = self._events(row, number, closing=closing)
            before = stream.frame
            if self._decode(events, closing=closing):
                elapsed_ns = self._elapsed_ns(arrived_ns)
                self._latencies.add(elapsed_ns)
                yield DecodeCommit(stream.committed, stream.frame ^ before, stream.frame, elapsed_ns, closing)

    def _events(self, row: Bits, number: int, *, closing: bool) -> Bits:
        compiled = self._compiled
        if closing and not number:
            raise QedgeError("decode.bad_frame", "The first round cannot be the closing one.", fix="Send it by itself.")
        if compiled.rounds and closing != (number == compiled.rounds - 1):
            raise QedgeError(
                "decode.bad_frame",
                f"Round {number} {'closes' if closing else 'goes on with'} a stream of {compiled.rounds} rounds.",
                fix="Close the stream with the last round of its model.",
            )
        size = compiled.closing if closing else compiled.size(number)
        if row[size:].any():
            raise QedgeError(
                "decode.bad_frame",
                f"Round {number} has {size} detectors, and bits beyond them are set.",
                fix="Detector 0 of a round is the lowest bit of its first byte.",
            )
        return row[:size]

    def _decode(self, events: Bits, *, closing: bool) -> bool:
        stream, pieces = self._stream, self._compiled.pieces
        if closing and pieces.steady and not self._compiled.ends_anywhere and stream.committed < pieces.steady:
            raise QedgeError(
                "decode.bad_frame",
                f"A stream of this model cannot end with round {stream.rounds}: none of its windows repeats yet.",
                fix=f"Send more than {pieces.window + pieces.steady} rounds.",
            )
        try:
            if not closing:
                return stream.push(events)
            stream.close(events)
        except ValueError as error:  # the matcher's word for it
            raise QedgeError(
                "decode.unexplained",
                f"No errors of the model explain the events up to round {stream.rounds - 1}.",
                fix="Check the order of the detectors, and that the model is that of the device.",
            ) from error
        self._flushed = True
        return True

    def summary(self) -> DecodeSummary:
        """Describe the stream as it is."""
        times, stream = self._latencies, self._stream
        return DecodeSummary(
            rounds=stream.rounds,
            committed=stream.committed,
            windows=stream.windows,
            frame=stream.frame,
            flushed=self._flushed,
            latency_p50_us=times.quantile_ns(0.5) * _US,
            latency_p99_us=times.quantile_ns(0.99) * _US,
            latency_max_us=times.max_ns * _US,
        )
