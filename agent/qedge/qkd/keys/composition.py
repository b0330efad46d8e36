"""How the record of a key follows from the records of the blocks behind it. Pure.

A part of a block has the epsilons of the whole block, undivided; what stands on several blocks has their sum (the
composable definition: the chance that anything went wrong with any of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qedge.qkd.keys.model import Wanted
from qedge.wire.keys import BlockProvenance, KeyProvenance, Origin, RelayHop

Source = tuple[str, int, BlockProvenance]
"""Link, block number, and what distillation says of the block."""


def compose(
    wanted: Wanted, node: str, sources: Sequence[Source], created_utc_ns: int, lifetime_ns: int
) -> KeyProvenance:
    """Return the record of the keys of a request: `sources` are all blocks here that it takes bits from.

    Blocks of links further on are not known here; for each such link stands what its node promised at most.
    """
    targets = wanted.targets(node)
    hops = [hop for target in targets for hop in target.onward]
    records: list[BlockProvenance | RelayHop] = [*(record for _, _, record in sources), *hops]
    own = dict(wanted.elsewhere).get(node, ())
    seen = [name for target in targets for name in (target.peer, *(hop.node for hop in target.onward))]
    path = seen if wanted.slaves else seen[1:]
    slaves = (*targets[0].slaves, *own, *(slave for target in targets[1:] for slave in target.slaves))
    farthest = max(len(target.onward) for target in targets)
    return KeyProvenance(
        origin=Origin.RELAYED if hops or len(targets) > 1 else Origin.DIRECT,
        protocol="+".join(sorted({record.protocol for record in records}))[:200],
        bits=8 * wanted.key_bytes,
        link_blocks=tuple(f"{link}/{number}" for link, number, _ in sources)[:64],
        hops=max(farthest, 1 if len(targets) > 1 else 0),
        path=tuple(dict.fromkeys((node, *path))),
        # The peer of the link has the bits too, even where it only destroys them.
        trusted_nodes=tuple(dict.fromkeys((node, *seen))),
        eps_cor=min(1.0, sum(record.eps_cor for record in records)),
        eps_sec=min(1.0, sum(record.eps_sec for record in records)),
        eps_auth=min(1.0, sum(record.eps_auth for record in records)),
        eps_total=min(1.0, sum(record.eps_total for record in records)),
        simulated=any(record.simulated for record in records),
        master=wanted.master,
        slaves=tuple(dict.fromkeys(slaves)),
        created_utc_ns=created_utc_ns,
        expires_utc_ns=created_utc_ns + lifetime_ns,
    )


NO_KEY: Final = KeyProvenance(Origin.DIRECT, "", 0, (), 0, (), (), 0.0, 0.0, 0.0, 0.0, False, "", (), 0, 0)
"""The record of a grant that never came to be."""
