"""One end that distils: its device, its engine and a thread for the kernels, driven by whoever calls `work`."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
import numpy as np

from qedge.base.errors import QedgeError
from qedge.qkd.distillation.alice import AliceEngine
from qedge.qkd.distillation.bits import join_bits
from qedge.qkd.distillation.bob import BobEngine
from qedge.qkd.distillation.model import Deliver, Effect, Halt, Learned, Report, Send, Work
from qedge.qkd.distillation.order import BASELINE, FRAME, HALTED, KEY, REPORT, STAGES, STOCKS, LinkStages
from qedge.qkd.distillation.ports import Bytes, Words
from qedge.qkd.distillation.stopwatch import Stopwatch
from qedge.qkd.finite_key.limits import Seen
from qedge.qkd.sifting.gaps import rises
from qedge.workers.driver_host import driver_errors, lied
from qedge_driver_api import DetectionBlock, Preparations, QkdTransceiver

_READ_S: Final = 0.02
"""For how long the device may be waited for: frames and calls wait as long."""

_ANNOUNCED: Final = 192 * 1024
"""Detections that are announced together, unless they take longer than `_HOLD_NS` to come."""

_HOLD_NS: Final = 40_000_000
_IDLE_S: Final = 0.2
_STAGES_NS: Final = 2_000_000_000
_LEVELS: Final = 4
"""Intensities at most."""

_MAX_FRAMES: Final = 64
"""Taken one after the other before anything else has its turn."""


class Source:
    """Alice's device as her engine sees it."""

    def __init__(self, device: QkdTransceiver, stopwatch: Stopwatch) -> None:
        self._device = device
        self._stopwatch = stopwatch

    def preparations(self, slots: Words) -> tuple[Bytes, Bytes, Bytes]:
        """Ask the device; raises `driver.lied` for an answer that cannot be."""
        with self._stopwatch.stage("device"), driver_errors():
            made = self._device.preparations(slots.astype("<u8", copy=False).tobytes())
        if not isinstance(made, Preparations):
            raise lied("preparations are none")
        bases, bits, levels = (np.frombuffer(column, np.uint8) for column in (made.bases, made.bits, made.intensities))
        if not len(bases) == len(bits) == len(levels) == len(slots):
            raise lied("the preparations do not fit the slots asked for")
        if len(slots) and max(int(bases.max()), int(bits.max())) > 1:
            raise lied("bits and bases of preparations are 0 or 1")
        if len(slots) and int(levels.max()) >= _LEVELS:
            raise lied(f"intensities of preparations are below {_LEVELS}")
        planes = np.stack([_packed(levels & np.uint8(1)), _packed(levels & np.uint8(2))])
        return _packed(bases), _packed(bits), planes

    def release(self, before_slot: int) -> None:
        """Let the device forget."""
        with self._stopwatch.stage("device"), driver_errors():
            self._device.release(before_slot)


