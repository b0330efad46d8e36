"""QKD links of the node that tests use."""

from __future__ import annotations

from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.wire.node import LinkMeasure, LinkView

_LINKS: Final = (LinkView(name="lab", alice="alice", bob="bob"),)


class FakeLinks:
    """Links whose error rate is 1 %, or 25 % while `eve` listens."""

    def __init__(self) -> None:
        self._links = {view.name: view for view in _LINKS}
        self.eve = False

    def set_link(self, view: LinkView) -> None:
        """Put a link in the place of the one of its name, or beside the others."""
        self._links[view.name] = view

    def links(self) -> tuple[LinkView, ...]:
        """Return the links."""
        return tuple(self._links.values())

    async def measure_link(self, name: str, request: LinkMeasure) -> LinkView:
        """Report an error rate of 1 %, or 25 % with the eavesdropper."""
        view = self._links.get(name)
        if view is None:
            raise QedgeError("http.not_found", f"No link is called {name}.")
        errors = round(request.sifted * (0.25 if self.eve else 0.01))
        verdict = "error rate too high: someone listens, or the link is broken" if self.eve else "usable"
        measured = msgspec.structs.replace(
            view, sifted=request.sifted, errors=errors, qber=errors / request.sifted, gain=0.004, verdict=verdict
        )
        self._links[name] = measured
        return measured


def fake_links(count: int) -> tuple[LinkView, ...]:
    """Make QKD links to the first peers; the third of them is quarantined."""
    return tuple(
        LinkView(
            f"fibre-{number}", "qkd", "", 1 << 20, 5243 * number, 0.005 * number, 0.004, peer=f"box-{number}",
            state="quarantined" if number == 4 else "running", reason="too many errors" if number == 4 else "",
            blocks=40 + number, blocks_dropped=1, key_bits=5_500_000 * number,
            key_bit_s=0.0 if number == 4 else 2_750_000.0 / number, efficiency=1.18, authentication_bits=4096,
            wire_bits_per_sifted=11.9,
        )
        for number in range(2, count + 2)
    )  # fmt: skip
