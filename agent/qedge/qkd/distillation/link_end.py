"""One end of a link as the daemon sees it: a stream to the worker that distils, and what has come of it so far."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.qkd.authentication.stock import KeptStock
from qedge.qkd.config import LinkConfig
from qedge.qkd.distillation.baseline import Expected
from qedge.qkd.distillation.order import BASELINE, FRAME, HALTED, KEY, REPORT, STAGES, STOCKS, DistilOrder, LinkStages
from qedge.qkd.ports import LinkDevice
from qedge.wire.node import LinkView
from qedge.wire.qkd import Baseline, BlockReport, FinishedBlock
from qedge.workers.process import WorkerProcess

_LOG: Final = get_logger("qkd")
_START_S: Final = 120.0
_POLL_S: Final = 0.25
_LOOK_S: Final = 1.0
_REST_S: Final = 10.0
_RATE_BLOCKS: Final = 16
_MIN_RATE_BLOCKS: Final = 2
_OVERDUE: Final = 4
_LATE_NS: Final = 1_000_000_000
"""After four times the usual time between blocks, and a second, none is expected any more."""


class LinkEnd:
    """Starts the engine in the worker of `device`; hands out its frames and blocks; keeps the view.

    `on_frame` gets frames for the other end, `on_block` finished blocks, `on_baseline` what is learned of the link,
    for the next start; `over` is set when a new start is needed.
    """

    def __init__(
        self,
        link: str,
        config: LinkConfig,
        device: LinkDevice,
        *,
        on_frame: Callable[[bytes], None],
        on_block: Callable[[FinishedBlock], None],
        on_baseline: Callable[[Baseline], None],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.link = link
        self.device = device
        self.over = asyncio.Event()
        self.running = asyncio.Event()
        self._config = config
        self._on_frame = on_frame
        self._on_block = on_block
        self._on_baseline = on_baseline
        self._clock = clock
        self._metrics = metrics
        self._process: WorkerProcess | None = None
        self._stream = -1
        self._kept: tuple[KeptStock, ...] = ()
        self._stages: dict[str, int] = {}
        self._burnt_bits = 0
        self._detections = 0
        self._rates: deque[tuple[int, int]] = deque(maxlen=_RATE_BLOCKS)
        self._view = LinkView(name=link, alice="", bob="", peer=config.peer, state="waiting")

    def view(self) -> LinkView:
        """Describe the link; the rate is that of the last blocks until now, 0 where no more of them come."""
        return msgspec.structs.replace(self._view, key_bit_s=self._rate() if self.is_running else 0.0)

    def _rate(self) -> float:
        if len(self._rates) < _MIN_RATE_BLOCKS:
            return 0.0
        first_ns, last_ns, now_ns = self._rates[0][0], self._rates[-1][0], self._clock.now_ns()
        usual_ns = (last_ns - first_ns) / (len(self._rates) - 1)
        if now_ns - last_ns > _OVERDUE * usual_ns + _LATE_NS:
            return 0.0
        return sum(bits for _, bits in self._rates) / (max(now_ns - first_ns, 1) / 1e9)

    @property
    def is_running(self) -> bool:
        """Whether an engine runs."""
        return self.running.is_set() and not self.over.is_set()

    async def until_over(self) -> None:
        """Wait until a new start is needed; a transceiver that is locked or down rests until it is up again."""
        while not self.over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self.over.wait()
            if not self.device.is_up and self.running.is_set():
                await self.rest()
                self.say("waiting", f"{self.device.name} is not up")

    async def rest(self) -> None:
        """Have the worker stop distilling, until a new start."""
        process, stream = self._process, self._stream
        self.stop()
        with contextlib.suppress(QedgeError):
            if process is not None and process.is_alive:
                await process.call("rest", {"stream": stream}, deadline_s=_REST_S)
        self.over.set()

    async def device_up(self) -> None:
        """Wait until the transceiver can be used."""
        while not self.device.is_up:  # noqa: ASYNC110 - nobody tells when a driver comes up
            await asyncio.sleep(_POLL_S)

    @property
    def kept_stocks(self) -> tuple[int, ...]:
        """The stocks of distilled pads that outlived the worker that made them, by id."""
        return tuple(stock.id for stock in self._kept)

    async def start(
        self, seed: bytes, first_block: int, stocks: Collection[int] = (), baseline: Baseline | None = None
    ) -> None:
        """Begin anew, with the kept stocks named, which the other end has as well; raises what the worker raises."""
        self.stop()
        self._kept = tuple(stock for stock in self._kept if stock.id in stocks)
        self.over.clear()
        process = self.device.process()
        config = self._config
        stream = process.open_stream(self._taken, self._broken)
        self._process, self._stream = process, stream
        self._stages, self._burnt_bits, self._detections = {}, 0, 0
        self._rates.clear()
        order = DistilOrder(
            stream,
            self.link,
            seed,
            first_block,
            config.block_bits,
            config.epsilons,
            config.max_qber,
            config.clean_blocks,
            self._kept,
            Expected(config.gain_tolerance, config.expected_loss_db, config.commissioning, baseline),
        )
        try:
            said = await self.device.call(
                "distil", msgspec.to_builtins(order, builtin_types=(bytes,)), deadline_s=_START_S
            )
        except BaseException:
            self.stop()
            self.over.set()
            raise
        is_alice = isinstance(said, dict) and said.get("role") == "alice"
        name = self.device.name
        self.running.set()
        self._change(alice=name if is_alice else "", bob="" if is_alice else name, state="running", reason="")
        _LOG.info("qkd.opened", link=self.link, peer=config.peer, first_block=first_block)

    def stop(self) -> None:
        """Let the worker rest."""
        self.running.clear()
        process, self._process = self._process, None
        if process is not None:
            process.end_stream(self._stream)

    def tell(self, frame: bytes) -> None:
        """Give the engine a frame of the other end; lost where no engine runs."""
        if self._process is not None:
            try:
                self._process.tell(self._stream, frame)
            except QedgeError:
                self.over.set()

    def say(self, state: str, reason: str) -> None:
        """Put state and reason into the view."""
        self._change(state=state, reason=reason)

    def _change(self, **changes: str | float | bool | dict[str, float]) -> None:
        self._view = msgspec.structs.replace(self._view, **changes)

    def _broken(self, error: QedgeError) -> None:
        self._process = None
        self._change(state="waiting", reason=error.message)
        self.over.set()

    def _taken(self, message: bytes | str) -> None:
        if not isinstance(message, bytes):
            return
        try:
            self._act(message[:1], message[1:])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise QedgeError("worker.bad_answer", f"The link worker said what cannot be read ({error}).") from error

    def _act(self, kind: bytes, body: bytes) -> None:
        if kind == FRAME:
            self._on_frame(body)
        elif kind == KEY:
            block = msgspec.msgpack.decode(body, type=FinishedBlock)
            made = msgspec.structs.replace(block.provenance, created_utc_ns=self._clock.utc_ns())
            self._on_block(msgspec.structs.replace(block, provenance=made))
        elif kind == REPORT:
            self._report(msgspec.msgpack.decode(body, type=BlockReport))
        elif kind == STAGES:
            self._note(msgspec.msgpack.decode(body, type=LinkStages))
        elif kind == STOCKS:
            self._kept = msgspec.msgpack.decode(body, type=tuple[KeptStock, ...])
        elif kind == BASELINE:
            self._on_baseline(msgspec.msgpack.decode(body, type=Baseline))
        elif kind == HALTED:
            reason = body.decode("utf-8", "replace")
            _LOG.warning("qkd.halted", link=self.link, reason=reason)
            self._change(state="stopped", reason=reason)
            self.over.set()

    def _report(self, report: BlockReport) -> None:
        metrics, link, view = self._metrics, (self.link,), self._view
        metrics.add("qedge_qkd_blocks_total", (self.link, report.outcome))
        metrics.add("qedge_qkd_authentication_bits_total", link, max(0, report.burnt_bits - self._burnt_bits))
        metrics.set("qedge_qkd_quarantined", 1.0 if report.quarantined else 0.0, link)
        self._burnt_bits = max(self._burnt_bits, report.burnt_bits)
        qber = report.qber if report.qber >= 0 else report.test_qber
        if report.gain >= 0:
            metrics.set("qedge_qkd_gain_ratio", report.gain, link)
            self._change(gain=report.gain)
        if qber >= 0:
            metrics.set("qedge_qkd_qber_ratio", qber, link)
        if report.outcome == "key":
            self._keyed(report)
            return
        state = "quarantined" if report.quarantined else "running"
        self._change(blocks_dropped=view.blocks_dropped + 1, qber=qber, state=state, reason=report.reason)
        fields = {"link": self.link, "block": report.block, "reason": report.reason, "qber": round(qber, 5)}
        if report.quarantined and report.outcome == "dropped":
            _LOG.error("qkd.alarm", **fields)
        elif report.reason != view.reason:
            _LOG.info("qkd.dropped", outcome=report.outcome, **fields)
        else:
            _LOG.debug("qkd.dropped", outcome=report.outcome, **fields)

    def _keyed(self, report: BlockReport) -> None:
        metrics, link, view = self._metrics, (self.link,), self._view
        metrics.add("qedge_qkd_key_bits_total", link, report.key_bits)
        metrics.add("qedge_qkd_sifted_bits_total", link, report.sifted_bits)
        metrics.add("qedge_qkd_leaked_bits_total", link, report.leaked_bits)
        metrics.add("qedge_qkd_wire_bits_total", link, report.wire_bits)
        metrics.add("qedge_qkd_reserved_bits_total", link, report.reserved_bits)
        metrics.set("qedge_qkd_efficiency_ratio", report.efficiency, link)
        if not self._rates:
            self._rates.append((self._clock.now_ns(), 0))  # the time that the first block took is not known
        else:
            self._rates.append((self._clock.now_ns(), report.key_bits))
        self._change(
            sifted=report.sifted_bits,
            errors=round(report.qber * report.sifted_bits),
            qber=report.qber,
            state="running",
            reason="",
            verdict="clear",
            blocks=view.blocks + 1,
            key_bits=view.key_bits + report.key_bits,
            last_block=report.block,
            leaked_bits=report.leaked_bits,
            efficiency=report.efficiency,
            authentication_bits=self._burnt_bits,
            wire_bits_per_sifted=report.wire_bits / max(1, report.sifted_bits),
        )
        _LOG.info("qkd.block", link=self.link, block=report.block, key_bits=report.key_bits, qber=round(report.qber, 5))

    def _note(self, stages: LinkStages) -> None:
        for stage, total_ns in stages.stages_ns.items():
            more_ns = max(0, total_ns - self._stages.get(stage, 0))
            self._metrics.add("qedge_qkd_stage_seconds_total", (self.link, stage), more_ns / 1e9)
        self._stages = dict(stages.stages_ns)
        self._metrics.add("qedge_qkd_detections_total", (self.link,), max(0, stages.detections - self._detections))
        self._detections = stages.detections
        self._change(
            stages_s={stage: total_ns / 1e9 for stage, total_ns in stages.stages_ns.items()},
            distilled_pads=stages.distilled_pads,
        )
        if stages.fault:
            self._change(reason=stages.fault)
