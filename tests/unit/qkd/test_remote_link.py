"""Links between two nodes: opened by one of them, opened anew after whatever happens, equal blocks at both stores."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.qkd.config import FRAME_BITS, LinkConfig
from qedge.qkd.distillation.local import LocalLink
from qedge.qkd.distillation.service import LinkDesk, RemoteLink, keep_baseline
from qedge.wire.qkd import Baseline, LinkOpen, LinkOpened
from tests.unit.qkd.two_nodes import KeptBlocks, KeptLearning, ToyDevice, ToyPeers, ToyWorker, light


@dataclass
class Site:
    """Two nodes, `beta` with Alice and `alpha`, which opens the link, with Bob."""

    alpha: RemoteLink
    beta: RemoteLink
    workers: dict[str, ToyWorker]
    peers: dict[str, ToyPeers]
    kept: dict[str, KeptBlocks]
    metrics: dict[str, Metrics]

    async def until(self, what: Callable[[], bool]) -> None:
        """Wait, twenty seconds at most."""
        async with asyncio.timeout(20):
            while not what():
                await asyncio.sleep(0.01)

    async def blocks(self, more: int) -> None:
        """Wait until both stores have so many more blocks in common, and compare them."""
        before = len(self.common())
        await self.until(lambda: len(self.common()) >= before + more)
        for block in self.common():
            assert self.kept["alpha"].blocks[block].bits == self.kept["beta"].blocks[block].bits

    def common(self) -> set[int]:
        """Blocks that both stores have."""
        return self.kept["alpha"].blocks.keys() & self.kept["beta"].blocks.keys()


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    shared = light()
    known: dict[bytes, object] = {}
    workers = {"alpha": ToyWorker("bob", shared, known), "beta": ToyWorker("alice", shared, known)}  # type: ignore[arg-type] # - filled by the kernels
    nodes: dict[str, ToyPeers] = {}
    kept = {name: KeptBlocks() for name in workers}
    metrics = {name: Metrics() for name in workers}
    links = {}
    for name, other in (("alpha", "beta"), ("beta", "alpha")):
        peers = ToyPeers(name, nodes)
        links[name] = RemoteLink(
            "fibre",
            LinkConfig(transceiver="qkd", peer=other, block_bits=FRAME_BITS),
            ToyDevice("qkd", workers[name]),
            peers,
            kept[name],
            KeptLearning(),
            clock=SystemClock(),
            metrics=metrics[name],
            random_bytes=secrets.token_bytes,
        )
        LinkDesk(peers).add(links[name])
    tasks = [asyncio.ensure_future(link.run(lambda: None)) for link in links.values()]
    try:
        yield Site(links["alpha"], links["beta"], workers, nodes, kept, metrics)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for worker in workers.values():
            worker.rest()


async def test_both_stores_get_the_same_blocks_and_the_views_say_what_was_distilled() -> None:
    async with site() as fleet:
        await fleet.blocks(4)
        view = fleet.alpha.view()
        assert (view.name, view.alice, view.bob, view.peer, view.state) == ("fibre", "", "qkd", "beta", "running")
        assert fleet.beta.view().alice == "qkd"
        assert 0.01 < view.qber < 0.03
        assert view.blocks >= 4
        assert view.key_bits == fleet.metrics["alpha"].value("qedge_qkd_key_bits_total", ("fibre",))
        assert min(fleet.common()) > 1_600_000_000_000
        assert all(block.provenance.created_utc_ns for block in fleet.kept["alpha"].blocks.values())


async def test_the_link_begins_anew_when_either_worker_dies() -> None:
    async with site() as fleet:
        await fleet.blocks(1)
        for name in ("alpha", "beta"):
            fleet.workers[name].die()
            await fleet.blocks(2)
        assert fleet.workers["alpha"].starts >= 3
        assert all(worker.restored for worker in fleet.workers.values())  # pads outlive the worker that made them
        # All of them may have been used up as a worker died; the seed then pays for the block that gives new ones.
        await fleet.until(
            lambda: all(
                worker.course is not None and worker.course._engine.stocks.is_distilled
                for worker in fleet.workers.values()
            )
        )
        assert fleet.workers["alpha"].known[-1] >= 1  # and what Bob's had learned
        blocks = sorted(fleet.common())
        assert len(blocks) == len(set(blocks))


async def test_pads_that_only_one_end_kept_are_given_up() -> None:
    async with site() as fleet:
        await fleet.blocks(1)
        await fleet.until(lambda: bool(fleet.alpha._end.kept_stocks))
        fleet.workers["alpha"].die()
        fleet.workers["beta"].rest()
        fleet.beta._end._kept = ()
        await fleet.blocks(2)
        assert all(not worker.restored for worker in fleet.workers.values())


async def test_a_peer_cannot_use_up_the_numbers_of_blocks() -> None:
    async with site() as fleet:
        await fleet.blocks(1)
        wild = LinkOpen("fibre", bytes(16), bytes(16), 2**63 - 1)
        with pytest.raises(QedgeError) as refused:
            await fleet.peers["alpha"].call("beta", wild, LinkOpened, deadline_s=1.0)
        assert refused.value.code == "qkd.bad_block"
        assert refused.value.fix
        await fleet.blocks(1)
        assert max(fleet.common()) < 2**42


async def test_what_a_worker_learned_from_no_light_does_not_end_its_link() -> None:
    kept = KeptLearning()
    await keep_baseline(kept, "fibre", Baseline((), 1, 0.0, 0.0, 0.0, ()))
    assert kept.kept


async def test_the_rate_of_a_link_is_zero_as_soon_as_it_stops() -> None:
    async with site() as fleet:
        await fleet.blocks(3)
        assert fleet.alpha.view().key_bit_s > 0
        fleet.workers["alpha"].die()
        assert fleet.alpha.view().key_bit_s == 0


async def test_a_locked_transceiver_rests_until_it_is_unlocked() -> None:
    async with site() as fleet:
        await fleet.blocks(1)
        device = fleet.alpha._end.device
        device.is_up = False  # type: ignore[misc] # - a toy
        await fleet.until(lambda: fleet.alpha.view().state == "waiting" and fleet.workers["alpha"].course is None)
        device.is_up = True  # type: ignore[misc] # - a toy
        await fleet.blocks(1)


async def test_the_link_outlives_a_cut_of_the_network() -> None:
    async with site() as fleet:
        await fleet.blocks(1)
        for peers in fleet.peers.values():
            peers.cut = True
        await asyncio.sleep(0.5)
        for peers in fleet.peers.values():
            peers.cut = False
        await fleet.blocks(2)


async def test_a_link_with_both_ends_here_hands_each_block_over_once() -> None:
    shared, known = light(), dict[bytes, object]()
    alice, bob = (ToyWorker(role, shared, known) for role in ("alice", "bob"))  # type: ignore[arg-type] # - filled by the kernels
    kept = KeptBlocks()
    link = LocalLink(
        "local",
        LinkConfig(alice="a", bob="b", distil=True, block_bits=FRAME_BITS),
        ToyDevice("a", alice),
        ToyDevice("b", bob),
        kept,
        KeptLearning(),
        clock=SystemClock(),
        metrics=Metrics(),
        random_bytes=secrets.token_bytes,
    )
    task = asyncio.ensure_future(link.run(lambda: None))
    try:
        async with asyncio.timeout(20):
            while len(kept.blocks) < 3:
                await asyncio.sleep(0.01)
        assert (link.view().alice, link.view().bob, link.view().state) == ("a", "b", "running")
        alice.die()
        before = len(kept.blocks)
        async with asyncio.timeout(20):
            while len(kept.blocks) < before + 2:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        alice.rest()
        bob.rest()


async def test_a_link_whose_store_is_full_rests_until_key_was_used() -> None:
    async with site() as it:
        await it.blocks(1)
        for kept in it.kept.values():
            kept.full = True
        await it.until(lambda: {it.alpha.view().state, it.beta.view().state} == {"full"})
        held = {name: len(kept.blocks) for name, kept in it.kept.items()}
        await asyncio.sleep(0.3)
        assert {name: len(kept.blocks) for name, kept in it.kept.items()} == held
        for kept in it.kept.values():
            kept.full = False
        await it.blocks(1)
