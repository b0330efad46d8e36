"""Group commit: operations that come while a transaction is being written share the next one.

Whoever awaits an operation gets its outcome after the commit, so what was answered is on the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.qkd.keys.key_clock import KeyTime, advance, resume
from qedge.qkd.keys.ledger import Ledger, Limits, Moment
from qedge.qkd.keys.model import StoredStatus
from qedge.qkd.keys.vault import Vault
from qedge.store import meta
from qedge.store.store import Store

T = TypeVar("T")
_LOG: Final = get_logger("keys")
MAX_BATCH: Final = 256
_TIME: Final = "key_time"
_KEEP_TIME_NS: Final = 60_000_000_000
_FINGERPRINT: Final = "wrapping_key"
_ABORTING: Final = ("internal.unexpected", "qkd.store_damaged")
"""Errors that may come after something was changed: they take their whole transaction with them."""


class _Waiting(Generic[T]):
    """An operation and who waits for it."""

    __slots__ = ("accepted", "future", "work")

    def __init__(self, work: Callable[[Ledger], T], accepted: bool) -> None:
        self.work = work
        self.accepted = accepted
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def end(self, outcome: T | QedgeError) -> None:
        """Tell who waits, if anybody still does."""
        if self.future.done():
            return
        if isinstance(outcome, QedgeError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class Journal:
    """All transactions of one key store. `on_change` hears the state of all links after each."""

    def __init__(
        self,
        node: str,
        store: Store,
        vault: Vault,
        limits: Limits,
        *,
        boot_id: str,
        clock: Clock,
        random_bytes: RandomBytes,
        on_change: Callable[[Sequence[StoredStatus]], None],
    ) -> None:
        self._node = node
        self._store = store
        self._vault = vault
        self._limits = limits
        self._boot_id = boot_id
        self._clock = clock
        self._random_bytes = random_bytes
        self._on_change = on_change
        self._time: KeyTime | None = None
        self._kept_ns = 0
        self._queue: deque[_Waiting[object]] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Go on with the key clock, and see that the wrapping key is the right one; raises `qkd.wrong_wrapping_key`."""
        async with self._opening:
            if self._time is not None:
                return
            known = await self._store.get_meta(_FINGERPRINT)
            if not known:
                await self._store.set_meta(_FINGERPRINT, self._vault.fingerprint())
            elif known != self._vault.fingerprint():
                raise QedgeError(
                    "qkd.wrong_wrapping_key",
                    "The stored keys are encrypted under another wrapping key.",
                    fix="Put the old file back, or move keys.sqlite3 away at both ends; its keys are lost then.",
                )
            text = await self._store.get_meta(_TIME)
            kept = msgspec.json.decode(text, type=KeyTime) if text else None
            self._time = resume(kept, self._boot_id, self._clock.now_ns(), self._clock.utc_ns())

    async def do(self, work: Callable[[Ledger], T], *, accepted: bool = False) -> T:
        """Do one operation; returns after it is on the disk. Raises what it raises, or `store.*`.

        `accepted`: it belongs to something that was promised, and is done on a full disk too, where it can be. Whoever
        is cancelled does not know whether it was done.
        """
        if self._time is None:
            await self.open()
        waiting = _Waiting(work, accepted)
        self._queue.append(waiting)  # type: ignore[arg-type]  # whoever waits knows the type of its own outcome
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await waiting.future

    async def settle(self) -> None:
        """Wait until all is written."""
        while self._writer is not None:
            await asyncio.wait({self._writer})

    async def checkpoint(self) -> None:
        """Let the database take over its log, and empty that: what was erased is then in neither."""
        await self._store.read(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())

    async def _write(self) -> None:
        try:
            while self._queue:
                batch = [self._queue.popleft()]
                accepted = batch[0].accepted
                while self._queue and self._queue[0].accepted == accepted and len(batch) < MAX_BATCH:
                    batch.append(self._queue.popleft())
                await self._write_batch(batch, accepted)
        finally:
            self._writer = None

    async def _write_batch(self, batch: list[_Waiting[object]], accepted: bool) -> None:
        outcomes: list[object]
        try:
            outcomes = await self._transact([each.work for each in batch], accepted)
        except Exception as error:  # noqa: BLE001 - a fault in one operation must leave nobody waiting for ever
            failure = error if isinstance(error, QedgeError) else _unexpected(error)
            if len(batch) > 1 and failure.code in _ABORTING:
                for each in batch:
                    await self._write_batch([each], accepted)
                return
            outcomes = [failure] * len(batch)
        for each, outcome in zip(batch, outcomes, strict=True):
            each.end(outcome)

    async def _transact(self, works: Sequence[Callable[[Ledger], object]], accepted: bool) -> list[object]:
        if self._time is None:
            raise QedgeError("internal.unexpected", "The key store is not open.")
        self._time = time = advance(self._time, self._clock.now_ns(), self._clock.utc_ns())
        seed = self._random_bytes(32)
        outcomes, statuses = await self._store.write(partial(self._run, works, time, seed), accepted=accepted)
        self._on_change(statuses)
        return outcomes

    def _run(
        self,
        works: Sequence[Callable[[Ledger], object]],
        time: KeyTime,
        seed: bytes,
        connection: sqlite3.Connection,
    ) -> tuple[list[object], list[StoredStatus]]:
        """Run a batch in the thread of the database."""
        moment = Moment(time.key_ns, time.utc_ns)
        ledger = Ledger(connection, self._node, self._vault, self._limits, moment, _expand(seed))
        before = connection.total_changes
        outcomes: list[object] = []
        for work in works:
            try:
                outcomes.append(work(ledger))
            except QedgeError as error:
                if error.code in _ABORTING:
                    raise
                outcomes.append(error)
        ledger.flush()
        # An idle store writes once a minute, so that it does not wear out the flash of the box.
        if connection.total_changes != before or time.key_ns - self._kept_ns >= _KEEP_TIME_NS:
            meta.put(connection, _TIME, msgspec.json.encode(time).decode())
            self._kept_ns = time.key_ns
        return outcomes, ledger.statuses()


def _unexpected(error: Exception) -> QedgeError:
    _LOG.error("keys.failed", error=f"{type(error).__name__}: {error}")
    return QedgeError("internal.unexpected", "The key store failed; the log of the node has the details.")


def _expand(seed: bytes) -> RandomBytes:
    """Return random bytes for the thread of the database, made from a seed of the entropy pool (AES-256-CTR)."""
    stream = Cipher(AES(seed), CTR(bytes(16))).encryptor()
    return lambda number: stream.update(bytes(number))
