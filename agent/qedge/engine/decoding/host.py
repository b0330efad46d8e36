"""The target of decoding workers: streams of messages as the WebSocket carries them.

The thread that reads decodes; models are compiled in another one, so that running streams do not wait for a new one.
"""

from __future__ import annotations

import gc
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.engine.decoding.model import Limits
from qedge.engine.decoding.models import Compiled, Models
from qedge.engine.decoding.session import Session
from qedge.engine.qec.model import matching_library, stim_library
from qedge.wire.decode import (
    DecodeFailed,
    DecodeOpen,
    DecodeOpened,
    MemoryModel,
    Request,
    pack_commit,
    pack_rounds,
)
from qedge.wire.problem import problem_of
from qedge.workers.host import HostLink
from qedge.workers.model import Msg

_SWITCH_S: Final = 2e-4
"""How long the thread that compiles may hold the interpreter while the other one wants it."""
_SMALL: Final = DecodeOpen(MemoryModel("repetition"), window=2, commit=1)
_WARM_ROUNDS: Final = 8
_REQUEST: Final = msgspec.json.Decoder(Request)


class DecodeHost:
    """Serves any number of streams; `init` holds the fields of `Limits`."""

    def __init__(self, init: Mapping[str, object], link: HostLink) -> None:
        self._link = link
        self._limits = msgspec.convert(dict(init), Limits)
        self._models = Models(self._limits)
        self._sessions: dict[int, Session | None] = {}
        self._changing = threading.Lock()
        self._wanted: queue.SimpleQueue[tuple[int, DecodeOpen]] = queue.SimpleQueue()
        stim_library()
        matching_library()
        self._warm()
        sys.setswitchinterval(_SWITCH_S)
        gc.collect()
        gc.freeze()
        threading.Thread(target=self._compile, daemon=True).start()

    def _warm(self) -> None:
        """Decode a small stream, so that no other one waits for what that loads."""
        compiled, _ = Models(self._limits).get(_SMALL)
        session = Session(compiled, lambda _arrived_ns: 0)
        for number in range(_WARM_ROUNDS):
            closing = number == _WARM_ROUNDS - 1
            list(session.take(pack_rounds(number, b"\0", compiled.round_bytes, closing=closing), 0))

    def handle(self, method: str, _args: Mapping[str, object]) -> Msg:
        """See `Target.handle`; everything here goes through streams."""
        raise QedgeError("worker.bad_answer", f"This worker has no method {method!r}.")

    def take(self, stream_id: int, message: object, arrived_ns: int) -> None:
        """See `StreamTarget.take`."""
        if message is None:
            self._forget(stream_id)
            return
        try:
            if isinstance(message, bytes):
                self._decode(stream_id, message, arrived_ns)
            elif isinstance(message, str):
                self._control(stream_id, message)
        except QedgeError as error:
            self._fail(stream_id, error)
        except Exception as error:  # noqa: BLE001 - a fault in one stream must not end the others
            traceback.print_exc()
            self._fail(stream_id, QedgeError("internal.unexpected", f"Decoding failed: {type(error).__name__}."))

    def _decode(self, stream_id: int, message: bytes, arrived_ns: int) -> None:
        session = self._sessions.get(stream_id)
        if session is None:
            return  # it failed, and messages were under way
        for commit in session.take(message, arrived_ns):
            self._link.send_stream(stream_id, pack_commit(commit))
        if session.over:
            self._end(stream_id, session)

    def _control(self, stream_id: int, text: str) -> None:
        try:
            request = _REQUEST.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise QedgeError("decode.bad_open", f"The message cannot be read: {error}.") from error
        if isinstance(request, DecodeOpen):
            if stream_id in self._sessions:
                raise QedgeError("decode.bad_open", "The stream is open already.", fix="Open one stream a connection.")
            self._sessions[stream_id] = None
            self._wanted.put((stream_id, request))
        elif (session := self._sessions.get(stream_id)) is not None:
            self._end(stream_id, session)

    def _end(self, stream_id: int, session: Session) -> None:
        self._forget(stream_id)
        self._link.send_stream(stream_id, msgspec.json.encode(session.summary()).decode())

    def _fail(self, stream_id: int, error: QedgeError) -> None:
        self._forget(stream_id)
        self._link.send_stream(stream_id, msgspec.json.encode(DecodeFailed(problem_of(error))).decode())

    def _compile(self) -> None:
        while True:
            stream_id, wanted = self._wanted.get()
            try:
                self._open(stream_id, wanted)
            except QedgeError as error:
                self._fail(stream_id, error)
            except MemoryError:
                self._fail(stream_id, QedgeError("decode.model_too_large", "The worker has no memory for the model."))
            except Exception as error:  # noqa: BLE001 - as in `take`
                traceback.print_exc()
                self._fail(stream_id, QedgeError("internal.unexpected", f"Compiling failed: {type(error).__name__}."))

    def _open(self, stream_id: int, wanted: DecodeOpen) -> None:
        began_ns = time.perf_counter_ns()
        compiled, cached = self._models.get(wanted)
        opened = opened_of(wanted, compiled, self._limits, (time.perf_counter_ns() - began_ns) / 1e9, cached=cached)
        with self._changing:
            if stream_id not in self._sessions:
                return  # the caller went away
            self._sessions[stream_id] = Session(compiled, lambda arrived_ns: time.perf_counter_ns() - arrived_ns)
        self._link.send_stream(stream_id, msgspec.json.encode(opened).decode())

    def _forget(self, stream_id: int) -> None:
        with self._changing:
            self._sessions.pop(stream_id, None)


def opened_of(
    wanted: DecodeOpen, compiled: Compiled, limits: Limits, compile_s: float, *, cached: bool
) -> DecodeOpened:
    """Describe an open stream; raises `decode.bad_open` where its window never fits into its credit."""
    pieces = compiled.pieces
    credit = min(wanted.credit or limits.max_rounds_in_flight, limits.max_rounds_in_flight)
    if credit <= pieces.window:
        raise QedgeError(
            "decode.bad_open",
            f"A window of {pieces.window} rounds needs a credit of {pieces.window + 1}, and {credit} is given.",
            fix="Ask for more credit or for a smaller window; decode.max_rounds_in_flight bounds both.",
        )
    return DecodeOpened(
        model=compiled.key,
        round_bytes=compiled.round_bytes,
        detectors=compiled.detectors,
        closing=compiled.closing,
        observables=pieces.model.num_observables,
        window=pieces.window,
        commit=pieces.commit,
        credit=credit,
        rounds=compiled.rounds,
        compile_s=compile_s,
        cached=cached,
    )
