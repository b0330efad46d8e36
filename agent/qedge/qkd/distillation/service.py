"""Links that distil: frames between the workers of both ends, new beginnings, finished blocks to the key store."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine
from typing import Final

from qedge.base.backoff import Backoff
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.qkd.config import LinkConfig
from qedge.qkd.distillation.link_end import LinkEnd
from qedge.qkd.distillation.seed import label_of, run_of, seed_of
from qedge.qkd.ports import Baselines, KeySink, LinkDevice, LinkPeers
from qedge.wire.node import LinkView
from qedge.wire.qkd import Baseline, FinishedBlock, LinkFrames, LinkOpen, LinkOpened, LinkTaken, LinkWake

_LOG: Final = get_logger("qkd")
_SENDERS: Final = 4
_CALL_BYTES: Final = 128 * 1024
"""Frames are put together up to this size; a larger one goes by itself."""

_MAX_QUEUED_BYTES: Final = 24 << 20
_MAX_EARLY: Final = 32
_CALL_S: Final = 10.0
_OPEN_S: Final = 120.0
_PAUSE_S: Final = 0.3
_NONCE_BYTES: Final = 16
_WAKE_S: Final = 5.0
_FULL_POLL_S: Final = 1.0
MAX_LEAP: Final = 1 << 42
"""A block number of the other end so far beyond those here is none: 139 years in milliseconds. Numbers only ever rise
in both stores, so one that was believed would leave none for later blocks."""


class RemoteLink:
    """A link whose other end is at the node `config.peer`. The node with the lower name opens it."""

    def __init__(
        self,
        name: str,
        config: LinkConfig,
        device: LinkDevice,
        peers: LinkPeers,
        sink: KeySink,
        baselines: Baselines,
        *,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self.link = name
        self.peer = config.peer
        self._peers = peers
        self._sink = sink
        self._baselines = baselines
        self._clock = clock
        self._random_bytes = random_bytes
        self._opens = peers.me < config.peer
        self._run_id = b""
        self._next_block = 0
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._early: deque[LinkFrames] = deque(maxlen=_MAX_EARLY)
        self._more = asyncio.Event()
        self._woken = asyncio.Event()
        self._changing = asyncio.Lock()
        self._backoff = Backoff(0.5, 10.0)
        self._group: asyncio.TaskGroup | None = None
        self._end = LinkEnd(
            name,
            config,
            device,
            on_frame=self._queue_frame,
            on_block=self._deliver,
            on_baseline=self._learned,
            clock=clock,
            metrics=metrics,
        )

    @property
    def name(self) -> str:
        """Name of the service."""
        return f"link-{self.link}"

    def view(self) -> LinkView:
        """Describe the link."""
        return self._end.view()

    async def measure(self, _sifted: int) -> LinkView:
        """Describe the link: what it distils is measured all the time."""
        return self._end.view()

    async def run(self, ready: Ready) -> None:
        """Keep both ends distilling until cancelled."""
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for _ in range(_SENDERS):
                    group.create_task(self._send())
                await self._keep_open()
        finally:
            self._group = None
            self._run_id = b""
            self._end.stop()

    async def _keep_open(self) -> None:
        attempt = 0
        while True:
            await self._end.device_up()
            await self._room()
            try:
                await self._open() if self._opens else await self._ask_to_open()
                attempt = 0
            except QedgeError as error:
                attempt += 1
                self._end.say("waiting", error.message)
                _LOG.debug("qkd.not_opened", link=self.link, code=error.code, reason=error.message)
                await self._rest_s(self._backoff.delay_s(attempt, 1.0))
                continue
            await self._end.until_over()
            self._run_id = b""
            await asyncio.sleep(_PAUSE_S)

    async def _rest_s(self, pause_s: float) -> None:
        """Wait before the next attempt; the other end may say that it is ready now."""
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._woken.wait()

    async def _room(self) -> None:
        """Wait until the key store has room; key that cannot be kept need not be made."""
        while not self._sink.has_room(self.link):
            self._end.say("full", "The key store holds as much key of this link as it may.")
            await asyncio.sleep(_FULL_POLL_S)

    async def _open(self) -> None:
        """Begin anew at both ends: the other one first, so that no frame finds nobody."""
        async with self._changing:
            self._end.stop()  # what it keeps does not change any more
            session, exported = await self._peers.export(self.peer, label_of(self.link))
            nonce, first_block = self._random_bytes(_NONCE_BYTES), await self._first_block()
            open_ = LinkOpen(self.link, session, nonce, first_block, self._end.kept_stocks)
            opened = await self._peers.call(self.peer, open_, LinkOpened, deadline_s=_OPEN_S)
            self._check_leap(first_block, opened.first_block)
            await self._begin(exported, open_, opened)

    async def _ask_to_open(self) -> None:
        """Have the other node open the link where it does not do so by itself, and wait for it."""
        await self._wait_running(_PAUSE_S * 3)
        if self._end.is_running:
            return
        await self._peers.call(self.peer, LinkWake(self.link), LinkTaken, deadline_s=_CALL_S)
        await self._wait_running(_WAKE_S)
        if not self._end.is_running and not self._changing.locked():
            raise QedgeError("peer.timeout", f"{self.peer} did not open the link {self.link}.")
        async with self._changing:  # an opening that is under way
            return

    async def _wait_running(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._end.running.wait()

    async def _begin(self, exported: bytes, open_: LinkOpen, opened: LinkOpened) -> None:
        self._run_id = b""
        self._queue.clear()
        self._queued_bytes = 0
        first_block = max(open_.first_block, opened.first_block)
        common = {*open_.stocks} & {*opened.stocks}
        baseline = await self._baselines.load(self.link)
        await self._end.start(seed_of(exported, open_, opened), first_block, common, baseline)
        self._next_block = first_block
        self._run_id = run_of(open_, opened)
        self._more.set()
        early = list(self._early)
        self._early.clear()
        for frames in early:
            if frames.run == self._run_id:
                for frame in frames.frames:
                    self._end.tell(frame)

    async def _first_block(self) -> int:
        """Return a number above those of all earlier blocks: milliseconds since 1970 unless the clock went back."""
        kept = await self._sink.open(self.link, self.peer)
        return max(self._clock.utc_ns() // 1_000_000, self._next_block + 1, kept + 1)

    def _check_leap(self, ours: int, theirs: int) -> None:
        if theirs - ours > MAX_LEAP:
            raise QedgeError(
                "qkd.bad_block",
                f"{self.peer} wants to number blocks of {self.link} from {theirs}, far beyond those of this node.",
                fix=f"Set the clock of {self.peer}; where its key store is damaged, give the link a new name.",
            )

    # What the other node asks

    async def be_opened(self, open_: LinkOpen) -> LinkOpened:
        """Begin anew because the other node does."""
        if self._opens or self._group is None:
            raise QedgeError("peer.not_offered", f"The link {self.link} is opened by this node.")
        if not self._sink.has_room(self.link):
            raise QedgeError("qkd.store_full", f"The other end of {self.link} holds as much key as it may.")
        async with self._changing:
            nonce, first_block = self._random_bytes(_NONCE_BYTES), await self._first_block()
            self._check_leap(first_block, open_.first_block)
            _, exported = await self._peers.export(self.peer, label_of(self.link), open_.session)
            self._end.stop()  # what it keeps does not change any more
            opened = LinkOpened(nonce, first_block, self._end.kept_stocks)
            await self._begin(exported, open_, opened)
            return opened

    async def be_woken(self) -> LinkTaken:
        """Open the link anew because the other end needs that."""
        if self._opens and not self._changing.locked():
            self._end.over.set()
            self._woken.set()
        return LinkTaken()

    async def take(self, frames: LinkFrames) -> LinkTaken:
        """Give frames to the engine."""
        if self._changing.locked() and frames.run != self._run_id:
            self._early.append(frames)  # of an opening that is under way here
            return LinkTaken()
        if frames.run != self._run_id or not self._end.is_running:
            return LinkTaken(known=False)
        for frame in frames.frames:
            self._end.tell(frame)
        return LinkTaken()

    # What goes to the other node

    def _queue_frame(self, frame: bytes) -> None:
        if self._queued_bytes + len(frame) > _MAX_QUEUED_BYTES:
            return  # the engine sends it again
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._more.set()

    async def _send(self) -> None:
        while True:
            await self._more.wait()
            run_id = self._run_id
            frames = self._next_frames() if run_id else ()
            if not frames:
                self._more.clear()
                continue
            try:
                taken = await self._peers.call(
                    self.peer, LinkFrames(self.link, run_id, frames), LinkTaken, deadline_s=_CALL_S
                )
            except QedgeError:
                await asyncio.sleep(_PAUSE_S)  # the engine sends them again
                continue
            if not taken.known and run_id == self._run_id:
                self._end.over.set()

    def _next_frames(self) -> tuple[bytes, ...]:
        frames: list[bytes] = []
        size = 0
        while self._queue and len(frames) < 256 and (not frames or size + len(self._queue[0]) <= _CALL_BYTES):
            frame = self._queue.popleft()
            size += len(frame)
            frames.append(frame)
        self._queued_bytes -= size
        return tuple(frames)

    def _deliver(self, block: FinishedBlock) -> None:
        self._next_block = max(self._next_block, block.block_id)
        begin(self._group, self._keep(block))

    def _learned(self, baseline: Baseline) -> None:
        begin(self._group, keep_baseline(self._baselines, self.link, baseline))

    async def _keep(self, block: FinishedBlock) -> None:
        await keep(self._sink, block)
        if not self._sink.has_room(self.link):
            await self._end.rest()


def begin(group: asyncio.TaskGroup | None, work: Coroutine[None, None, None]) -> None:
    """Run something beside a link, unless it ends: its worker may say more while it does."""
    try:
        if group is not None:
            group.create_task(work)
            return
    except RuntimeError:  # it waits for nobody any more
        pass
    work.close()


async def keep(sink: KeySink, block: FinishedBlock) -> None:
    """Give a block to the key store; where it cannot be kept, the other end's store finds out and discards its own."""
    try:
        await sink.add_block(block)
    except QedgeError as error:
        _LOG.error("qkd.lost", link=block.link, block=block.block_id, reason=error.message)


