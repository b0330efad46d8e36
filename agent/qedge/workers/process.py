"""One child process as the daemon sees it: start, call with a deadline, kill."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Coroutine, Mapping
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import ERROR_CODES, Detail, QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.workers.channel import FrameChannel
from qedge.workers.frames import MAX_FRAME_BYTES, Frame, Kind, decode_body
from qedge.workers.model import Msg, WorkerSpec

Taken = Callable[[bytes | str], None]
"""Takes one message of a stream."""
Broken = Callable[[QedgeError], None]
"""Hears that the worker of a stream died."""

_LOG: Final = get_logger("workers")
_CANCEL_GRACE_S: Final = 0.25
_MAX_RANDOM_BYTES: Final = 1 << 15
_MAX_LINE_BYTES: Final = 2000
_QUIET_ENV: Final[Mapping[str, str]] = {
    # One thread a worker: spinning OpenMP threads of several workers make each other slow (measured up to 10 times).
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


class WorkerProcess:
    """A running worker. `on_exit` of the owner is `wait_dead`; after death every call raises `worker.crashed`."""

    def __init__(self, spec: WorkerSpec, *, clock: Clock, random_bytes: RandomBytes) -> None:
        self._spec = spec
        self._clock = clock
        self._random_bytes = random_bytes
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Msg]] = {}
        self._streams: dict[int, tuple[Taken, Broken]] = {}
        self._dead = asyncio.Event()
        self._ready: asyncio.Future[None] | None = None
        self._process: Process | None = None
        self._channel = FrameChannel(self._take, self._broken)
        self._tasks: list[asyncio.Task[None]] = []
        self._kill_reason = ""
        self._memory = -1
        self._beat_ns = 0
        self.resident_bytes = 0
        self.calls = 0

    @property
    def pid(self) -> int:
        """Process id, 0 before the start."""
        return self._process.pid if self._process is not None else 0

    @property
    def is_alive(self) -> bool:
        """Say whether calls can be made."""
        return self._process is not None and not self._dead.is_set() and not self._kill_reason

    @property
    def silent_s(self) -> float:
        """Seconds since the last sign of life."""
        return (self._clock.now_ns() - self._beat_ns) / 1e9

    async def start(self) -> None:
        """Start the process and wait until its target is made; raises `QedgeError` where it is not."""
        self._ready = asyncio.get_running_loop().create_future()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                await self._channel.open(ours)
                self._process = await self._launch(theirs)
        except BaseException:
            # nobody reaps what never came to be, so nobody else lets go of the socket either
            self._channel.close()
            ours.close()
            raise
        self._beat_ns = self._clock.now_ns()
        spawn = asyncio.get_running_loop().create_task
        self._tasks = [spawn(self._reap(self._process))]
        self._tasks += [spawn(self._log_lines(pipe)) for pipe in (self._process.stdout, self._process.stderr) if pipe]
        limits = {"memory_limit_bytes": self._spec.memory_limit_bytes, "cpu_limit_s": self._spec.cpu_limit_s}
        try:
            await self._send(Frame(Kind.INIT, body={**self._spec.init, **limits}))
            async with asyncio.timeout(self._spec.start_timeout_s):
                await self._ready
        except TimeoutError:
            await self.kill("start timeout")
            raise QedgeError(
                "worker.deadline", f"The worker {self._spec.name} did not start within {self._spec.start_timeout_s} s."
            ) from None
        except BaseException:
            await self.kill("start failed")
            raise

    async def _launch(self, theirs: socket.socket) -> Process:
        env = {**os.environ, **_QUIET_ENV, **self._spec.env}
        for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
            env.pop(name, None)
        self._memory = os.memfd_create(f"qedge-{self._spec.name}", os.MFD_CLOEXEC)
        shared = (theirs.fileno(), self._memory)
        numbers = (os.getpid(), *shared)
        command = (sys.executable, "-m", "qedge.workers.host", *map(str, numbers), self._spec.target)
        return await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=env, pass_fds=shared
        )

    async def call(self, method: str, args: Mapping[str, Msg], *, deadline_s: float) -> Msg:
        """Run one method; kills the process where the deadline passes or the caller is cancelled and it goes on."""
        call_id = next(self._ids)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = answer
        self.calls += 1
        try:
            async with asyncio.timeout(deadline_s):
                await self._send(Frame(Kind.CALL, call_id, method, dict(args)))
                # shielded: whoever cancels this must not cancel the future too, or nobody sees that the call goes on
                return await asyncio.shield(answer)
        except TimeoutError:
            await self.kill("deadline")
            raise QedgeError(
                "worker.deadline",
                f"{self._spec.name} did not answer {method!r} within {deadline_s:g} s and was replaced.",
                fix="Try again, or give the request more time.",
                deadline_s=deadline_s,
            ) from None
        except asyncio.CancelledError:
            await self._call_off(call_id, answer)
            raise
        finally:
            self._waiting.pop(call_id, None)
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # retrieved, whether or not anybody waits for it

    def open_stream(self, taken: Taken, broken: Broken) -> int:
        """Begin a stream of messages and return its id; `taken` gets what the worker says, `broken` the end of it."""
        stream_id = next(self._ids)
        self._streams[stream_id] = (taken, broken)
        return stream_id

    def tell(self, stream_id: int, message: bytes | str | None) -> None:
        """Send a message of a stream and do not wait: whoever sends bounds what is under way."""
        if self._dead.is_set() or not self._channel.is_open:
            raise self._crashed()
        self._channel.post(Frame(Kind.STREAM, stream_id, body=message))

    def end_stream(self, stream_id: int) -> None:
        """End a stream; the worker forgets it."""
        if self._streams.pop(stream_id, None) is not None:
            with contextlib.suppress(QedgeError):
                self.tell(stream_id, None)

    async def wait_dead(self) -> str:
        """Wait for the end of the process and return why: a reason of ours, `signal N` or `exit N`."""
        await self._dead.wait()
        code = self._process.returncode if self._process is not None else None
        if self._kill_reason:
            return self._kill_reason
        return f"signal {-code}" if code is not None and code < 0 else f"exit {code}"

    async def kill(self, reason: str) -> None:
        """End the process at once; idempotent."""
        if self._process is None or self._dead.is_set():
            return
        self._kill_reason = self._kill_reason or reason
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await asyncio.shield(self._dead.wait())

    async def close(self) -> None:
        """Kill the process and wait for everything that belongs to it."""
        await self.kill("stop")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    async def _call_off(self, call_id: int, answer: asyncio.Future[Msg]) -> None:
        if self._dead.is_set():
            return
        with contextlib.suppress(QedgeError):
            await self._send(Frame(Kind.CANCEL, call_id))
        done, _ = await asyncio.wait({answer}, timeout=_CANCEL_GRACE_S)
        if not done:
            await self.kill("cancelled")

    async def _send(self, frame: Frame) -> None:
        if self._dead.is_set() or not self._channel.is_open:
            raise self._crashed()
        await self._channel.send(frame)

    def _broken(self, error: QedgeError) -> None:
        _LOG.warning("worker.killed", worker=self._spec.name, pid=self.pid, reason=str(error))
        # Named before the callers hear of it, so that nobody takes the process for one that goes on.
        self._kill_reason = self._kill_reason or "bad answer"
        self._fail_all(error)
        self._spawn(self.kill("bad answer"))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    def _take(self, frame: Frame) -> None:
        self._beat_ns = self._clock.now_ns()
        if frame.kind is Kind.RESULT:
            self._deliver(frame.id, frame.msg)
        elif frame.kind is Kind.HEARTBEAT and isinstance(frame.body, int):
            self.resident_bytes = frame.body
        elif frame.kind is Kind.RANDOM and isinstance(frame.body, int) and 0 < frame.body <= _MAX_RANDOM_BYTES:
            self._channel.post(Frame(Kind.RANDOM, body=self._random_bytes(frame.body)))
        elif frame.kind is Kind.READY and self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        elif frame.kind is Kind.STREAM and isinstance(frame.body, (bytes, str)):
            if frame.id in self._streams:
                self._streams[frame.id][0](frame.body)
        elif frame.kind is Kind.PARCEL and isinstance(frame.body, int) and 0 < frame.body <= MAX_FRAME_BYTES:
            self._spawn(self._take_parcel(frame.id, frame.body))
        elif frame.kind is Kind.ERROR:
            self._take_error(frame)
        else:
            raise QedgeError("worker.bad_answer", f"The worker {self._spec.name} sent a frame that makes no sense.")

    async def _take_parcel(self, call_id: int, length: int) -> None:
        try:
            # Reading and decoding much takes longer than the loop can wait.
            result = await asyncio.to_thread(self._read_parcel, length)
            await self._send(Frame(Kind.TAKEN))
        except QedgeError as error:
            if not self._dead.is_set():
                self._broken(error)
            return
        self._deliver(call_id, result)

    def _read_parcel(self, length: int) -> Msg:
        data = bytearray()
        while len(data) < length:
            part = os.pread(self._memory, length - len(data), len(data))
            if not part:
                raise QedgeError("worker.bad_answer", f"The worker {self._spec.name} left an answer unfinished.")
            data += part
        return decode_body(bytes(data))

    def _deliver(self, call_id: int, result: Msg) -> None:
        waiting = self._waiting.get(call_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(result)

    def _take_error(self, frame: Frame) -> None:
        error = _error_of(frame)
        waiting: asyncio.Future[Msg] | asyncio.Future[None] | None = self._waiting.get(frame.id)
        if frame.id == 0:
            waiting = self._ready
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    async def _reap(self, process: Process) -> None:
        await process.wait()
        self._dead.set()
        self._fail_all(self._crashed())
        self._channel.close()

    def _fail_all(self, error: QedgeError) -> None:
        pending: list[asyncio.Future[Msg] | asyncio.Future[None]] = [*self._waiting.values()]
        if self._ready is not None:
            pending.append(self._ready)
        for future in pending:
            if not future.done():
                future.set_exception(error)
                future.exception()  # retrieved here in case its waiter is already gone
        streams, self._streams = self._streams, {}
        for _, broken in streams.values():
            broken(error)

    def _crashed(self) -> QedgeError:
        return QedgeError(
            "worker.crashed", f"The worker {self._spec.name} died while it was asked.", fix="Try again.", pid=self.pid
        )

    async def _log_lines(self, pipe: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while line := await _read_line(pipe):
                _LOG.info("worker.output", worker=self._spec.name, line=line.decode("utf-8", "replace").rstrip())


async def _read_line(pipe: asyncio.StreamReader) -> bytes:
    try:
        return (await pipe.readline())[:_MAX_LINE_BYTES]
    except ValueError:
        return b"(a line too long to show)\n"


def _error_of(frame: Frame) -> QedgeError:
    body = frame.msg if isinstance(frame.msg, dict) else {}
    code = frame.name if frame.name in ERROR_CODES else "driver.fatal"
    error = QedgeError(code, str(body.get("message", "")), fix=str(body.get("fix", "")))
    details = body.get("details")
    if isinstance(details, dict):
        plain: dict[str, Detail] = {
            str(key): value
            for key, value in details.items()
            if value is None or isinstance(value, (str, int, float, bool))
        }
        error.details = plain
    return error
