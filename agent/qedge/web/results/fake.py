"""Standings that tests set."""

from __future__ import annotations

import msgspec

from qedge.base.errors import QedgeError
from qedge.wire.receipts import Receipt
from qedge.wire.standing import Standing


class FakeResults:
    """Knows `box-2`, which is confirmed, and `box-3`, which was caught."""

    def __init__(self) -> None:
        caught = Standing("box-3", checked=12, wrong=1, barred_utc_ns=10**18, why="box-2 and box-4 agree otherwise")
        self.known = {each.node: each for each in (Standing("box-2", checked=40, clean=40), caught)}

    def standings(self) -> tuple[Standing, ...]:
        """Return all."""
        return tuple(self.known.values())

    async def receipt(self, _job_id: str) -> Receipt | None:
        """Return none: no job of the fake ran elsewhere."""
        return None

    def pardon(self, node: str) -> Standing:
        """Forgive a node that is known."""
        if node not in self.known:
            raise QedgeError("job.no_node", f"No result of {node!r} ever came here.", fix="`qedge standing` lists all.")
        self.known[node] = msgspec.structs.replace(self.known[node], barred_utc_ns=0, why="")
        return self.known[node]
