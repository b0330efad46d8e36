"""The decode service: streams of syndromes, handed to workers that start when they are first needed."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.engine.decoding.config import DecodeConfig
from qedge.engine.decoding.flow import Flow
from qedge.engine.decoding.model import TARGET, Limits
from qedge.wire.decode import Answer, DecodeFailed, DecodeOpened, read_commit
from qedge.wire.problem import error_of
from qedge.workers.config import WorkersConfig
from qedge.workers.model import WorkerSpec
from qedge.workers.pool import not_started
from qedge.workers.process import WorkerProcess

_LOG: Final = get_logger("decode")
_CHECK_S: Final = 1.0
_ANSWER: Final = msgspec.json.Decoder(Answer)


@dataclass(slots=True, eq=False)
class _Bench:
    """A worker and how many streams it has; `started` is done when it can be spoken to."""

    name: str
    process: WorkerProcess
    started: asyncio.Future[None]
    streams: int = 0
    idle_from_ns: int = 0


class DecodeService:
    """Opens streams, spreads them over workers, and lets a worker go that has had none for a while."""

    name = "decode"

    def __init__(
        self,
        config: DecodeConfig,
        workers: WorkersConfig,
        *,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self.config = config
        self.clock = clock
        self.metrics = metrics
        self._workers = workers
        self._random_bytes = random_bytes
        self._benches: list[_Bench] = []
        self._group: asyncio.TaskGroup | None = None
        self._open = 0

    async def run(self, ready: Ready) -> None:
        """Keep the workers that streams ask for, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                ready()
                await asyncio.Event().wait()
        finally:
            self._group = None

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[DecodeLink]:
        """Take a place for one stream; raises `decode.too_many_streams`."""
        if self._open >= self.config.max_streams:
            raise QedgeError(
                "decode.too_many_streams",
                f"{self._open} streams are open, and no more may be.",
                fix="Close one, or raise decode.max_streams.",
                limit=self.config.max_streams,
            )
        link = DecodeLink(self)
        self._count(1)
        try:
            yield link
        finally:
            link.end()
            self._count(-1)
            self.metrics.add("qedge_decode_streams_ended_total", (link.outcome,))
            received, committed = link.progress
            _LOG.info("decode.ended", outcome=link.outcome, received=received, committed=committed)

    def _count(self, change: int) -> None:
        self._open += change
        self.metrics.set("qedge_decode_streams", self._open)

    async def seat(self) -> _Bench:
        """Return the worker with the fewest streams, one more counted in; starts one where that is worth it."""
        if self._group is None:
            raise _stopping()
        alive = [bench for bench in self._benches if not bench.started.done() or bench.process.is_alive]
        bench = min(alive, key=lambda each: each.streams, default=None)
        if bench is None or (bench.streams and len(alive) < self.config.workers):
            bench = self._start(self._group)
        bench.streams += 1
        try:
            await asyncio.shield(bench.started)
        except BaseException:
            self.leave(bench)
            raise
        return bench

    def leave(self, bench: _Bench) -> None:
        """Count a stream out."""
        bench.streams -= 1
        bench.idle_from_ns = self.clock.now_ns()

    def _start(self, group: asyncio.TaskGroup) -> _Bench:
        config, workers = self.config, self._workers
        limits = Limits(
            max_model_bytes=config.max_model_bytes,
            max_detectors=config.max_detectors,
            max_mechanisms=config.max_mechanisms,
            max_rounds_in_flight=config.max_rounds_in_flight,
            keep_models=config.keep_models,
        )
        used = {each.name for each in self._benches}
        name = next(name for number in itertools.count() if (name := f"decode-{number}") not in used)
        spec = WorkerSpec(
            name=name,
            target=TARGET,
            init=msgspec.to_builtins(limits),
            start_timeout_s=min(workers.start_timeout_s, config.open_deadline_s),
            memory_limit_bytes=workers.memory_limit_mib * 2**20,
        )
        process = WorkerProcess(spec, clock=self.clock, random_bytes=self._random_bytes)
        bench = _Bench(name, process, asyncio.get_running_loop().create_future())
        self._benches.append(bench)
        group.create_task(self._keep(bench))
        return bench

    async def _keep(self, bench: _Bench) -> None:
        """Run one worker from its start to its end."""
        began_ns = self.clock.now_ns()
        try:
            await bench.process.start()
            start_s = (self.clock.now_ns() - began_ns) / 1e9
            _LOG.info("worker.started", worker=bench.name, pid=bench.process.pid, start_s=round(start_s, 3))
            self.metrics.set("qedge_worker_up", 1.0, (bench.name,))
            bench.idle_from_ns = self.clock.now_ns()
            bench.started.set_result(None)
            reason = await self._watch(bench)
            if reason:
                _LOG.warning("worker.died", worker=bench.name, pid=bench.process.pid, exit=reason)
                self.metrics.add("qedge_worker_restarts_total", (bench.name, reason.split(" ")[0]))
        except (QedgeError, OSError) as failure:
            if not bench.started.done():
                error = failure if isinstance(failure, QedgeError) else not_started(bench.name, failure)
                bench.started.set_exception(error)
                bench.started.exception()  # retrieved here in case nobody waits any more
        finally:
            if not bench.started.done():
                bench.started.set_exception(_stopping())
                bench.started.exception()
            self._benches.remove(bench)
            self.metrics.set("qedge_worker_up", 0.0, (bench.name,))
            await bench.process.close()

    async def _watch(self, bench: _Bench) -> str:
        """Return why a worker died; empty where it is not needed any more."""
        process, idle_ns = bench.process, round(self.config.worker_idle_s * 1e9)
        dead = asyncio.ensure_future(process.wait_dead())
        try:
            while True:
                done, _ = await asyncio.wait({dead}, timeout=min(_CHECK_S, self.config.worker_idle_s))
                if done:
                    return dead.result()
                self.metrics.set("qedge_worker_memory_bytes", process.resident_bytes, (bench.name,))
                if process.silent_s > self._workers.heartbeat_timeout_s:
                    await process.kill("silent")
                elif not bench.streams and self.clock.now_ns() - bench.idle_from_ns >= idle_ns:
                    return ""
        finally:
            dead.cancel()


