"""What daemon and link worker say to each other: the order to distil, and what comes of it. Imported by both."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from qedge.qkd.authentication.stock import KeptStock
from qedge.qkd.distillation.baseline import Expected

LINK_HOST: Final = "qedge.qkd.distillation.host:LinkHost"
"""Target of the workers that hold a transceiver of a link that distils."""

FRAME: Final = b"f"
"""First byte of a message of the stream from the worker: what follows is for the other end of the link."""
KEY: Final = b"k"
"""… a `FinishedBlock`."""
REPORT: Final = b"r"
"""… a `BlockReport`."""
STAGES: Final = b"s"
"""… `LinkStages`."""
STOCKS: Final = b"p"
"""… a tuple of `KeptStock`: what is left of distilled pads, always before the first frame that uses one of them."""
BASELINE: Final = b"b"
"""… a `Baseline`: what the end that detects has learned, to be kept for its next worker."""
HALTED: Final = b"h"
"""… text: why the engine does nothing more."""

RUN_BYTES: Final = 16


class DistilOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Argument of the worker's method `distil`: begin anew with this seed, and speak on this stream.

    `stocks` are pads of an earlier run that both ends still have.
    """

    stream: int
    link: str
    seed: bytes
    first_block: int
    block_bits: int
    epsilons: tuple[float, float, float]
    max_qber: float
    clean_blocks: int
    stocks: tuple[KeptStock, ...] = ()
    expected: Expected = Expected()

    def __repr__(self) -> str:
        return f"DistilOrder({self.link!r})"


class LinkStages(msgspec.Struct, frozen=True):
    """How an end is now. `stages_ns`: processor time of each stage since the engine began."""

    stages_ns: dict[str, int]
    detections: int = 0
    open_blocks: int = 0
    waiting_bytes: int = 0
    quarantined: bool = False
    running: bool = False
    distilled_pads: bool = False
    pads_left: int = 0
    fault: Annotated[str, msgspec.Meta(max_length=1000)] = ""
