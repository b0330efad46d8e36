"""The place in a fleet of the node that tests use."""

from __future__ import annotations

import msgspec

from qedge.base.errors import QedgeError
from qedge.wire.trust import (
    BrokerAddress,
    IdentityView,
    JoinAnswer,
    JoinCommand,
    Membership,
    NewIdentity,
    PendingJoin,
    PendingJoins,
    Renewals,
    SigningRequest,
)


class FakeFleet:
    """A place in a fleet that remembers what it was told, and believes every membership.

    `waiting` are the joins that it hands out next, `requests` the PKCS#10 of nodes by name, `joins` the fleet it joins.
    """

    def __init__(self) -> None:
        self.told: list[object] = []
        self.reachable = True
        self.view = IdentityView("local", "box-1", True, "0" * 32, "ml-dsa-65", "0" * 64, 0, 2**62)
        self.waiting: list[PendingJoin] = []
        self.requests: dict[str, bytes] = {}
        self.joins = "fleet"

    def identity(self) -> IdentityView:
        """Describe box-1 of the fleet `local`, or what it has become."""
        return self.view

    async def new_identity(self, wanted: NewIdentity) -> SigningRequest:
        """Return the request that stands in `requests`, or one that no authority would sign."""
        self.told.append(wanted)
        return SigningRequest(wanted.fleet, wanted.node, self.requests.get(wanted.node, b"request"))

    async def adopt(self, membership: Membership) -> IdentityView:
        """Become a member."""
        self.told.append(membership)
        return self._become(membership.anchor.fleet)

    async def join(self, command: JoinCommand) -> IdentityView:
        """Become a member of the fleet `joins`."""
        self.told.append(command)
        return self._become(self.joins)

    async def pending_joins(self, wait_s: float) -> PendingJoins:
        """Hand out what waits, at once."""
        self.told.append(wait_s)
        handed, self.waiting = tuple(self.waiting), []
        return PendingJoins(handed)

    async def answer_join(self, request_id: str, answer: JoinAnswer) -> None:
        """Note the answer."""
        self.told.append((request_id, answer))

    async def broker(self, *, this_box: bool = False) -> BrokerAddress:
        """Return an address, or refuse."""
        if not (self.reachable or this_box):
            raise QedgeError("fleet.loopback_broker", "Other boxes cannot reach the broker.", fix="Set broker.listen.")
        return BrokerAddress("mqtt://192.0.2.1:1883", "qedge", "secret")

    async def take_revocations(self, signed: bytes) -> None:
        """Note the list."""
        self.told.append(signed)

    async def renewals(self, *, due_only: bool = False) -> Renewals:
        """Return all of `requests`; box-9 is absent."""
        fleet = self.view.fleet
        return Renewals(tuple(SigningRequest(fleet, *each) for each in self.requests.items()), ("box-9",))

    async def renew(self, node: str, membership: Membership) -> None:
        """Note the certificate."""
        self.told.append((node, membership))

    def _become(self, fleet: str) -> IdentityView:
        self.view = msgspec.structs.replace(self.view, fleet=fleet, standalone=False)
        return self.view