class DecodeLink:
    """One stream between whoever asks for it and its worker: `open`, then `take` and `next` side by side.

    Messages are those of `qedge.wire.decode`, text and bytes as they stand on the WebSocket; of those with rounds only
    the head is read here. What is under way is bounded by the credit of the stream.
    """

    def __init__(self, service: DecodeService) -> None:
        self._service = service
        self._bench: _Bench | None = None
        self._stream_id = 0
        self._flow: Flow | None = None
        self._waiting: deque[tuple[bytes | str, int]] = deque()
        self._news = asyncio.Event()
        self._broken: QedgeError | None = None
        self._over = False
        self.outcome = "abandoned"
        """`closed`, the code of the error that ended the stream, or `abandoned` by the control system."""
        self._taken_ns = service.clock.now_ns()

    @property
    def progress(self) -> tuple[int, int]:
        """How many rounds were received, and for how many commits were handed out."""
        return (0, 0) if self._flow is None else (self._flow.received, self._flow.committed)

    async def open(self, message: str) -> str:
        """Hand on the first message and return the answer to it; raises what the worker says against it."""
        try:
            return await self._opened(message)
        except QedgeError as error:
            raise self._placed(error) from None

    async def _opened(self, message: str) -> str:
        try:
            async with asyncio.timeout(self._service.config.open_deadline_s):
                bench = self._bench = await self._service.seat()
                self._stream_id = bench.process.open_stream(self._arrived, self._break)
                bench.process.tell(self._stream_id, message)
                answer = await self._next_raw()
        except TimeoutError:
            if self._bench is not None:
                await self._bench.process.kill("deadline")
            limit_s = self._service.config.open_deadline_s
            raise QedgeError(
                "worker.deadline", f"The error model was not compiled within {limit_s:g} s.", fix="Make it smaller."
            ) from None
        opened = _ANSWER.decode(answer)
        if isinstance(opened, DecodeFailed):
            raise error_of(opened.problem)
        if not isinstance(opened, DecodeOpened) or not isinstance(answer, str):
            raise QedgeError("worker.bad_answer", "The worker answered an opening with something else.")
        self._flow = Flow(opened.round_bytes, opened.credit)
        self._taken_ns = self._service.clock.now_ns()
        return answer

    def take(self, message: bytes | str) -> None:
        """Hand on one message; raises `decode.*` where it breaks the rules of the stream."""
        flow, bench = self._flow, self._bench
        if flow is None or bench is None:
            raise QedgeError("decode.bad_frame", "The stream is not open yet.", fix="Wait for the answer to the open.")
        self._taken_ns = self._service.clock.now_ns()
        try:
            if isinstance(message, bytes):
                rounds = flow.take(message)
                self._service.metrics.add("qedge_decode_rounds_total", (), rounds.number)
            else:
                flow.close()
        except QedgeError as error:
            raise self._placed(error) from None
        try:
            bench.process.tell(self._stream_id, message)
        except QedgeError:
            raise self._placed(_lost()) from None

    async def next(self) -> bytes | str | None:
        """Return the next message for the control system, None after the last one; raises why the stream broke."""
        if self._over:
            return None
        try:
            message = await self._next_raw(idle_s=self._service.config.stream_idle_s)
        except QedgeError as error:
            raise self._placed(error) from None
        if isinstance(message, str):
            self._over = True
            answer = _ANSWER.decode(message)
            if isinstance(answer, DecodeFailed):
                raise self._placed(error_of(answer.problem))
            self.outcome = "closed"
        return message

    def end(self) -> None:
        """Let the worker forget the stream; idempotent."""
        bench, self._bench = self._bench, None
        if bench is not None:
            bench.process.end_stream(self._stream_id)
            self._service.leave(bench)

    async def _next_raw(self, idle_s: float = 0.0) -> bytes | str:
        while not self._waiting:
            if self._broken is not None:
                raise self._broken
            self._news.clear()
            try:
                async with asyncio.timeout(idle_s or None):
                    await self._news.wait()
            except TimeoutError:
                if self._service.clock.now_ns() - self._taken_ns >= idle_s * 1e9:
                    raise QedgeError(
                        "decode.idle", f"Nothing was sent for {idle_s:g} s.", fix="Close a stream that is not needed."
                    ) from None
        message, committed = self._waiting.popleft()
        if self._flow is not None:
            self._flow.hand_out(committed)
        return message

    def _arrived(self, message: bytes | str) -> None:
        committed = 0
        if isinstance(message, bytes):
            commit = read_commit(message)
            committed = commit.committed
            self._service.metrics.observe("qedge_decode_seconds", commit.worker_ns / 1e9)
        self._waiting.append((message, committed))
        self._news.set()

    def _break(self, _error: QedgeError) -> None:
        self._broken = _lost()
        self._news.set()

    def _placed(self, error: QedgeError) -> QedgeError:
        """Add to an error how far the stream came."""
        self.outcome = error.code
        if self._flow is not None:
            error.details = {"received": self._flow.received, "committed": self._flow.committed, **error.details}
        return error


def _lost() -> QedgeError:
    return QedgeError(
        "decode.worker_lost", "The worker of the stream died.", fix="Open a new stream and begin with its round 0."
    )


def _stopping() -> QedgeError:
    return QedgeError("internal.stopping", "The decode service does not run now.", fix="Try again soon.")
