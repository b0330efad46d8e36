"""A link that distils with both ends on this box: frames go from one worker to the other."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.qkd.config import LinkConfig
from qedge.qkd.distillation.link_end import LinkEnd
from qedge.qkd.distillation.seed import SEED_BYTES
from qedge.qkd.distillation.service import begin, keep, keep_baseline
from qedge.qkd.ports import Baselines, KeySink, LinkDevice
from qedge.wire.node import LinkView
from qedge.wire.qkd import Baseline, FinishedBlock

_LOG: Final = get_logger("qkd")
_PAUSE_S: Final = 1.0
_MAX_SINGLE: Final = 64


class LocalLink:
    """Both ends of a fibre. A block goes to the key store once both ends have handed it out, equal."""

    def __init__(
        self,
        name: str,
        config: LinkConfig,
        alice: LinkDevice,
        bob: LinkDevice,
        sink: KeySink,
        baselines: Baselines,
        *,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self.link = name
        self._sink = sink
        self._baselines = baselines
        self._clock = clock
        self._random_bytes = random_bytes
        self._next_block = 0
        self._single: dict[int, FinishedBlock] = {}
        self._group: asyncio.TaskGroup | None = None

        def end(device: LinkDevice, metrics: Metrics) -> LinkEnd:
            return LinkEnd(
                name,
                config,
                device,
                on_frame=lambda frame: self._other(device).tell(frame),
                on_block=self._deliver,
                on_baseline=self._learned,
                clock=clock,
                metrics=metrics,
            )

        self._alice, self._bob = end(alice, Metrics()), end(bob, metrics)  # one end alone counts

    @property
    def name(self) -> str:
        """Name of the service."""
        return f"link-{self.link}"

    def view(self) -> LinkView:
        """Describe the link as Bob sees it."""
        return msgspec.structs.replace(self._bob.view(), alice=self._alice.device.name)

    async def measure(self, _sifted: int) -> LinkView:
        """Describe the link: what it distils is measured all the time."""
        return self.view()

    async def run(self, ready: Ready) -> None:
        """Keep both ends distilling until cancelled."""
        ready()
        ends = (self._alice, self._bob)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                while True:
                    for end in ends:
                        await end.device_up()
                    await self._live()
                    await asyncio.sleep(_PAUSE_S)
        finally:
            self._group = None
            for end in ends:
                end.stop()

    async def _live(self) -> None:
        """Distil until either end is over."""
        seed = self._random_bytes(SEED_BYTES)
        first_block = self._next_block = max(self._clock.utc_ns() // 1_000_000, self._next_block + 1)
        for end in (self._alice, self._bob):
            end.stop()
        common = {*self._alice.kept_stocks} & {*self._bob.kept_stocks}
        try:
            await self._alice.start(seed, first_block, common)
            await self._bob.start(seed, first_block, common, await self._baselines.load(self.link))
        except QedgeError as error:
            _LOG.debug("qkd.not_opened", link=self.link, code=error.code, reason=error.message)
            self._bob.say("waiting", error.message)
            return
        waits = [asyncio.ensure_future(end.until_over()) for end in (self._alice, self._bob)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _other(self, device: LinkDevice) -> LinkEnd:
        return self._bob if device is self._alice.device else self._alice

    def _learned(self, baseline: Baseline) -> None:
        begin(self._group, keep_baseline(self._baselines, self.link, baseline))

    def _deliver(self, block: FinishedBlock) -> None:
        self._next_block = max(self._next_block, block.block_id)
        other = self._single.pop(block.block_id, None)
        if other is None:
            self._single[block.block_id] = block
            while len(self._single) > _MAX_SINGLE:
                del self._single[min(self._single)]
        elif other.bits != block.bits:
            _LOG.error("qkd.lost", link=self.link, block=block.block_id, reason="the ends hold different bits")
        else:
            begin(self._group, keep(self._sink, block))
