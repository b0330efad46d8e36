"""Compares what the fleet shares with a node of the cloud, so that whatever was lost on the way is found in the end.

A broker acknowledges what it keeps for a node of the cloud, and forgets it with the session, or where its queue is
full; that node may be killed before its disk had room. None of that is seen from below. So both maps are compared, as
peers of a site do inside their sessions, in signed messages that are small enough for any broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.orchestrator.state.exchange import Compared, pack, unpack
from qedge.orchestrator.state.replica import Replica
from qedge.orchestrator.uplink.asking import Asks
from qedge.wire.state import MAX_LOAD, StateHeads
from qedge.wire.topics import Channel
from qedge.wire.uplink import SharedAsk, SharedTold

_LOG: Final = get_logger("uplink")
_SETTLE_S: Final = 2.0
_SPREAD_S: Final = 28.0
"""All boxes may come back to the broker of the cloud at once."""

_LOOK_S: Final = 1.0
MOST_BYTES: Final = 48 * 1024
"""Of the entries in one message, so that it is below 64 KiB with signature and certificates."""
_LEAST_BYTES: Final = 4 * 1024

TakeIn = Callable[[bytes], Awaitable[bool]]
"""Checks a signed entry that the cloud handed over and takes it in; says whether it was new."""


class CloudComparison:
    """Compares soon after a connection, and then every `compare_s`; sooner, in growing steps, where the maps differed
    or nobody answered. What is about to go up by itself goes first.
    """

    def __init__(
        self,
        node: str,
        compare_s: float,
        replica: Replica,
        asks: Asks,
        take_in: TakeIn,
        may_compare: Callable[[], Awaitable[bool]],
        metrics: Metrics,
    ) -> None:
        place = int.from_bytes(hashlib.sha3_256(node.encode()).digest()[:4], "big") / 2**32
        self._soon_s = min(compare_s, _SETTLE_S + place * _SPREAD_S)
        self._compare_s = compare_s
        self._replica = replica
        self._asks = asks
        self._take_in = take_in
        self._may_compare = may_compare
        self._metrics = metrics
        self._session = asyncio.Event()

    def connected(self) -> None:
        """Take note of a new connection."""
        self._session.set()

    async def run(self) -> None:
        """Compare until cancelled."""
        again_s = wait_s = self._soon_s
        while True:
            if await _set_within(self._session, wait_s):
                self._session.clear()
                again_s = wait_s = self._soon_s
                continue
            if not await self._may_compare():
                wait_s = min(_LOOK_S, self._compare_s)
                continue
            found = await self._compare_once()
            if found is not None and not found.differed:
                again_s, wait_s = self._soon_s, self._compare_s
            else:  # what one of them refuses differs for ever
                again_s = wait_s = min(self._compare_s, 2 * again_s)

    async def _compare_once(self) -> Compared | None:
        try:
            found = await self.compare()
        except QedgeError as error:
            _LOG.debug("uplink.not_compared", code=error.code)
            self._metrics.add("qedge_uplink_comparisons_total", ("failed",))
            return None
        self._metrics.add("qedge_uplink_comparisons_total", ("differed" if found.differed else "alike",))
        if found.differed:
            _LOG.info("uplink.compared", got=found.got, gave=found.gave)
        return found

    async def compare(self) -> Compared:
        """Make both maps alike, as far as each takes what the other holds; raises `bus.*`, `auth.*`."""
        differing, got, gave = self._replica.differing((await self._ask(SharedAsk())).sums), 0, 0
        while differing:
            told = await self._ask(SharedAsk(buckets=tuple(differing)))
            seen = set(told.buckets)
            rest = [bucket for bucket in differing if bucket not in seen]
            if len(rest) == len(differing):
                break  # it goes by other rules, and answers nothing of it
            differing = rest
            wants, offers = self._replica.compare(StateHeads(told.buckets, told.heads))
            got += await self._fetch(wants)
            gave += await self._give(offers)
        return Compared(got, gave)

    async def _ask(self, question: SharedAsk) -> SharedTold:
        return await self._asks.ask(Channel.COMPARE, question, SharedTold)

    async def _fetch(self, wants: list[bytes]) -> int:
        new = 0
        while wants:
            told = await self._ask(SharedAsk(wants=tuple(wants[:MAX_LOAD])))
            messages = unpack(told.load)
            for data in messages:
                with contextlib.suppress(QedgeError):  # counted by who checks; what follows may be good
                    new += await self._take_in(data)
            wants = wants[len(messages) :] if messages else wants[MAX_LOAD:]
        return new

    async def _give(self, offers: list[bytes]) -> int:
        gave, most = 0, MOST_BYTES
        while offers and (entries := self._replica.load(offers)):
            load = pack(entries, most)
            last = max(len(load.entries), 1)
            try:
                await self._ask(SharedAsk(load=load))
                gave += last
            except QedgeError as error:
                if error.code != "bus.too_large":
                    raise
                if last > 1 and most > _LEAST_BYTES:
                    most //= 2  # a broker may take less than others
                    continue
            offers = offers[offers.index(entries[last - 1].ident) + 1 :]
        return gave


async def _set_within(event: asyncio.Event, limit_s: float) -> bool:
    """Wait for an event, not longer than a time; says whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await event.wait()
    return event.is_set()