async def keep_baseline(baselines: Baselines, link: str, baseline: Baseline) -> None:
    """Keep what a link has learned; where that fails the worker still knows it, and the next one learns it anew."""
    gain = baseline.clicks / max(baseline.slots, 1.0)
    _LOG.info("qkd.learned", link=link, blocks=baseline.blocks, gain=round(gain, 6))
    with contextlib.suppress(QedgeError):  # the store says itself what is wrong with the disk
        await baselines.save(link, baseline)


class LinkDesk:
    """Answers what peers ask about links: each only about those that it is the other end of."""

    def __init__(self, peers: LinkPeers) -> None:
        self._links: dict[tuple[str, str], RemoteLink] = {}
        peers.serve(LinkOpen, self._open)
        peers.serve(LinkWake, self._wake)
        peers.serve(LinkFrames, self._frames)

    def add(self, link: RemoteLink) -> None:
        """Take a link in."""
        self._links[link.peer, link.link] = link

    async def _open(self, peer: str, open_: LinkOpen) -> LinkOpened:
        return await self._find(peer, open_.link).be_opened(open_)

    async def _wake(self, peer: str, wake: LinkWake) -> LinkTaken:
        return await self._find(peer, wake.link).be_woken()

    async def _frames(self, peer: str, frames: LinkFrames) -> LinkTaken:
        return await self._find(peer, frames.link).take(frames)

    def _find(self, peer: str, name: str) -> RemoteLink:
        link = self._links.get((peer, name))
        if link is None:
            raise QedgeError("peer.not_offered", f"This node has no link {name} with {peer}.")
        return link
