"""Carries grants to the stores of other nodes, many in one message."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Final

from qedge.base.errors import QedgeError
from qedge.qkd.keys.exchange import OUT_OF_STEP
from qedge.qkd.keys.ports import PeerKeyStore
from qedge.wire.keys import MAX_GRANTS, KeyGrant, KeyRelay, KeyReserve, KeyReserved, RelayHop

_MAX_CALLS: Final = 4
_MAX_BYTES: Final = 512 * 1024
_PLAIN_BYTES: Final = 1024
"""What a grant takes in a message at most, apart from its ids and its pad."""

Spawn = Callable[[Coroutine[None, None, None]], object]


class Courier:
    """The way to one node. `away` hears that it did not answer."""

    def __init__(
        self, peer: str, peers: PeerKeyStore, *, deadline_s: float, spawn: Spawn, away: Callable[[str], None]
    ) -> None:
        self._peer = peer
        self._peers = peers
        self._deadline_s = deadline_s
        self._spawn = spawn
        self._away = away
        self._queue: deque[tuple[KeyGrant, asyncio.Future[None]]] = deque()
        self._calls = 0

    async def carry(self, grant: KeyGrant) -> None:
        """Return once the other store has its copies on the disk; raises `qkd.out_of_step`, `peer.*`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((grant, done))
        if self._calls < _MAX_CALLS:
            self._calls += 1
            self._spawn(self._drain())
        await done

    async def _drain(self) -> None:
        try:
            while self._queue:
                await self._carry_batch(self._next_batch())
        finally:
            self._calls -= 1

    def _next_batch(self) -> list[tuple[KeyGrant, asyncio.Future[None]]]:
        batch: list[tuple[KeyGrant, asyncio.Future[None]]] = []
        size = 0
        while self._queue and len(batch) < MAX_GRANTS:
            grant = self._queue[0][0]
            size += _PLAIN_BYTES + len(grant.pad) + len(grant.ids)
            if batch and size > _MAX_BYTES:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _carry_batch(self, batch: list[tuple[KeyGrant, asyncio.Future[None]]]) -> None:
        message = KeyReserve(tuple(grant for grant, _ in batch))
        try:
            answer = await self._peers.call(self._peer, message, KeyReserved, deadline_s=self._deadline_s)
            outcomes = list(answer.outcomes)
        except QedgeError as error:
            if error.code.startswith("peer."):
                self._away(self._peer)
            for _, done in batch:
                if not done.done():
                    done.set_exception(QedgeError(error.code, error.message, fix=error.fix))
            return
        except BaseException:
            for _, done in batch:
                done.cancel()
            raise
        outcomes += [OUT_OF_STEP] * (len(batch) - len(outcomes))
        for (_, done), outcome in zip(batch, outcomes, strict=False):
            if done.done():
                continue
            if outcome:
                done.set_exception(
                    QedgeError(
                        "qkd.out_of_step",
                        f"{self._peer} does not have the same key bits; these were destroyed.",
                        fix="Ask again.",
                    )
                )
            else:
                done.set_result(None)


class Couriers:
    """The ways to all nodes, also over others. `away` hears which node did not answer."""

    def __init__(self, peers: PeerKeyStore, *, deadline_s: float, spawn: Spawn, away: Callable[[str], None]) -> None:
        self._peers = peers
        self._deadline_s = deadline_s
        self._spawn = spawn
        self._away = away
        self._ways: dict[str, Courier] = {}

    async def send(self, peer: str, grant: KeyGrant, onward: tuple[RelayHop, ...]) -> None:
        """Return once the last node has its copies on the disk: `peer`, or with `onward` one that it passes them to.

        Raises `qkd.out_of_step`, `peer.*`, and what a node in between answered. Each has as much time as one link.
        """
        if not onward:
            await self._to(peer).carry(grant)
            return
        deadline_s = self._deadline_s * (1 + len(onward))
        try:
            answer = await self._peers.call(peer, KeyRelay(grant, onward), KeyReserved, deadline_s=deadline_s)
        except QedgeError as error:
            if error.code == "peer.unreachable":
                self._away(peer)
            raise
        if answer.outcomes != ("",):
            raise QedgeError("qkd.out_of_step", f"{peer} could not pass the keys on; they were destroyed.")

    def _to(self, peer: str) -> Courier:
        if peer not in self._ways:
            self._ways[peer] = Courier(
                peer, self._peers, deadline_s=self._deadline_s, spawn=self._spawn, away=self._away
            )
        return self._ways[peer]
