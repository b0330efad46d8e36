"""What the HTTP interface needs of the node's place in a fleet, for the operator's programs."""

from __future__ import annotations

from typing import Protocol

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


class FleetPort(Protocol):
    """The node's place in a fleet, for the operator's programs."""

    def identity(self) -> IdentityView:
        """Describe who the node is."""
        ...

    async def new_identity(self, wanted: NewIdentity) -> SigningRequest:
        """Make a key for a place in a fleet and return its signing request."""
        ...

    async def adopt(self, membership: Membership) -> IdentityView:
        """Take a place in a fleet; the services start anew right after the answer."""
        ...

    async def join(self, command: JoinCommand) -> IdentityView:
        """Become a member by an invitation; the services start anew right after the answer."""
        ...

    async def pending_joins(self, wait_s: float) -> PendingJoins:
        """Return the requests of boxes that want to join, or the first that comes within `wait_s` seconds."""
        ...

    async def answer_join(self, request_id: str, answer: JoinAnswer) -> None:
        """Answer a box that wants to join."""
        ...

    async def broker(self, *, this_box: bool = False) -> BrokerAddress:
        """Return where other boxes meet this one; raises `fleet.loopback_broker`."""
        ...

    async def take_revocations(self, signed: bytes) -> None:
        """Take the authority's newest list and tell all peers."""
        ...

    async def renewals(self, *, due_only: bool = False) -> Renewals:
        """Collect signing requests of all members that are there, or of those only whose renewal is due."""
        ...

    async def renew(self, node: str, membership: Membership) -> None:
        """Hand a member its next certificate."""
        ...


class FleetNode(Protocol):
    """The node, as far as this is about it."""

    @property
    def fleet(self) -> FleetPort:
        """The node's place in a fleet."""
        ...
