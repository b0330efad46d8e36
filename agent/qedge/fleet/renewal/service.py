"""Asks for the node's next certificate when it is due, and takes the answer; nobody has to think of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.model import Incoming
from qedge.crypto.renewing import NONCE_BYTES, REQUEST_LASTS_NS, check_verdict, read_verdict
from qedge.fleet.renewal.config import RenewalConfig
from qedge.fleet.renewal.pacing import Pacing
from qedge.fleet.renewal.ports import Holder, Line
from qedge.wire.envelope import bad_message, decode
from qedge.wire.renewal import RenewalAnswer
from qedge.wire.topics import Channel, topic

_LOG: Final = get_logger("mesh")
_LOOK_S: Final = 5.0


class RenewalService:
    """One node's side. `standing` says in a few words how it stands."""

    name = "renewal"

    def __init__(
        self,
        config: RenewalConfig,
        holder: Holder,
        line: Line,
        *,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
        uniform: Callable[[], float],
        look_s: float = _LOOK_S,
    ) -> None:
        self._holder = holder
        self._line = line
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes
        self._look_s = look_s
        self._pacing = Pacing(config, uniform)
        self._sequence = itertools.count()
        self._nonce = b""
        self.reason = ""
        """Why the last request led to nothing; empty: nobody answered it, or none was made."""

        subject = holder.member.subject
        self._where = topic(subject.fleet, subject.name, Channel.RENEWED)
        line.subscribe(self._where, self._hear)

    @property
    def standing(self) -> str:
        """How renewal stands; empty while nothing is due."""
        asked = self._pacing.asked
        if not asked:
            return ""
        return f"asked {asked} times: {self.reason or 'nobody answers'}"

    async def run(self, ready: Ready) -> None:
        """Ask when it is due, until cancelled."""
        ready()
        while True:
            await self.look()
            await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """Ask where it is time to, and warn where it is late."""
        member = self._holder.member
        if self._pacing.warns(member, self._clock.utc_ns()):
            left_s = max(0, round((member.not_after_utc_ns - self._clock.utc_ns()) / 1e9))
            reason = self.reason or "nobody answers"
            _LOG.warning("trust.renewal_unanswered", left_s=left_s, asked=self._pacing.asked, reason=reason)
        if not self._pacing.wants(member, self._clock.now_ns(), self._clock.utc_ns()):
            return
        self._nonce = self._random_bytes(NONCE_BYTES)
        where, message = await self._holder.request(self._nonce, next(self._sequence))
        self._pacing.has_asked(member, self._clock.now_ns())
        self.reason = ""
        try:
            await self._line.publish(where, message, qos=1, expiry_s=REQUEST_LASTS_NS // 10**9)
        except QedgeError as error:
            self.reason = str(error)
            self._count("unsent")
        else:
            self._count("asked")

    async def _hear(self, message: Incoming) -> None:
        """Take an answer; raises `auth.*` and `bus.bad_message` for what the authority did not say to this request."""
        if message.retain:
            raise bad_message("a verdict on a renewal is not kept by a broker")
        _, answer = decode(message.payload, message.topic, RenewalAnswer, self._clock.utc_ns())
        if not self._nonce:
            raise bad_message("nothing was asked")
        present, trust = self._holder.member, self._holder.trust
        verdict = read_verdict(answer, present, self._nonce, trust)
        self._nonce = b""  # one answer to one request
        try:
            found = check_verdict(verdict, present, trust, self._clock.utc_ns())
        except QedgeError as error:
            self.reason = str(error)
            self._count("refused")
            _LOG.warning("trust.renewal_refused", code=error.code, reason=error.message)
            return
        await self._holder.take(found.chain)
        self.reason = ""
        self._pacing.renewed()
        self._count("renewed")

    def _count(self, outcome: str) -> None:
        self._metrics.add("qedge_renewals_total", (outcome,))
