"""The child process: `python -m qedge.workers.host DAEMON SOCKET MEMORY TARGET` hosts one target for process DAEMON.

The main thread runs the target's calls one after the other; a reader thread takes frames, so that a cancel or the end
of the daemon is seen during a call; a third thread sends heartbeats. Messages of streams are short work: the reader
thread hands them to the target itself, since waking another thread takes longer.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Final, Protocol, cast

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.with_parent import end_with_parent
from qedge.workers.frames import LENGTH, PARCEL_BYTES, Frame, Kind, check_length, decode, encode, encode_body
from qedge.workers.garbage import Garbage
from qedge.workers.model import Msg

HEARTBEAT_S: Final = 1.0
_RANDOM_WAIT_S: Final = 10.0
_READ_BYTES: Final = 1 << 18
_BACKGROUND_NICE: Final = 10
"""About a tenth of what a process gets that asks for nothing, where both want all."""


class Target(Protocol):
    """What a worker hosts; made once with `init`, then called by one thread."""

    def handle(self, method: str, args: Mapping[str, object]) -> Msg:
        """Answer one call; a `QedgeError` crosses to the caller as itself."""
        ...


class StreamTarget(Target, Protocol):
    """A target that also takes part in streams of messages."""

    def take(self, stream_id: int, message: object, arrived_ns: int) -> None:
        """Take one message of a stream, none at its end; `arrived_ns` is when it came, on the performance counter.

        Runs beside `handle`, in the thread that reads; what takes long belongs elsewhere.
        """
        ...


class WorkingTarget(Target, Protocol):
    """A target that also does something by itself, in the thread that calls it, while nobody calls."""

    def work(self) -> float | None:
        """Do a little, never for longer than a call can wait; returns the seconds until there is more to do.

        None: nothing before a call, or before somebody wakes this thread.
        """
        ...


class HostLink:
    """What a target gets from its host: random bytes of the node's pool, and whether the call is still wanted."""

    def __init__(self, channel: socket.socket, memory: int) -> None:
        self._channel = channel
        self._memory = memory
        self._memory_free = threading.Event()
        self._memory_free.set()
        self._send_lock = threading.Lock()
        self._random: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._random_lock = threading.Lock()
        self.calls: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self.current_id = 0
        self.cancelled_id = -1

    def cancelled(self) -> bool:
        """Say whether the call that runs now is no longer wanted."""
        return self.cancelled_id == self.current_id

    def wake(self) -> None:
        """Have `WorkingTarget.work` run soon; any thread may."""
        self.calls.put(None)

    def random_bytes(self, number: int) -> bytes:
        """Return `number` bytes of the node's pool."""
        with self._random_lock:
            self.send(Frame(Kind.RANDOM, body=number))
            return self._random.get(timeout=_RANDOM_WAIT_S)

    def give_random(self, data: bytes) -> None:
        """Hand over the daemon's answer to `random_bytes` (the reader thread does)."""
        self._random.put(data)

    def send_result(self, call_id: int, result: Msg) -> None:
        """Answer a call, a large result by way of the memory that the daemon shares."""
        body = encode_body(result)
        if len(body) < PARCEL_BYTES:
            self.send(Frame(Kind.RESULT, call_id, body=msgspec.Raw(body)))
            return
        self._memory_free.wait()  # the daemon has yet to read the parcel before this one
        self._memory_free.clear()
        os.ftruncate(self._memory, len(body))
        view, place = memoryview(body), 0
        while place < len(body):
            place += os.pwrite(self._memory, view[place:], place)
        self.send(Frame(Kind.PARCEL, call_id, body=len(body)))

    def send_stream(self, stream_id: int, message: bytes | str) -> None:
        """Send one message of a stream; any thread may."""
        self.send(Frame(Kind.STREAM, stream_id, body=message))

    def free_memory(self) -> None:
        """Note that the daemon read the parcel (the reader thread does)."""
        self._memory_free.set()

    def send(self, frame: Frame) -> None:
        """Write one frame; the process ends where the daemon is gone."""
        try:
            with self._send_lock:
                self._channel.sendall(encode(frame))
        except OSError:
            os._exit(0)


def _receive(channel: socket.socket) -> Frame:
    header = _read_exactly(channel, LENGTH.size)
    return decode(_read_exactly(channel, check_length(header)))


def _read_exactly(channel: socket.socket, number: int) -> bytes:
    data = bytearray(number)
    view = memoryview(data)
    while view:
        got = channel.recv_into(view)
        if got == 0:
            raise EOFError
        view = view[got:]
    return bytes(data)


def _frames(channel: socket.socket) -> Iterator[tuple[Frame, int]]:
    """Give frames with the time of their arrival, until the other side closes."""
    waiting = bytearray()
    while data := channel.recv(_READ_BYTES):
        arrived_ns = time.perf_counter_ns()
        waiting += data
        place = 0
        while len(waiting) - place >= LENGTH.size:
            begin = place + LENGTH.size
            end = begin + check_length(waiting[place:begin])
            if len(waiting) < end:
                break
            yield decode(waiting[begin:end]), arrived_ns
            place = end
        del waiting[:place]


