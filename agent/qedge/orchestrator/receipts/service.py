"""Signs the results that this node gave to others, once a second, and keeps what runners signed for results here."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.crypto.keys import SigningKey
from qedge.crypto.signed import ShowsChain
from qedge.crypto.trust import Trust
from qedge.engine import ledger
from qedge.engine.ledger_row import Stored
from qedge.engine.ports import Peers
from qedge.mesh.crypto_thread import CryptoThread
from qedge.orchestrator.receipts import rows
from qedge.orchestrator.receipts.proof import entry_of, job_hash, open_root, result_hash, sign_root
from qedge.orchestrator.receipts.tree import leads_to, root_and_paths
from qedge.store.store import Store
from qedge.wire.jobs import JobResult
from qedge.wire.receipts import MAX_LEAVES, Receipt, ReceiptPath, ReceiptRoot, ReceiptsKeep, ReceiptsKept

_LOG: Final = get_logger("ledger")
_PERIOD_S: Final = 1.0
_SEND_LIMIT_S: Final = 5.0
_TRIES: Final = 5
_MOST_WAITING: Final = 4 * MAX_LEAVES
_AT_ONCE: Final = 16
_PRUNE_EVERY: Final = 600


@dataclass(frozen=True, slots=True)
class Seal:
    """Who signs here, and whom this node believes."""

    fleet: str
    node: str
    key: SigningKey
    chain: ShowsChain
    trust: Trust


@dataclass(frozen=True, slots=True)
class _Given:
    """A result that an owner has; only its `leaf` is kept once that is known."""

    owner: str
    job_id: str
    epoch: int
    asked: bytes
    result: JobResult | None
    leaf: bytes = b""
    tries: int = 0


class ReceiptService:
    """Serves `ReceiptsKeep`. `given` is told of every result that goes to another node."""

    name = "receipts"

    def __init__(
        self, seal: Seal, store: Store, peers: Peers, thread: CryptoThread, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._seal = seal
        self._store = store
        self._peers = peers
        self._thread = thread
        self._clock = clock
        self._metrics = metrics
        self._given: deque[_Given] = deque()
        peers.serve(ReceiptsKeep, self._keep)

    def given(self, owner: str, job_id: str, epoch: int, asked: bytes, result: JobResult) -> None:
        """Note a result that was told to the owner of a job with hash `asked`; it is signed within a second."""
        self._wait(_Given(owner, job_id, epoch, asked, result))

    def _wait(self, given: _Given) -> None:
        self._given.append(given)
        while len(self._given) > _MOST_WAITING:
            self._given.popleft()
            self._metrics.add("qedge_receipts_total", ("dropped",))

    async def run(self, ready: Ready) -> None:
        """Sign and send once a second, until cancelled; an owner that does not answer holds up no other."""
        ready()
        turns = 0
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(_PERIOD_S)
                turns += 1
                if self._given:
                    group.create_task(self.sign())
                if turns % _PRUNE_EVERY == 0:
                    with contextlib.suppress(QedgeError):  # the store said so already; there is always a next time
                        await self._store.write(rows.prune)

    async def sign(self) -> None:
        """Sign all results that wait, in one tree, and give each owner what concerns it."""
        taken = [self._given.popleft() for _ in range(min(len(self._given), MAX_LEAVES))]
        batch = await self._thread.run(_hashed, taken)
        signed, paths = await self._thread.run(self._signed, batch)
        self._metrics.add("qedge_receipts_total", ("signed",), len(batch))
        by_owner: dict[str, list[tuple[_Given, ReceiptPath]]] = {}
        for each, path in zip(batch, paths, strict=True):
            by_owner.setdefault(each.owner, []).append((each, path))
        await asyncio.gather(*(self._send(owner, signed, entries) for owner, entries in by_owner.items()))

    async def _send(self, owner: str, signed: bytes, entries: list[tuple[_Given, ReceiptPath]]) -> None:
        body = ReceiptsKeep(signed, tuple(path for _, path in entries))
        try:
            await self._peers.call(owner, body, ReceiptsKept, deadline_s=_SEND_LIMIT_S)
        except QedgeError:
            again = [replace(each, tries=each.tries + 1) for each, _ in entries if each.tries < _TRIES]
            self._metrics.add("qedge_receipts_total", ("dropped",), len(entries) - len(again))
            for each in again:
                self._wait(each)

    def _signed(self, batch: Sequence[_Given]) -> tuple[bytes, list[ReceiptPath]]:
        seal = self._seal
        root, paths = root_and_paths([each.leaf for each in batch])
        utc_ns = self._clock.utc_ns()
        signed = sign_root(ReceiptRoot(root, len(batch)), seal.fleet, seal.node, seal.key, seal.chain, utc_ns)
        found = enumerate(zip(batch, paths, strict=True))
        return signed, [ReceiptPath(each.job_id, each.epoch, at, path) for at, (each, path) in found]

    # Of results here

    async def _keep(self, peer: str, keep: ReceiptsKeep) -> ReceiptsKept:
        """Keep what a runner signed, where it is for results of its own that stand here, under the leases they had."""
        root = await self._thread.run(open_root, keep.signed, self._seal.fleet, peer, self._seal.trust)
        good: list[ReceiptPath] = []
        for at in range(0, len(keep.paths), _AT_ONCE):
            some = keep.paths[at : at + _AT_ONCE]
            found = await self._store.read(partial(_results, jobs=[each.job for each in some]))
            good += await self._thread.run(_those_that_fit, root, peer, some, found)
        refused = tuple({each.job for each in keep.paths} - {each.job for each in good})
        if good:
            await self._store.write(lambda connection: rows.keep(connection, peer, keep.signed, good))
        if refused:
            _LOG.warning("job.receipt_refused", job=refused[0], peer=peer, jobs=len(refused))
        self._metrics.add("qedge_receipts_total", ("kept",), len(good))
        self._metrics.add("qedge_receipts_total", ("refused",), len(refused))
        return ReceiptsKept(refused)

    async def receipt(self, job_id: str) -> Receipt | None:
        """Return the receipt of a job's result, if there is one."""
        kept = await self._store.read(lambda connection: rows.find(connection, job_id))
        found = await self._store.read(lambda connection: ledger.ended_result(connection, job_id)) if kept else None
        if kept is None or found is None:
            return None
        row, packed = found
        if (row.runner, row.epoch) != (kept.runner, kept.epoch):
            return None  # another lease counts since, and its runner signs in its turn
        hashes = job_hash(row.submission), await self._thread.run(_hash_of, packed)
        return Receipt(kept.runner, kept.epoch, *hashes, kept.position, kept.path, kept.signed, self._seal.trust.anchor)


def _hash_of(packed: bytes) -> bytes:
    return result_hash(ledger.read_result(packed))


def _hashed(batch: Sequence[_Given]) -> list[_Given]:
    """Keep of each result its leaf alone: its owner may be out of reach for a while."""
    return [
        each
        if each.result is None
        else replace(each, result=None, leaf=entry_of(each.job_id, each.epoch, each.asked, result_hash(each.result)))
        for each in batch
    ]


def _results(connection: sqlite3.Connection, jobs: Sequence[str]) -> list[tuple[Stored, bytes] | None]:
    return [ledger.ended_result(connection, job_id) for job_id in jobs]


def _those_that_fit(
    root: ReceiptRoot,
    peer: str,
    paths: Sequence[ReceiptPath],
    found: Sequence[tuple[Stored, bytes] | None],
) -> list[ReceiptPath]:
    good = []
    for each, known in zip(paths, found, strict=True):
        if known is None:
            continue
        row, packed = known
        if row.runner != peer or row.epoch != each.epoch:
            continue
        entry = entry_of(each.job, each.epoch, job_hash(row.submission), _hash_of(packed))
        if leads_to(root.root, entry, each.position, root.count, each.path):
            good.append(each)
    return good
