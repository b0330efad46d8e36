"""The state that nodes share, as methods of a node's client."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from qedge.client.fleet import Transport
from qedge.wire.state import StatePut, StateRow, StateRows

_SLACK_S: Final = 10.0


class StateClient:
    """Every method raises `QedgeError`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def listing(self, namespace: str = "") -> StateRows:
        """Return what the node holds."""
        return await self._transport.ask("GET", f"/v1/state?namespace={quote(namespace, safe='')}", StateRows)

    async def changes(self, namespace: str = "", since: int = 0, wait_s: float = 25.0) -> StateRows:
        """Return what came after change `since`, deletions too; waits up to `wait_s` (≤ 30) seconds for something."""
        path = f"/v1/state?namespace={quote(namespace, safe='')}&since={since}&wait_s={wait_s}"
        return await self._transport.ask("GET", path, StateRows, timeout_s=wait_s + _SLACK_S)

    async def get(self, namespace: str, key: str) -> StateRows:
        """Return what stands under a key."""
        return await self._transport.ask("GET", _path(namespace, key), StateRows)

    async def put(self, namespace: str, key: str, value: bytes) -> StateRow:
        """Say something under a key."""
        return await self._transport.ask("PUT", _path(namespace, key), StateRow, body=StatePut(value))

    async def delete(self, namespace: str, key: str) -> StateRow:
        """Delete what stands under a key."""
        return await self._transport.ask("DELETE", _path(namespace, key), StateRow)


def _path(namespace: str, key: str) -> str:
    return f"/v1/state/{quote(namespace, safe='')}/{quote(key, safe='')}"
