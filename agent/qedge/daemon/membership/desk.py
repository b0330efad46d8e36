"""What the operator does with this node's place in a fleet: identity, invitations, joining, renewal, revocation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.bus.child_broker import ChildBroker
from qedge.bus.config import BusConfig
from qedge.bus.credentials import read_password
from qedge.bus.endpoint import external_endpoint
from qedge.bus.model import Endpoint
from qedge.crypto.certificates import make_request
from qedge.crypto.joining import Invitation, read_invitation
from qedge.crypto.model import Member, Role, Subject
from qedge.crypto.trust import pin
from qedge.daemon.membership.identity import (
    LocalIdentity,
    adopt_membership,
    keep_renewal,
    request_identity,
    request_to_join,
)
from qedge.mesh.certificate_watch import renewal_due_utc_ns
from qedge.mesh.enrolment import JoinDesk
from qedge.mesh.service import MeshService
from qedge.mesh.sessions import SessionService
from qedge.store.store import Store
from qedge.wire.mesh import PeerState
from qedge.wire.trust import (
    Adopted,
    Anchor,
    BrokerAddress,
    IdentityView,
    JoinAnswer,
    JoinCommand,
    JoinRequest,
    Membership,
    NewIdentity,
    PendingJoins,
    RenewalAsk,
    Renewals,
    SigningRequest,
)

_LOG: Final = get_logger("mesh")
_RENEWAL_LIMIT_S: Final = 5.0
_DAY_NS: Final = 86_400 * 1_000_000_000


AskToJoin = Callable[[Invitation, JoinRequest, Endpoint], Awaitable[Membership]]
CheckAnchor = Callable[[Anchor], Awaitable[None]]


class FleetDesk:
    """Serves the operator's programs; everything lasting is in the database before it answers."""

    def __init__(
        self,
        identity: LocalIdentity,
        config: BusConfig,
        *,
        store: Store,
        broker: ChildBroker | None,
        desk: JoinDesk,
        ask_to_join: AskToJoin,
        check_anchor: CheckAnchor,
        sessions: SessionService,
        mesh: MeshService,
        clock: Clock,
        random_bytes: RandomBytes,
        renew: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._config = config
        self._store = store
        self._broker = broker
        self._desk = desk
        self._ask_to_join = ask_to_join
        self._check_anchor = check_anchor
        self._sessions = sessions
        self._mesh = mesh
        self._clock = clock
        self._random_bytes = random_bytes
        self._renew = renew
        self.renewal: Callable[[], str] = str
        """Says how requests for the next certificate stand; what makes them sets it."""

        sessions.serve(RenewalAsk, self._ask_for_renewal)
        sessions.serve(Membership, self._be_renewed)

    def identity(self) -> IdentityView:
        """Describe who this node is."""
        url = self._broker_url()
        view = self._identity.view("" if _why_unreachable(url) else url)
        return msgspec.structs.replace(view, renewal=self.renewal())

    async def new_identity(self, wanted: NewIdentity) -> SigningRequest:
        """Make a key for a place in a fleet and return its signing request."""
        return await request_identity(self._store, wanted, self._random_bytes)

    async def adopt(self, membership: Membership) -> IdentityView:
        """Take a place in a fleet: the services start anew with it right after the answer.

        Where it is but the next certificate of this node's key, everything goes on with it at once.
        """
        if pin(membership.anchor) != pin(self._identity.membership.anchor):
            await self._check_anchor(membership.anchor)
        elif self._is_renewal(membership):
            if membership.revocations:
                await self._mesh.take_revocations(membership.revocations)
            await self.take_renewal(membership.chain)
            return self.identity()
        await adopt_membership(self._store, membership, self._clock.utc_ns())
        self._renew()
        return self._identity.view()

    async def join(self, command: JoinCommand) -> IdentityView:
        """Become a member by an invitation; raises `fleet.*` where the fleet refuses, `bus.*` where it is not there."""
        invitation = read_invitation(command.invitation)
        if self._clock.utc_ns() > invitation.expires_utc_ns:
            raise QedgeError("fleet.expired", "The invitation has expired.", fix="Have a new one made.")
        node = command.node or self._identity.node
        request = await request_to_join(self._store, invitation, node, self._random_bytes)
        url = self._config.url or invitation.broker.url
        endpoint = external_endpoint(msgspec.structs.replace(self._config, url=url))
        if endpoint is None:
            raise QedgeError("fleet.bad_invitation", "The invitation names no broker.", fix="Have a new one made.")
        if not self._config.url:
            endpoint = replace(endpoint, username=invitation.broker.username, password=invitation.broker.password)
        membership = await self._ask_to_join(invitation, request, endpoint)
        return await self.adopt(membership)

    async def pending_joins(self, wait_s: float) -> PendingJoins:
        """Return the requests of boxes that want to join, or the first that comes within `wait_s` seconds."""
        return await self._desk.pending(wait_s)

    async def answer_join(self, request_id: str, answer: JoinAnswer) -> None:
        """Answer a box that wants to join."""
        await self._desk.answer(request_id, answer)

    async def broker(self, *, this_box: bool = False) -> BrokerAddress:
        """Return where other boxes meet this one; raises `fleet.loopback_broker` where only this box can.

        With `this_box` an address of this box alone will do: all nodes of the fleet are on it.
        """
        url = self._broker_url()
        reason = _why_unreachable(url)
        if not url or (reason and not this_box):
            raise QedgeError(
                "fleet.loopback_broker",
                f"Other boxes cannot reach the broker of this node: {reason}.",
                fix='Set listen = "ADDRESS:1883" (an address of this box) or url = "mqtt://HOST:1883" in [broker], '
                "restart the node, and invite again.",
            )
        if self._broker is not None:
            return BrokerAddress(url, self._broker.username, self._broker.password)
        address = self._identity.membership.broker
        if not self._config.url and address is not None:
            return address
        password = await asyncio.to_thread(read_password, self._config.password_file)
        return BrokerAddress(url, self._config.username, password)

    async def take_revocations(self, signed: bytes) -> None:
        """Take the authority's newest list and tell all peers."""
        await self._mesh.take_revocations(signed)

    async def renewals(self, *, due_only: bool = False) -> Renewals:
        """Ask all members that are there for a request for their next certificate; this node's comes first.

        With `due_only` only those answer whose certificate has come to the time of its renewal.
        """
        ask = RenewalAsk(due_only)
        peers = [view.node for view in self._mesh.peers().peers if not view.own and view.state is PeerState.ALIVE]
        answers = await asyncio.gather(
            *(self._sessions.call(peer, ask, SigningRequest, deadline_s=_RENEWAL_LIMIT_S) for peer in peers),
            return_exceptions=True,
        )
        without = {peer: each for peer, each in zip(peers, answers, strict=True) if isinstance(each, BaseException)}
        later = [
            peer for peer, each in without.items() if isinstance(each, QedgeError) and each.code == "fleet.not_due"
        ]
        requests = [each for each in answers if isinstance(each, SigningRequest)]
        try:
            requests.insert(0, await self._ask_for_renewal(self._identity.node, ask))
        except QedgeError:
            later.append(self._identity.node)
        return Renewals(tuple(requests), tuple(peer for peer in without if peer not in later), tuple(later))

    async def renew(self, node: str, membership: Membership) -> None:
        """Hand a member its next certificate."""
        if node == self._identity.node:
            await self.adopt(membership)
            return
        await self._sessions.call(node, membership, Adopted, deadline_s=_RENEWAL_LIMIT_S)

    async def take_renewal(self, chain: tuple[bytes, ...]) -> Member:
        """Go on with the next certificate of this node's key and name; its sessions and its work stay.

        It is in the database before it is shown. One that ends no later than the present one changes nothing. Raises
        `auth.untrusted` or `auth.revoked` for what is not the next certificate.
        """
        me = self._identity
        member = me.trust.verify(chain, self._clock.utc_ns(), name=me.node)
        if member.key_id != me.key.key_id:
            raise QedgeError("auth.untrusted", "The certificate is not for this node's key.")
        if member.not_after_utc_ns > me.member.not_after_utc_ns:
            membership = msgspec.structs.replace(me.membership, chain=member.chain)
            await keep_renewal(self._store, membership)
            me.renewed(membership, member)
            left_days = (member.not_after_utc_ns - self._clock.utc_ns()) / _DAY_NS
            _LOG.info("trust.renewed", days=round(left_days, 1))
        return me.member

    def _is_renewal(self, membership: Membership) -> bool:
        """Say whether a membership changes nothing but the certificate."""
        me = self._identity
        member = me.trust.read(membership.chain)
        same = (member.key_id, member.subject.fleet, member.subject.name) == (me.key.key_id, me.fleet, me.node)
        return same and not me.standalone and membership.broker in (None, me.membership.broker)

    def own_request(self) -> SigningRequest:
        """Make a request for the next certificate of the present key."""
        fleet, node = self._identity.fleet, self._identity.node
        return SigningRequest(fleet, node, make_request(Subject(fleet, Role.NODE, node), self._identity.key))

    async def _ask_for_renewal(self, _peer: str, ask: RenewalAsk) -> SigningRequest:
        if ask.due_only and self._clock.utc_ns() < renewal_due_utc_ns(self._identity.member):
            raise QedgeError("fleet.not_due", f"The certificate of {self._identity.node} is not due yet.")
        return await asyncio.to_thread(self.own_request)

    async def _be_renewed(self, _peer: str, membership: Membership) -> Adopted:
        """Take a new certificate that a peer brings: of the same fleet, for the same key and name, and no broker."""
        if pin(membership.anchor) != pin(self._identity.membership.anchor):
            raise QedgeError("auth.untrusted", "The certificate is of another fleet.")
        await self.take_renewal(membership.chain)
        return Adopted(self._identity.node)

    def _broker_url(self) -> str:
        if self._broker is not None:
            return self._broker.reachable_url
        address = self._identity.membership.broker
        return self._config.url or (address.url if address is not None else "")


def _why_unreachable(url: str) -> str:
    """Say why no other box finds a broker under this URL; empty: one may."""
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        address = ip_address(host)
        if address.is_unspecified:
            return f"it listens on every address ({host}), and an invitation has to name one"
        host = "localhost" if address.is_loopback else host
    return "it listens on this box alone" if host in ("", "localhost") else ""
