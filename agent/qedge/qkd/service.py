"""One link whose two ends are on this box: takes windows of raw detections and judges them."""

from __future__ import annotations

import asyncio
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.qkd.config import LinkConfig
from qedge.qkd.ports import TransceiverPort
from qedge.qkd.raw import RawCount, count, verdict
from qedge.wire.node import LinkView
from qedge.workers.model import Msg

_LOG: Final = get_logger("qkd")
MIN_SIFTED: Final = 100
MAX_SIFTED: Final = 200_000
_CALL_S: Final = 10.0
_WINDOW_S: Final = 30.0
_CHUNK: Final = 16_384
_EMPTY_BLOCKS: Final = 50
"""So many blocks without a detection, one after the other, are a dark fibre."""


class LinkService:
    """Asks Bob for detections and Alice for what she prepared in those slots."""

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
        self._lock = asyncio.Lock()
        self._view = LinkView(name=name, alice=config.alice, bob=config.bob)

    def view(self) -> LinkView:
        """Return the last window."""
        return self._view

    async def measure(self, sifted: int) -> LinkView:
        """Take one window of at least `sifted` sifted detections; one at a time."""
        if not MIN_SIFTED <= sifted <= MAX_SIFTED:
            raise QedgeError(
                "job.bad_request",
                f"A window has {MIN_SIFTED} to {MAX_SIFTED} sifted detections.",
                fix="Ask for another number.",
                limit=MAX_SIFTED,
            )
        for end in (self._alice, self._bob):
            if not end.is_up:
                raise QedgeError(
                    "worker.unavailable",
                    f"The end {end.name} of link {self.name} is not up.",
                    fix="`qedge drivers list` shows why.",
                )
        async with self._lock:
            try:
                async with asyncio.timeout(_WINDOW_S):
                    found = await self._take_window(sifted)
            except TimeoutError:
                raise QedgeError(
                    "worker.deadline", f"Link {self.name} gave too few detections within {_WINDOW_S:g} s."
                ) from None
        self._view = LinkView(
            name=self.name,
            alice=self._config.alice,
            bob=self._config.bob,
            sifted=found.sifted,
            errors=found.errors,
            qber=found.qber,
            gain=found.gain,
            verdict=verdict(found),
        )
        self._metrics.add("qedge_qkd_detections_total", (self.name,), found.detections)
        self._metrics.set("qedge_qkd_qber_ratio", found.qber, (self.name,))
        _LOG.info("qkd.window", link=self.name, sifted=found.sifted, qber=round(found.qber, 5))
        return self._view

    async def _take_window(self, wanted: int) -> RawCount:
        total, empty = RawCount(), 0
        while total.sifted < wanted and empty < _EMPTY_BLOCKS:
            block = await self._bob.call("read_block", {"timeout_s": 1.0}, deadline_s=_CALL_S)
            if not isinstance(block, dict):
                empty += 1
                continue
            found = await self._sift(block)
            empty = 0 if found.detections else empty + 1
            total += found
        return total

    async def _sift(self, block: dict[str, Msg]) -> RawCount:
        slots, bases, bits = (_bytes(block, key) for key in ("slots", "bases", "bits"))
        first_slot, num_slots = _whole(block, "first_slot"), _whole(block, "num_slots")
        if len(slots) != 8 * len(bits) or len(bases) != len(bits):
            raise _lied("the arrays of a block do not fit together")
        total = RawCount(slots=num_slots)
        for start in range(0, len(bits), _CHUNK):
            part = slice(start, start + _CHUNK)
            wanted = slots[8 * start : 8 * (start + _CHUNK)]
            answer = await self._alice.call("preparations", {"slots": wanted}, deadline_s=_CALL_S)
            made = answer if isinstance(answer, dict) else {}
            try:
                total += count(_bytes(made, "bases"), _bytes(made, "bits"), bases[part], bits[part], 0)
            except ValueError as error:
                raise _lied(str(error)) from error
            await asyncio.sleep(0)
        await self._alice.call("release", {"before_slot": first_slot + num_slots}, deadline_s=_CALL_S)
        return total


def _bytes(values: dict[str, Msg], key: str) -> bytes:
    value = values.get(key)
    if not isinstance(value, bytes):
        raise _lied(f"{key} is missing")
    return value


def _whole(values: dict[str, Msg], key: str) -> int:
    value = values.get(key)
    if not isinstance(value, int) or value < 0:
        raise _lied(f"{key} is no slot number")
    return value


def _lied(why: str) -> QedgeError:
    return QedgeError("driver.lied", f"A transceiver's answer cannot be true: {why}.", fix="Look at the driver.")
