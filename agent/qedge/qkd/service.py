"""One link whose two ends are on this box: takes blocks from Bob, asks Alice, measures the raw error rate."""

from __future__ import annotations

import asyncio
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.qkd.config import LinkConfig
from qedge.qkd.model import Detections, RawWindow, Verdict, detections_from, prepared_from
from qedge.qkd.ports import TransceiverPort
from qedge.qkd.raw import judge, judge_finally, sift
from qedge.wire.node import LinkView

_LOG: Final = get_logger("qkd")
MAX_SIFTED: Final = 1_000_000
_MAX_WINDOWS: Final = 4
_DECIDING_SIFTED: Final = 100_000
"""A verdict that needs more bits than were asked for gets at most so many, or `_MAX_WINDOWS` times as many."""
_MAX_EMPTY_BLOCKS: Final = 20
"""So many blocks without any detection are enough to say that the fibre is dark."""
_GRACE_S: Final = 3.0
"""What a worker may take beyond the time that its driver was given."""


class LinkService:
    """Measures on request only; an idle link costs nothing."""

    def __init__(
        self,
        name: str,
        config: LinkConfig,
        alice: TransceiverPort,
        bob: TransceiverPort,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.name = name
        self._config = config
        self._alice = alice
        self._bob = bob
        self._clock = clock
        self._metrics = metrics
        self._one_at_a_time = asyncio.Lock()
        self._view = LinkView(name=name, alice=alice.name, bob=bob.name)

    def view(self) -> LinkView:
        """Describe the link with its last window."""
        return self._view

    async def measure(self, sifted: int) -> LinkView:
        """Take blocks until about `sifted` bits are sifted and the verdict is certain, or the deadline has passed.

        Raises what the drivers raise, `driver.lied` for impossible answers, `worker.unavailable` and `job.bad_request`.
        """
        if not 1 <= sifted <= MAX_SIFTED:
            raise QedgeError("job.bad_request", f"Ask for 1 to {MAX_SIFTED} sifted bits.", limit=MAX_SIFTED)
        for end in (self._alice, self._bob):
            if not end.is_up:
                raise QedgeError(
                    "worker.unavailable",
                    f"The end {end.name} of the link {self.name} is not up.",
                    fix="`qedge drivers list` says why.",
                )
        try:
            await asyncio.wait_for(self._one_at_a_time.acquire(), self._config.measure_deadline_s)
        except TimeoutError:
            raise QedgeError(
                "worker.unavailable", f"Others measure the link {self.name} without end.", fix="Try again later."
            ) from None
        try:
            window, verdict = await self._window(sifted)
        finally:
            self._one_at_a_time.release()
        both = window.both
        self._view = LinkView(
            name=self.name,
            alice=self._alice.name,
            bob=self._bob.name,
            sifted=both.sifted,
            errors=both.errors,
            qber=window.qber,
            gain=window.gain,
            verdict=verdict.value,
        )
        if both.sifted:
            self._metrics.set("qedge_qkd_qber_ratio", window.qber, (self.name,))
        _LOG.info("qkd.window", link=self.name, sifted=both.sifted, qber=window.qber, verdict=verdict.value)
        return self._view

    async def _window(self, wanted: int) -> tuple[RawWindow, Verdict]:
        deadline_ns = self._clock.now_ns() + round(self._config.measure_deadline_s * 1e9)
        window, empty_blocks = RawWindow(), 0
        most = max(_MAX_WINDOWS * wanted, _DECIDING_SIFTED)
        while window.both.sifted < most and empty_blocks < _MAX_EMPTY_BLOCKS:
            left_s = (deadline_ns - self._clock.now_ns()) / 1e9
            if left_s <= 0:
                break
            block = await self._next_block(min(left_s, self._config.block_timeout_s))
            if block is None:
                continue
            window += await self._compare(block)
            empty_blocks = 0 if block.number else empty_blocks + 1
            verdict = judge(window, self._config.max_qber)
            if verdict is not None and window.both.sifted >= wanted:
                return window, verdict
        return window, judge_finally(window, self._config.max_qber)

    async def _next_block(self, timeout_s: float) -> Detections | None:
        answer = await self._bob.call("read_block", {"timeout_s": timeout_s}, deadline_s=timeout_s + _GRACE_S)
        return detections_from(answer)

    async def _compare(self, block: Detections) -> RawWindow:
        """Ask Alice about a block, sift it, and let her forget it; a key would be distilled from the same answers."""
        deadline_s = self._config.block_timeout_s + _GRACE_S
        prepared = prepared_from(
            await self._alice.call("preparations", {"slots": block.slots}, deadline_s=deadline_s), block.number
        )
        self._metrics.add("qedge_qkd_detections_total", (self.name,), block.number)
        counts = sift(block, prepared)
        await self._alice.call("release", {"before_slot": block.end_slot}, deadline_s=deadline_s)
        return counts
