"""The authority's side of renewal without a person: a program beside the issuing key that answers nodes.

It answers one request after the other. Each answer is made with the newest ledger, kept, and noted in the audit trail
of the authority's folder before it leaves, so that a kill at any moment loses nothing but the answer, for which the
node asks again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.config import BusConfig
from qedge.bus.model import Endpoint, Incoming
from qedge.bus.service import Bus
from qedge.client.fleet_tool.connection import fleet_endpoint
from qedge.client.fleet_tool.operator_folder import OperatorFolder, account
from qedge.client.fleet_tool.trail import Act, TrailEntry
from qedge.crypto.authority import Authority
from qedge.crypto.authority_files import AuthorityFolder
from qedge.crypto.renewing import REQUEST_LASTS_NS, Answered, RenewalDesk
from qedge.wire.envelope import Header, bad_message, encode, purpose_of
from qedge.wire.renewal import RenewalAnswer
from qedge.wire.topics import Channel, every_node, topic
from qedge.wire.trust import AUTHORITY

_SAME_WORDS_NS: Final = 3600 * 1_000_000_000
_MOST_TOLD: Final = 10_000

Tell = Callable[[str, str], None]
"""Hears of a node, and of what became of its request in a few words."""


class Renewer:
    """Answers requests until cancelled. `open_authority` opens the issuing key, again where it was replaced."""

    def __init__(
        self,
        folder: AuthorityFolder,
        open_authority: Callable[[], Authority],
        config: BusConfig,
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        uniform: Callable[[], float],
        tell: Tell,
        endpoint: Endpoint | None = None,
    ) -> None:
        self._folder = folder
        self._trail = OperatorFolder(folder.path)
        self._open = open_authority
        self._clock = clock
        self._random_bytes = random_bytes
        self._tell = tell
        self._sequence = itertools.count()
        self._told: dict[tuple[str, str], int] = {}
        self.ignored = 0
        """Messages that were no request that counts."""

        authority = open_authority()
        self.fleet = authority.fleet
        self._desk = RenewalDesk(authority, folder, random_bytes=random_bytes)
        where = endpoint or fleet_endpoint(config)
        self.bus = Bus(
            config,
            lambda: where,
            client_id=f"qedge-renewer-{random_bytes(8).hex()}",
            reply_topic=topic(self.fleet, AUTHORITY, Channel.REPLY),
            clock=clock,
            metrics=Metrics(),
            random_bytes=random_bytes,
            uniform=uniform,
        )
        self.bus.subscribe(every_node(self.fleet, Channel.RENEWAL), self._hear)

    async def run(self, ready: Ready) -> None:
        """Stay connected and answer, until cancelled."""
        await self.bus.run(ready)

    async def _hear(self, message: Incoming) -> None:
        try:
            if message.retain:
                raise bad_message("a request is not kept by a broker")
            answered = await asyncio.to_thread(self.answer, message.payload, message.topic)
        except QedgeError:
            self.ignored += 1
            raise
        header = Header(
            answered.where, AUTHORITY, next(self._sequence), purpose_of(RenewalAnswer), self._clock.utc_ns()
        )
        payload = encode(header, answered.answer)
        await self.bus.publish(answered.where, payload, qos=1, expiry_s=REQUEST_LASTS_NS // 10**9)
        words = answered.reason or ("renewed" if answered.anew else "given the same certificate again")
        self._tell(answered.node, words)

    def answer(self, message: bytes, where: str) -> Answered:
        """Answer a request; blocks. What is to be remembered of it is on the disk when this returns.

        Raises as `RenewalDesk.admit` does, and `fleet.folder`, `fleet.trail_damaged`.
        """
        utc_ns = self._clock.utc_ns()
        admitted = self._desk.admit(message, where, utc_ns)  # what a flood brings never gets to the folder
        try:
            with self._folder.turn(self._desk.authority):
                answered = self._desk.decide(admitted, utc_ns)
        except QedgeError:
            if not self._is_replaced():
                raise
            self._desk.authority = self._open()
            with self._folder.turn(self._desk.authority):
                answered = self._desk.decide(admitted, utc_ns)
        if self._is_news(answered, utc_ns):
            self._trail.note([self._entry(answered, utc_ns)])
        return answered

    def _is_replaced(self) -> bool:
        """Say whether there is another issuing key now than the one that is open."""
        try:
            self._desk.authority.check()
        except QedgeError:
            return True
        return False

    def _is_news(self, answered: Answered, utc_ns: int) -> bool:
        """Say whether to note an answer: what a node is told again and again is noted once an hour."""
        if answered.anew:
            return True
        words = (answered.node, answered.code)
        if utc_ns - self._told.get(words, 0) < _SAME_WORDS_NS:
            return False
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told[words] = utc_ns
        return True

    def _entry(self, answered: Answered, utc_ns: int) -> TrailEntry:
        return TrailEntry(
            utc_ns=utc_ns,
            act=Act.RENEWAL_REFUSED if answered.code else Act.RENEWED,
            operator=AUTHORITY,
            fleet=self.fleet,
            node=answered.node,
            outcome=answered.code or ("renewed" if answered.anew else "given again"),
            reason=answered.reason[:200],
            user=account(),
        )
