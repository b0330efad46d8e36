"""The place in a fleet of the node that tests use."""

from __future__ import annotations

from qedge.base.errors import QedgeError
from qedge.wire.trust import (
    BrokerAddress,
    IdentityView,
    JoinAnswer,
    JoinCommand,
    Membership,
    NewIdentity,
    PendingJoins,
    Renewals,
    SigningRequest,
)


class FakeFleet:
    """A place in a fleet that remembers what it was told; nobody can join."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.reachable = True

    def identity(self) -> IdentityView:
        """Describe box-1 of the fleet `local`."""
        return IdentityView("local", "box-1", True, "0" * 32, "ml-dsa-65", "0" * 64, 0, 2**60)

    async def new_identity(self, wanted: NewIdentity) -> SigningRequest:
        """Return a request that no authority would sign."""
        self.told.append(wanted)
        return SigningRequest(wanted.fleet, wanted.node, b"request")

    async def adopt(self, membership: Membership) -> IdentityView:
        """Note the membership."""
        self.told.append(membership)
        return self.identity()

    async def join(self, command: JoinCommand) -> IdentityView:
        """Note the invitation."""
        self.told.append(command)
        return self.identity()

    async def pending_joins(self, wait_s: float) -> PendingJoins:
        """Return nobody."""
        self.told.append(wait_s)
        return PendingJoins()

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

    async def renewals(self) -> Renewals:
        """Return no requests."""
        return Renewals(())

    async def renew(self, node: str, membership: Membership) -> None:
        """Note the certificate."""
        self.told.append((node, membership))
