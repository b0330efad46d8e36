"""What decides on trust: policy, revoked keys, attached devices, certificates and keys of the node, and wiping it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from qedge.base.errors import QedgeError
from qedge.fleet.commands.kinds.kind import KindOf
from qedge.fleet.commands.ports import AfterCrash, Progress, Recovered
from qedge.wire.command_kinds import (
    CertificateAsk,
    CertificateOutcome,
    DeviceCommand,
    DeviceOperation,
    DeviceOutcome,
    SerialOutcome,
    WipeCommand,
    WipeOutcome,
)
from qedge.wire.commands import CommandRequest, OperatorRole
from qedge.wire.policy import PolicyNotice
from qedge.wire.trust import Membership, RevocationNotice, SigningRequest

LANE = "trust"


class Policies(Protocol):
    """Takes policies and lists of revoked keys that the fleet's authority signed; a lower serial changes nothing."""

    async def take_policy(self, signed: bytes) -> int:
        """Take a policy; returns its serial, raises `policy.*`, `auth.*`."""
        ...

    async def take_revocations(self, signed: bytes) -> int:
        """Take a list; returns the serial of the newest known, raises `auth.*`."""
        ...


class DeviceDoor(Protocol):
    """Does something to an attached device; `caller` is written down."""

    async def operate(self, device: str, operation: DeviceOperation, reason: str, caller: str) -> DeviceOutcome:
        """Do it; raises `device.*`, `incident.*`."""
        ...


class Certificates(Protocol):
    """The node's own place in the fleet."""

    async def signing_request(self, *, new_key: bool) -> SigningRequest:
        """Ask for a certificate."""
        ...

    async def adopt(self, membership: Membership) -> CertificateOutcome:
        """Take one of this fleet and name, after which the services start anew; raises `auth.*`, `fleet.*`."""
        ...

    def has(self, membership: Membership) -> CertificateOutcome | None:
        """Say what the node has of one that it may have taken."""
        ...


class Policy(KindOf[PolicyNotice]):
    """`policy`: take a policy of the whole fleet."""

    kind = "policy"
    lane = LANE
    role = OperatorRole.SECURITY
    two_persons = True
    arguments = PolicyNotice
    answers = SerialOutcome

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    async def run(self, request: CommandRequest, _progress: Progress) -> msgspec.Struct | None:
        """Take it; the authority's signature inside counts, whoever sends it."""
        try:
            return SerialOutcome(await self._policies.take_policy(self.read(request).signed))
        except QedgeError as error:
            # a copy of it may have come another way, or before a crash
            if error.code != "policy.old":
                raise
            raise QedgeError(
                "order.failed",
                f"The node has a policy at least as new. {error.message}",
                fix="Sign one with a higher serial.",
            ) from error


class Revocation(KindOf[RevocationNotice]):
    """`revocation`: take a list of revoked keys."""

    kind = "revocation"
    lane = LANE
    role = OperatorRole.SECURITY
    arguments = RevocationNotice
    answers = SerialOutcome

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    async def run(self, request: CommandRequest, _progress: Progress) -> msgspec.Struct | None:
        """Take it; one that is not newer changes nothing."""
        return SerialOutcome(await self._policies.take_revocations(self.read(request).signed))


class Device(KindOf[DeviceCommand]):
    """`device`: quarantine, release or revoke an attached device."""

    kind = "device"
    lane = "devices"
    role = OperatorRole.SECURITY
    arguments = DeviceCommand
    answers = DeviceOutcome

    def __init__(self, door: DeviceDoor) -> None:
        self._door = door

    async def run(self, request: CommandRequest, _progress: Progress) -> msgspec.Struct | None:
        """Do it."""
        wanted = self.read(request)
        return await self._door.operate(wanted.device, wanted.operation, wanted.reason, f"command {request.id}")


class CertificateRequest(KindOf[CertificateAsk]):
    """`certificate-request`: make a signing request, for the present key or for a new one, which waits."""

    kind = "certificate-request"
    lane = LANE
    role = OperatorRole.SECURITY
    arguments = CertificateAsk
    answers = SigningRequest

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    async def run(self, request: CommandRequest, _progress: Progress) -> msgspec.Struct | None:
        """Make it."""
        return await self._certificates.signing_request(new_key=self.read(request).new_key)


class CertificateTake(KindOf[Membership]):
    """`certificate-take`: take the next certificate; where its key is new, the services start anew with it."""

    kind = "certificate-take"
    lane = LANE
    role = OperatorRole.SECURITY
    two_persons = True
    after_crash = AfterCrash.CHECK
    arguments = Membership
    answers = CertificateOutcome

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    async def run(self, request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        """Take it."""
        await progress("takes the certificate", 0.5)
        return await self._certificates.adopt(self.read(request))

    async def recover(self, request: CommandRequest) -> Recovered:
        """It has succeeded where the node has it."""
        has = self._certificates.has(self.read(request))
        return Recovered(go_on=True) if has is None else Recovered(result=has)


class Wipe(KindOf[WipeCommand]):
    """`wipe`: remove identity, keys and state. Only ever by two persons (`rules.ALWAYS_TWO`)."""

    kind = "wipe"
    lane = LANE
    role = OperatorRole.SECURITY
    two_persons = True
    arguments = WipeCommand
    answers = WipeOutcome

    def __init__(self, node: str, mark: Callable[[], Awaitable[int]]) -> None:
        """`mark` writes down that the node is to be wiped and returns the time; the daemon does it soon after."""
        self._node = node
        self._mark = mark

    def check(self, request: CommandRequest) -> None:
        """Raise `order.bad_arguments` where they do not name this node."""
        if self.read(request).node != self._node:
            raise QedgeError(
                "order.bad_arguments",
                "The arguments name another node than the request.",
                fix="Name the node that it is sent to.",
            )

    async def run(self, _request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        """Mark it; what is told of the end is the last word of this identity."""
        await progress("removes everything", 0.9)
        return WipeOutcome(await self._mark())