def _read_frames(target: Target, channel: socket.socket, link: HostLink) -> None:
    with contextlib.suppress(OSError, QedgeError):
        for frame, arrived_ns in _frames(channel):
            if frame.kind is Kind.STREAM:
                cast("StreamTarget", target).take(frame.id, frame.body, arrived_ns)
            elif frame.kind is Kind.CANCEL:
                link.cancelled_id = frame.id
            elif frame.kind is Kind.TAKEN:
                link.free_memory()
            elif frame.kind is Kind.RANDOM and isinstance(frame.body, bytes):
                link.give_random(frame.body)
            else:
                link.calls.put(frame)
    os._exit(0)  # the daemon is gone; nobody waits for what the main thread computes


def _beat(link: HostLink) -> None:
    stop = threading.Event()
    while not stop.wait(HEARTBEAT_S):
        link.send(Frame(Kind.HEARTBEAT, body=resident_bytes()))


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def _address_space_bytes() -> int:
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


def _be_first_to_go() -> None:
    # Without the right to change it the kernel chooses by size, which most often is a worker as well.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("500")


def step_back() -> None:
    """Let others go first: all threads of this process get a small share of a processor that others want.

    An unprivileged process cannot take that back. Where the service's filter of system calls forbids it, all stays.
    """
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError, ValueError):
            os.setpriority(os.PRIO_PROCESS, int(thread), _BACKGROUND_NICE)


def _limit(what: int, value: int) -> None:
    # A hardened unit may forbid setrlimit; then the cgroup's limits are what holds.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(what, (value, value))


def _load(target: str) -> type[object]:
    module, _, name = target.partition(":")
    return cast("type[object]", getattr(importlib.import_module(module), name))


def _next_call(target: Target, calls: queue.SimpleQueue[Frame | None]) -> Frame:
    """Wait for the next call; a target that has work of its own does it meanwhile."""
    while True:
        wait_s = cast("WorkingTarget", target).work() if hasattr(target, "work") else None
        with contextlib.suppress(queue.Empty):
            frame = calls.get(timeout=wait_s)
            if frame is not None:
                return frame


def _answer(target: Target, link: HostLink, frame: Frame) -> None:
    link.current_id = frame.id
    args = frame.body if isinstance(frame.body, dict) else {}
    try:
        link.send_result(frame.id, target.handle(frame.name, args))
    except QedgeError as error:
        link.send(_error_frame(frame.id, error))
    except MemoryError:
        link.send(_error_frame(frame.id, QedgeError("job.too_much_memory", "The worker ran out of memory.")))
    except Exception as error:  # noqa: BLE001 - whatever a target raises must reach the caller
        traceback.print_exc()
        kind = type(error).__name__
        link.send(_error_frame(frame.id, QedgeError("driver.fatal", f"The worker failed with {kind}: {error}")))


def _error_frame(call_id: int, error: QedgeError) -> Frame:
    details: dict[str, Msg] = dict(error.details)
    return Frame(Kind.ERROR, call_id, error.code, {"message": error.message, "fix": error.fix, "details": details})


def main(argv: list[str]) -> None:
    """Serve the daemon on the inherited socket until it closes it."""
    end_with_parent(int(argv[0]))
    _be_first_to_go()
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the daemon, which then ends its workers itself
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=int(argv[1]))
    link = HostLink(channel, int(argv[2]))
    first = _receive(channel)
    init = first.body if isinstance(first.body, dict) else {}
    memory, cpu = init.pop("memory_limit_bytes", 0), init.pop("cpu_limit_s", 0)
    try:
        target = cast("Target", cast("type", _load(argv[3]))(init, link))
    except Exception as error:  # noqa: BLE001 - a target that cannot be made says why, then the process ends
        reason = (
            error if isinstance(error, QedgeError) else QedgeError("driver.fatal", f"{type(error).__name__}: {error}")
        )
        link.send(_error_frame(0, reason))
        return
    if isinstance(memory, int) and memory > 0:
        _limit(resource.RLIMIT_AS, _address_space_bytes() + memory)
    if isinstance(cpu, int) and cpu > 0:
        _limit(resource.RLIMIT_CPU, cpu)
    threading.Thread(target=_read_frames, args=(target, channel, link), daemon=True).start()
    threading.Thread(target=_beat, args=(link,), daemon=True).start()
    link.send(Frame(Kind.READY, body=resident_bytes()))
    garbage = Garbage()
    while True:
        _answer(target, link, _next_call(target, link.calls))
        garbage.after_answer()


if __name__ == "__main__":
    main(sys.argv[1:])