class Course:
    """Call `work` again and again from the one thread that may call the device; `arrived` from any.

    `say` sends a message to the daemon, the first byte of which says what it is (see `order`).
    """

    def __init__(
        self,
        engine: AliceEngine | BobEngine,
        device: QkdTransceiver,
        *,
        say: Callable[[bytes], None],
        wake: Callable[[], None],
        stopwatch: Stopwatch,
    ) -> None:
        self._engine = engine
        self._device = device
        self._say = say
        self._wake = wake
        self._stopwatch = stopwatch
        self._frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
        self._kernels = ThreadPoolExecutor(1, "kernels")
        self._stages_ns = 0
        self._detections = 0
        self._began = False
        self._kept_changes = 0
        self._device_fault = ""
        self._read: list[tuple[int, int, tuple[Words, Bytes, Bytes]]] = []
        self._seen = Seen()
        self._announced_ns = 0

    def arrived(self, frame: bytes) -> None:
        """Take a frame of the other end."""
        self._frames.put(frame)
        self._wake()

    def close(self) -> None:
        """Drop everything."""
        self._kernels.shutdown(wait=False, cancel_futures=True)

    def work(self) -> float:
        """Do what is to do now; returns the seconds until there is more."""
        engine = self._engine
        if not self._began:
            self._began = True
            self._do(engine.start(_now_ns()))
        for _ in range(_MAX_FRAMES):
            with contextlib.suppress(queue.Empty):
                self._do(engine.worked(*self._results.get_nowait(), _now_ns()))
            try:
                frame = self._frames.get_nowait()
            except queue.Empty:
                break
            with self._stopwatch.stage("engine"):
                effects = engine.take(frame, _now_ns())
            self._do(effects)
        now_ns = _now_ns()
        deadline = engine.next_deadline()
        if deadline is not None and deadline <= now_ns:
            self._do(engine.tick(now_ns))
        if isinstance(engine, BobEngine) and engine.wants_detections:
            self._detect(engine)
            return 0.0
        if now_ns - self._stages_ns > _STAGES_NS:
            self._tell_stages(now_ns)
        if not (self._frames.empty() and self._results.empty()):
            return 0.0
        deadline = engine.next_deadline()
        return _IDLE_S if deadline is None else min(_IDLE_S, max(0.0, (deadline - _now_ns()) / 1e9))

    def _detect(self, engine: BobEngine) -> None:
        if _now_ns() - self._stages_ns > _STAGES_NS:
            self._tell_stages(_now_ns())
        try:
            with self._stopwatch.stage("device"), driver_errors():
                block = self._device.read_block(_READ_S)
        except QedgeError as error:
            self._device_fault = error.message  # the driver's health tells it, too; a dark fibre may come back
            time.sleep(_READ_S)
            return
        self._device_fault = ""
        if block is not None:
            arrays = checked_block(block)
            self._detections += len(arrays[0])
            if self._read and block.first_slot < self._read[-1][1]:
                self._announce(engine)  # the device counts its slots anew
            live = block.num_slots if block.live_slots < 0 else block.live_slots
            self._seen += Seen(live, len(arrays[0]), block.double_clicks)  # slots without a click were watched, too
            if len(arrays[0]):
                self._read.append((block.first_slot, block.first_slot + block.num_slots, arrays))
        if self._seen.clicks >= _ANNOUNCED or _now_ns() - self._announced_ns > _HOLD_NS:
            self._announce(engine)

    def _announce(self, engine: BobEngine) -> None:
        """Announce what was read, several blocks of the device together where they are small."""
        read, self._read = self._read, []
        self._announced_ns = _now_ns()
        if read:
            seen, self._seen = self._seen, Seen()
            slots, bases, bits = read[0][2] if len(read) == 1 else _together([each[2] for each in read])
            with self._stopwatch.stage("engine"):
                window = read[0][0], read[-1][1]
                effects = engine.detected(window, slots, bases, bits, seen, self._announced_ns)
            self._do(effects)

    def _keep_stocks(self) -> None:
        """Have the daemon know which pads are used before it gets a frame that shows it: none is used twice."""
        stocks = self._engine.stocks
        if stocks.changes != self._kept_changes:
            self._kept_changes = stocks.changes
            self._say(STOCKS + msgspec.msgpack.encode(stocks.kept()))

    def _do(self, effects: Sequence[Effect]) -> None:
        self._keep_stocks()
        for effect in effects:
            match effect:
                case Send(frame):
                    self._say(FRAME + frame)
                case Work():
                    self._kernels.submit(self._run, effect)
                case Deliver(block):
                    self._say(KEY + msgspec.msgpack.encode(block))
                case Report(report):
                    self._say(REPORT + msgspec.msgpack.encode(report))
                case Learned(baseline):
                    self._say(BASELINE + msgspec.msgpack.encode(baseline))
                case Halt(reason):
                    self._say(HALTED + reason.encode())

    def _run(self, work: Work) -> None:
        result: object
        try:
            result = work.run()
        except Exception as error:  # noqa: BLE001 - the engine hears of whatever the kernels raise
            result = error
        self._results.put((work.ticket, result))
        self._wake()

    def _tell_stages(self, now_ns: int) -> None:
        self._stages_ns = now_ns
        engine = self._engine
        stages = LinkStages(
            stages_ns=self._stopwatch.totals(),
            detections=self._detections,
            open_blocks=engine.open_blocks,
            waiting_bytes=engine.waiting_bytes,
            quarantined=engine.is_quarantined,
            running=engine.terms is not None,
            distilled_pads=engine.stocks.is_distilled,
            pads_left=engine.stocks.left,
            fault=self._device_fault,
        )
        self._say(STAGES + msgspec.msgpack.encode(stages))


def checked_block(block: object) -> tuple[Words, Bytes, Bytes]:
    """Return slots, packed bases and bits of a block of detections; raises `driver.lied` for one that cannot be."""
    if not isinstance(block, DetectionBlock):
        raise lied("a block is no DetectionBlock")
    if len(block.slots) != 8 * len(block.bits) or len(block.bases) != len(block.bits):
        raise lied("the arrays of a detection block do not fit together")
    if not (0 <= block.double_clicks <= len(block.bits) and -1 <= block.live_slots <= block.num_slots):
        raise lied("a detection block counts more than it holds")
    slots = np.frombuffer(block.slots, "<u8").astype(np.uint64, copy=False)
    bases, bits = (np.frombuffer(column, np.uint8) for column in (block.bases, block.bits))
    if not len(slots):
        return slots, bases.copy(), bits.copy()
    if block.first_slot < 0 or int(slots[0]) < block.first_slot or int(slots[-1]) >= block.first_slot + block.num_slots:
        raise lied("a detection outside its block")
    if not rises(slots):
        raise lied("slots do not increase")
    if max(int(bases.max()), int(bits.max())) > 1:
        raise lied("bits and bases of a detection block are 0 or 1")
    return slots, _packed(bases), _packed(bits)


def _packed(values: Bytes) -> Bytes:
    """Pack bytes, of which any but 0 is a one."""
    return np.packbits(values, bitorder="little")


def _together(read: Sequence[tuple[Words, Bytes, Bytes]]) -> tuple[Words, Bytes, Bytes]:
    slots = np.concatenate([each[0] for each in read])
    bases = join_bits([(each[1], len(each[0])) for each in read])
    return slots, bases, join_bits([(each[2], len(each[0])) for each in read])


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
