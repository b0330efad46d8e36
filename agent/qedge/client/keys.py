"""Keys and the applications that get them, as methods of a node's client."""

from __future__ import annotations

from urllib.parse import quote

from qedge.client.fleet import Transport
from qedge.wire.delivery import (
    HandedKeys,
    KeyCollect,
    KeyOverview,
    KeyTake,
    SaeCertificate,
    SaeChange,
    SaeList,
    SaePermit,
    SaeRequest,
    SaeRevoked,
    SaeView,
)


class KeysClient:
    """Pools, keys, applications and their certificates; every method raises `QedgeError`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def overview(self) -> KeyOverview:
        """Tell what every pair of applications could have now."""
        return await self._transport.ask("GET", "/v1/keys", KeyOverview)

    async def take(self, wanted: KeyTake) -> HandedKeys:
        """Take fresh keys as an application of the node."""
        return await self._transport.ask("POST", "/v1/keys", HandedKeys, body=wanted)

    async def collect(self, wanted: KeyCollect) -> HandedKeys:
        """Collect keys as an application of the node."""
        return await self._transport.ask("POST", "/v1/keys/collect", HandedKeys, body=wanted)

    async def saes(self) -> tuple[SaeView, ...]:
        """List the applications."""
        return (await self._transport.ask("GET", "/v1/saes", SaeList)).saes

    async def put_sae(self, name: str, change: SaeChange) -> SaeView:
        """Add an application, or change one that was added."""
        return await self._transport.ask("PUT", _path(name), SaeView, body=change)

    async def permit(self, name: str, permit: SaePermit) -> SaeView:
        """Let an application ask keys with others, or no more."""
        return await self._transport.ask("POST", _path(name, "/permit"), SaeView, body=permit)

    async def remove_sae(self, name: str) -> SaeRevoked:
        """Remove an application that was added, and revoke its certificates."""
        return await self._transport.ask("DELETE", _path(name), SaeRevoked)

    async def certify(self, name: str, request: bytes) -> SaeCertificate:
        """Have a certificate made for an application of the node; `request` is PKCS#10 in DER."""
        path = _path(name, "/certificates")
        return await self._transport.ask("POST", path, SaeCertificate, body=SaeRequest(request))

    async def revoke(self, name: str) -> SaeRevoked:
        """Revoke all certificates of an application that the node made."""
        return await self._transport.ask("DELETE", _path(name, "/certificates"), SaeRevoked)


def _path(name: str, rest: str = "") -> str:
    return f"/v1/saes/{quote(name, safe='')}{rest}"
