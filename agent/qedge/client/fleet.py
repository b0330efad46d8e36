"""The node's place in a fleet, as methods of its client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol, TypeVar
from urllib.parse import quote

import msgspec

from qedge.client.sse import ServerEvent
from qedge.wire.commands import FleetCommandList, FleetCommandView
from qedge.wire.node import DrainChange, DrainView
from qedge.wire.standing import Standing, StandingList
from qedge.wire.telemetry import TelemetryView
from qedge.wire.trust import (
    BrokerAddress,
    IdentityView,
    JoinAnswer,
    JoinCommand,
    Membership,
    NewIdentity,
    PendingJoins,
    Renewals,
    RevocationNotice,
    SigningRequest,
)

T = TypeVar("T", bound=msgspec.Struct)


class Transport(Protocol):
    """How questions reach the node."""

    async def ask(
        self, method: str, path: str, kind: type[T], *, body: msgspec.Struct | None = None, timeout_s: float = 0.0
    ) -> T:
        """Ask and decode the answer."""
        ...

    async def tell(self, method: str, path: str, body: msgspec.Struct, timeout_s: float = 0.0) -> None:
        """Ask for what has no answer."""
        ...

    def stream(self, path: str) -> AsyncGenerator[ServerEvent, None]:
        """Follow an endless answer."""
        ...


class FleetClient:
    """Identity, joining, invitations, renewal, revocation, standings; every method raises `QedgeError`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def identity(self) -> IdentityView:
        """Tell who the node is."""
        return await self._transport.ask("GET", "/v1/identity", IdentityView)

    async def new_identity(self, wanted: NewIdentity) -> SigningRequest:
        """Have the node make a key, and return its signing request."""
        return await self._transport.ask("POST", "/v1/identity/requests", SigningRequest, body=wanted)

    async def adopt(self, membership: Membership) -> IdentityView:
        """Give the node its place; its services start anew, so the connection breaks soon after."""
        return await self._transport.ask("PUT", "/v1/identity", IdentityView, body=membership)

    async def join(self, command: JoinCommand) -> IdentityView:
        """Have the node join by an invitation; its services start anew, so the connection breaks soon after."""
        return await self._transport.ask("POST", "/v1/join", IdentityView, body=command)

    async def broker(self, *, this_box: bool = False) -> BrokerAddress:
        """Tell where other boxes meet this one; with `this_box` also where only others of this box can."""
        return await self._transport.ask("GET", f"/v1/identity/broker?this_box={int(this_box)}", BrokerAddress)

    async def pending_joins(self, wait_s: float) -> PendingJoins:
        """Return boxes that want to join; waits up to `wait_s` (≤ 20) seconds for the first."""
        path = f"/v1/joins?wait_s={wait_s:g}"
        return await self._transport.ask("GET", path, PendingJoins, timeout_s=wait_s + 10)

    async def answer_join(self, request_id: str, answer: JoinAnswer) -> None:
        """Answer a box that wants to join."""
        await self._transport.tell("POST", f"/v1/joins/{quote(request_id, safe='')}", answer)

    async def revoke(self, signed: bytes) -> None:
        """Give the node the newest list of revoked keys, which it tells its peers."""
        await self._transport.tell("POST", "/v1/revocations", RevocationNotice(signed))

    async def renewals(self, *, due_only: bool = False) -> Renewals:
        """Collect signing requests of all members that are there, or of those only whose renewal is due."""
        return await self._transport.ask("GET", f"/v1/renewals?due_only={int(due_only)}", Renewals)

    async def renew(self, node: str, membership: Membership) -> None:
        """Hand a member its next certificate."""
        await self._transport.tell("POST", f"/v1/renewals/{quote(node, safe='')}", membership)

    async def standings(self) -> StandingList:
        """Tell what results of other nodes have been worth."""
        return await self._transport.ask("GET", "/v1/standings", StandingList)

    async def pardon(self, node: str) -> Standing:
        """Give a node jobs again whose result was false; raises `job.no_node`."""
        return await self._transport.ask("POST", f"/v1/standings/{quote(node, safe='')}/pardon", Standing)

    async def drain(self, *, undo: bool = False) -> DrainView:
        """Have the node give its jobs away and take no new ones, or `undo` that."""
        return await self._transport.ask("POST", "/v1/drain", DrainView, body=DrainChange(undo))

    async def telemetry(self) -> TelemetryView:
        """Return how telemetry of the node stands."""
        return await self._transport.ask("GET", "/v1/telemetry", TelemetryView)

    async def drain_view(self) -> DrainView:
        """Tell whether the node takes jobs, and how many it still has."""
        return await self._transport.ask("GET", "/v1/drain", DrainView)

    async def orders(self, limit: int = 50) -> FleetCommandList:
        """Return the newest commands of fleet operators."""
        return await self._transport.ask("GET", f"/v1/orders?limit={limit}", FleetCommandList)

    async def order(self, command: str) -> FleetCommandView:
        """Return one of them; raises `order.not_found`."""
        return await self._transport.ask("GET", f"/v1/orders/{quote(command, safe='')}", FleetCommandView)
