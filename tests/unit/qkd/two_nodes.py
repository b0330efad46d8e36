"""Two nodes with one link, all in one loop: sessions that are dictionaries, workers that are objects."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar, cast

import msgspec
import numpy as np

from qedge.base.errors import QedgeError
from qedge.qkd.authentication.stock import KeyStocks
from qedge.qkd.distillation.alice import AliceEngine
from qedge.qkd.distillation.bob import BobEngine
from qedge.qkd.distillation.course import Course
from qedge.qkd.distillation.model import EngineSettings, Epsilons
from qedge.qkd.distillation.order import DistilOrder
from qedge.qkd.distillation.ports import Bytes
from qedge.qkd.distillation.stopwatch import Stopwatch
from qedge.wire.qkd import Baseline, FinishedBlock
from qedge.workers.model import Msg
from qedge.workers.process import Broken, Taken, WorkerProcess
from qedge_driver_api import DetectionBlock, QkdTransceiver
from tests.unit.qkd.two_ends import SIDE, Light, ToyKernels

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class LitDevice:
    """Bob's device: detections of the light that both share."""

    def __init__(self, light: Light) -> None:
        self.light = light

    def read_block(self, _timeout_s: float) -> DetectionBlock:
        """Give the next block."""
        first, end, slots, bases, bits = self.light.detect(40_000)
        return DetectionBlock(first, end - first, slots.tobytes(), bases.tobytes(), bits.tobytes())


class ToyWorker:
    """Speaks as a `WorkerProcess` with a link worker in it, which runs in a task of the loop."""

    def __init__(self, role: str, light: Light, known: dict[bytes, Bytes]) -> None:
        self.role = role
        self.light = light
        self.kernels = ToyKernels(known)
        self.taken: Taken | None = None
        self.broken: Broken | None = None
        self.course: Course | None = None
        self.task: asyncio.Task[None] | None = None
        self.starts = 0
        self.restored: list[int] = []
        self.known: list[int] = []
        """Blocks learned from before each start."""

    def open_stream(self, taken: Taken, broken: Broken) -> int:
        """See `WorkerProcess`."""
        self.taken, self.broken = taken, broken
        return 7

    def tell(self, _stream_id: int, message: bytes) -> None:
        """See `WorkerProcess`."""
        if self.course is not None:
            self.course.arrived(message)

    def end_stream(self, _stream_id: int) -> None:
        """See `WorkerProcess`."""
        self.rest()

    async def call(self, method: str, args: Mapping[str, Msg], *, deadline_s: float) -> Msg:
        """See `WorkerProcess`."""
        assert deadline_s > 0
        if method == "rest":
            self.rest()
            return None
        assert method == "distil"
        order = msgspec.convert(dict(args), DistilOrder)
        self.rest()
        self.starts += 1
        settings = EngineSettings(order.link, order.block_bits, Epsilons(*order.epsilons), refill_blocks=8)
        stocks = KeyStocks(order.seed, order.link)
        stocks.restore(order.stocks)
        self.known.append(order.expected.baseline.blocks if order.expected.baseline is not None else 0)
        self.restored += [stock.id for stock in order.stocks]
        engine: AliceEngine | BobEngine
        if self.role == "alice":
            engine = AliceEngine(
                settings,
                SIDE,
                self.light,
                self.kernels,
                stocks,
                random_bytes=secrets.token_bytes,
                first_block=order.first_block,
            )
        else:
            engine = BobEngine(
                settings,
                0.9,
                self.kernels,
                stocks,
                random_bytes=secrets.token_bytes,
                first_block=order.first_block,
                expected=order.expected,
            )
        self.course = Course(
            engine,
            cast("QkdTransceiver", LitDevice(self.light)),
            say=lambda message: self.taken(message) if self.taken else None,
            wake=lambda: None,
            stopwatch=Stopwatch(),
        )
        self.task = asyncio.get_running_loop().create_task(self._work(self.course))
        return {"role": self.role}

    async def _work(self, course: Course) -> None:
        while True:
            course.work()
            await asyncio.sleep(0.001)

    def rest(self) -> None:
        """Stop the engine."""
        if self.task is not None:
            self.task.cancel()
        if self.course is not None:
            self.course.close()
        self.course = self.task = None

    @property
    def is_alive(self) -> bool:
        """See `WorkerProcess`."""
        return True

    def die(self) -> None:
        """Do what a killed worker does."""
        self.rest()
        assert self.broken is not None
        self.broken(QedgeError("worker.crashed", "The worker died."))


class ToyDevice:
    """Fills `LinkDevice`."""

    is_up = True

    def __init__(self, name: str, worker: ToyWorker) -> None:
        self.name = name
        self.worker = worker

    def process(self) -> WorkerProcess:
        """Return the worker."""
        return cast("WorkerProcess", self.worker)

    async def call(self, method: str, args: Mapping[str, Msg], *, deadline_s: float) -> Msg:
        """Call the worker."""
        return await self.worker.call(method, args, deadline_s=deadline_s)


class ToyPeers:
    """Fills `LinkPeers` for each node; `cut` lets every call fail."""

    def __init__(self, me: str, nodes: dict[str, ToyPeers]) -> None:
        self.me = me
        self.nodes = nodes
        self.served: dict[type, Callable[[str, msgspec.Struct], Awaitable[msgspec.Struct]]] = {}
        self.cut = False
        self.calls = 0
        nodes[me] = self

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask the other node, with everything written down and read again on the way."""
        self.calls += 1
        await asyncio.sleep(0)
        if self.cut or node not in self.nodes:
            raise QedgeError("peer.unreachable", f"{node} cannot be reached.")
        assert deadline_s > 0
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(body), type=type(body))
        said = await self.nodes[node].served[type(body)](self.me, again)
        assert isinstance(said, answer)
        return said

    async def export(self, node: str, label: str, session_id: bytes = b"") -> tuple[bytes, bytes]:
        """Return the same secret at both nodes."""
        pair = "/".join(sorted((self.me, node)))
        return session_id or b"s" * 16, hashlib.sha256(f"{pair} {label}".encode()).digest()

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer questions."""
        self.served[request] = cast("Callable[[str, msgspec.Struct], Awaitable[msgspec.Struct]]", serve)


class KeptBlocks:
    """Fills `KeySink`."""

    def __init__(self) -> None:
        self.blocks: dict[int, FinishedBlock] = {}
        self.full = False

    async def open(self, _link: str, _peer: str) -> int:
        """Return the newest block."""
        return max(self.blocks, default=-1)

    def has_room(self, _link: str) -> bool:
        """Say what the test wants."""
        return not self.full

    async def add_block(self, block: FinishedBlock) -> None:
        """Keep a block."""
        assert block.block_id not in self.blocks
        self.blocks[block.block_id] = block


class KeptLearning:
    """Fills `Baselines`."""

    def __init__(self) -> None:
        self.kept: dict[str, Baseline] = {}

    async def load(self, link: str) -> Baseline | None:
        """Return what was kept."""
        return self.kept.get(link)

    async def save(self, link: str, baseline: Baseline) -> None:
        """Keep it."""
        self.kept[link] = baseline


def light(seed: int = 1) -> Light:
    """Make the light of a fibre."""
    return Light(np.random.default_rng(seed))
