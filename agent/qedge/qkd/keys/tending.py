"""Keeps the store of one peer in step: tells it what was given up, and compares blocks until both ends agree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.qkd.keys import exchange
from qedge.qkd.keys.journal import Journal
from qedge.qkd.keys.ledger import Ledger
from qedge.qkd.keys.ports import PeerKeyStore
from qedge.wire.keys import MAX_GRANTS, KeyBlocks, KeyBlocksCompared, KeyVoid, KeyVoided

_LOG: Final = get_logger("keys")
_SOON_S: Final = 0.5
_BREATH_S: Final = 0.1
_MAX_PAUSE_S: Final = 4.0
_IDLE_S: Final = 60.0


class Tending:
    """The conversation about the state of the links to one peer. `away` hears whether it answers."""

    def __init__(
        self, peer: str, peers: PeerKeyStore, journal: Journal, *, deadline_s: float, away: Callable[[str, bool], None]
    ) -> None:
        self._peer = peer
        self._peers = peers
        self._journal = journal
        self._deadline_s = deadline_s
        self._away = away
        self._wake = asyncio.Event()
        self._compare_all = True
        self._refused: dict[str, str] = {}
        """Links that the peer does not talk about, and why."""

    def wake(self) -> None:
        """Say that there is something new."""
        self._wake.set()

    def meet(self) -> None:
        """Say that the peer was away: everything is compared again."""
        self._compare_all = True
        self._wake.set()

    async def run(self) -> None:
        """Talk until cancelled."""
        pause_s = _SOON_S
        while True:
            self._wake.clear()
            try:
                open_ends = await self.talk()
                self._away(self._peer, False)
                pause_s, wait_s = _SOON_S, _SOON_S if open_ends else _IDLE_S
            except QedgeError as error:
                # The peer is away, or this disk is full. Whatever it was, afterwards all is looked at again.
                if error.code.startswith("peer."):
                    self._away(self._peer, True)
                self._compare_all = True
                wait_s, pause_s = pause_s, min(2 * pause_s, _MAX_PAUSE_S)
                await asyncio.sleep(_BREATH_S)
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                self._compare_all |= wait_s == _IDLE_S

    async def talk(self) -> bool:
        """Say once what there is to say; returns whether something is open still. Raises `peer.*`, `store.*`."""
        while await self._tell_voids():
            pass
        links = await self._journal.do(self._links)
        if self._compare_all:
            for link in links:
                await self._agrees(link, self._compare_link(link))
            self._compare_all = False
        still_open = False
        for link in links:
            said = await self._journal.do(partial(exchange.waiting_notes, link=link))
            if said is not None:
                await self._agrees(link, self._ask(said))
                still_open |= await self._journal.do(partial(exchange.waiting_notes, link=link)) is not None
        return still_open

    async def _agrees(self, link: str, talk: Coroutine[None, None, None]) -> None:
        """Talk about one link. That the peer refuses, which may not know it any more, leaves its other links alone."""
        try:
            await talk
        except QedgeError as error:
            if error.code.startswith(("peer.", "store.")):
                raise
            if self._refused.get(link) != error.code:
                _LOG.warning("keys.link_refused", link=link, peer=self._peer, code=error.code, reason=error.message)
            self._refused[link] = error.code
        else:
            self._refused.pop(link, None)

    def _links(self, ledger: Ledger) -> list[str]:
        return [row.name for row in ledger.accounts.towards(self._peer)]

    async def _tell_voids(self) -> bool:
        peer = self._peer
        owed = await self._journal.do(lambda ledger: ledger.book.owed_voids(peer, MAX_GRANTS))
        if owed:
            await self._peers.call(peer, KeyVoid(owed), KeyVoided, deadline_s=self._deadline_s)
            await self._journal.do(lambda ledger: ledger.book.void_told(peer, owed), accepted=True)
        return bool(owed)

    async def _compare_link(self, link: str) -> None:
        first = 0
        while True:
            said = await self._journal.do(partial(exchange.notes, link=link, first=first))
            if said.first > said.until:
                return
            await self._ask(said)
            first = said.until + 1

    async def _ask(self, said: KeyBlocks) -> None:
        answer = await self._peers.call(self._peer, said, KeyBlocksCompared, deadline_s=self._deadline_s)
        await self._journal.do(partial(exchange.learn, peer=self._peer, sent=said, answer=answer))
