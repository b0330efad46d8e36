"""What the HTTP interface needs from key delivery, for the operator's programs; `qkd.delivery.office` fills it."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.delivery import (
    HandedKeys,
    KeyCollect,
    KeyOverview,
    KeyTake,
    SaeCertificate,
    SaeChange,
    SaeList,
    SaePermit,
    SaeRevoked,
    SaeView,
)


class KeysPort(Protocol):
    """Applications and their keys. Methods raise `keys.*` and `web.*`."""

    async def saes(self) -> SaeList:
        """List the applications."""
        ...

    async def put_sae(self, name: str, change: SaeChange) -> SaeView:
        """Add an application, or change one that was added."""
        ...

    async def permit(self, name: str, permit: SaePermit) -> SaeView:
        """Let an application ask keys with others, or no more."""
        ...

    async def remove_sae(self, name: str) -> SaeRevoked:
        """Remove an application that was added, and revoke its certificates."""
        ...

    async def certify(self, name: str, request: bytes) -> SaeCertificate:
        """Make a certificate for an application of this node."""
        ...

    async def revoke(self, name: str) -> SaeRevoked:
        """Revoke all certificates of an application that this node made."""
        ...

    async def overview(self) -> KeyOverview:
        """Tell what every pair could have now."""
        ...

    async def take(self, wanted: KeyTake) -> HandedKeys:
        """Take fresh keys as an application of this node."""
        ...

    async def collect(self, wanted: KeyCollect) -> HandedKeys:
        """Collect keys as an application of this node."""
        ...


class KeysNode(Protocol):
    """The node, as far as this is about it."""

    @property
    def keys(self) -> KeysPort:
        """Key delivery of the node; raises `keys.off` where there is none."""
        ...
