"""Renewal without a person, put into the daemon."""

from __future__ import annotations

import asyncio
import random
from functools import partial

from qedge.bus.service import Bus
from qedge.crypto.model import Member
from qedge.crypto.renewing import ask
from qedge.crypto.trust import Trust
from qedge.daemon.membership.desk import FleetDesk
from qedge.daemon.peers import Tools
from qedge.fleet.renewal.service import RenewalService


class OwnCertificate:
    """Fills `Holder` with the node's identity and its fleet desk."""

    def __init__(self, tools: Tools, desk: FleetDesk) -> None:
        self._identity = tools.identity
        self._clock = tools.clock
        self.take = desk.take_renewal

    @property
    def member(self) -> Member:
        """The present certificate."""
        return self._identity.member

    @property
    def trust(self) -> Trust:
        """Whom the node believes."""
        return self._identity.trust

    async def request(self, nonce: bytes, sequence: int) -> tuple[str, bytes]:
        """Make a request, away from the loop."""
        me = self._identity
        make = partial(ask, me.fleet, me.node, me.key, me.shown, nonce=nonce, sequence=sequence)
        return await asyncio.to_thread(partial(make, utc_ns=self._clock.utc_ns()))


def make_renewal(tools: Tools, bus: Bus, desk: FleetDesk) -> RenewalService:
    """Make what asks for the node's next certificate, and let the desk tell how that stands."""
    service = RenewalService(
        tools.config.fleet.renewal,
        OwnCertificate(tools, desk),
        bus,
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
        uniform=random.SystemRandom().random,
    )
    desk.renewal = lambda: service.standing
    return service
