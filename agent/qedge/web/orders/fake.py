"""The commands of fleet operators of the node that tests use: one that ended."""

from __future__ import annotations

from typing import Final

from qedge.base.errors import QedgeError
from qedge.wire.commands import FleetCommandList, FleetCommandView

UTC_NS: Final = 1_800_000_000_000_000_000
ENDED: Final = FleetCommandView(
    id="01a2246a-6fcc-7d9f-829a-ff8a1f1967df",
    kind="drain",
    lane="drain",
    state="successful",
    phase="successful",
    operator="olga",
    key_id="00112233445566778899aabbccddeeff",
    serial=7,
    revision=4,
    received_utc_ns=UTC_NS,
    began_utc_ns=UTC_NS + 1,
    ended_utc_ns=UTC_NS + 2,
    expires_utc_ns=UTC_NS + 3,
    progress=1.0,
)


class FakeOrders:
    """Implements `OrdersPort`."""

    async def commands(self, limit: int) -> FleetCommandList:
        """Return the one."""
        return FleetCommandList((ENDED,)[:limit])

    async def command(self, command: str) -> FleetCommandView:
        """Return it by its id."""
        if command != ENDED.id:
            raise QedgeError("order.not_found", "The node knows no command of this id.")
        return ENDED
