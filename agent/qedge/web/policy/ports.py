"""What the HTTP interface needs from the policy engine; `security.policy.service` fills it."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.policy import PolicyView, RecordCommand, RecordedRequests


class PolicyPort(Protocol):
    """The policy of the node. Methods raise `policy.*`, `auth.*` and `store.*`."""

    def view(self) -> PolicyView:
        """Describe the policy in force."""
        ...

    async def reload(self) -> PolicyView:
        """Read the file again; one with faults leaves the old policy in force."""
        ...

    async def take(self, signed: bytes) -> PolicyView:
        """Take a policy that the fleet's authority signed, and tell all peers."""
        ...

    async def record(self, command: RecordCommand) -> RecordedRequests:
        """Record the next requests."""
        ...


class PolicyNode(Protocol):
    """The node, as far as this is about it."""

    @property
    def policy(self) -> PolicyPort:
        """The policy of the node; raises `policy.off` where it enforces none."""
        ...
