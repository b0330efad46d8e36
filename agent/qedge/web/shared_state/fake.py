"""The shared state of the node that tests use: one namespace, in memory."""

from __future__ import annotations

import asyncio

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.wire.state import StatePut, StateRow, StateRows

NAMESPACE = "settings"


class FakeState:
    """Implements `StatePort`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[str, StateRow] = {}
        self._change = 0

    def listing(self, namespace: str) -> StateRows:
        """Return all."""
        if namespace not in ("", NAMESPACE):
            raise QedgeError("state.not_found", f"The shared state has no namespace {namespace!r}.")
        rows = sorted(self._rows.values(), key=lambda row: row.key)
        return StateRows(tuple(row for row in rows if not row.deleted), self._change, "0" * 32, "1" * 32)

    async def changes(self, namespace: str, since: int, wait_s: float) -> StateRows:
        """Return what is newer."""
        if not any(row.change > since for row in self._rows.values()):
            await asyncio.sleep(min(wait_s, 0.05))
        self.listing(namespace)
        return StateRows(tuple(row for row in self._rows.values() if row.change > since), self._change)

    def find(self, namespace: str, key: str) -> StateRows:
        """Return the one."""
        found = tuple(row for row in self.listing(namespace).rows if row.key == key)
        if not found:
            raise QedgeError("state.not_found", f"Nothing stands under {key!r} in {namespace}.")
        return StateRows(found, self._change)

    async def put(self, namespace: str, key: str, change: StatePut) -> StateRow:
        """Keep it."""
        return self._say(namespace, key, change.value)

    async def delete(self, namespace: str, key: str) -> StateRow:
        """Forget it."""
        self.find(namespace, key)
        return self._say(namespace, key, b"", deleted=True)

    def _say(self, namespace: str, key: str, value: bytes, *, deleted: bool = False) -> StateRow:
        self.listing(namespace)
        self._change += 1
        utc_ns = self._clock.utc_ns()
        row = StateRow(namespace, key, "box-1", utc_ns, self._change, 0, deleted, value, self._change)
        self._rows[key] = row
        return row
