"""Checks the second signature of a fleet's root, of another family than ML-DSA, in a worker of its own."""

from __future__ import annotations

import secrets

from qedge.base.errors import QedgeError
from qedge.base.system_clock import SystemClock
from qedge.crypto.keys import context_of
from qedge.wire.trust import Anchor
from qedge.workers.model import WorkerSpec
from qedge.workers.process import WorkerProcess

_LIMIT_S = 20.0


async def check_second_signature(anchor: Anchor) -> None:
    """Raise `auth.bad_signature` where the anchor has a second signature that is not good; none at all is allowed.

    It is checked once, when a node takes its place in the fleet: from then on the anchor stands in its database.
    """
    if not anchor.second_algorithm:
        return
    # loaded where an anchor has such a signature, once in the life of a node
    from qedge.crypto.authority import ANCHOR_PURPOSE
    from qedge.crypto.pq_worker import TARGET

    worker = WorkerProcess(WorkerSpec("pq", TARGET), clock=SystemClock(), random_bytes=secrets.token_bytes)
    try:
        await worker.start()
        good = await worker.call(
            "verify",
            {
                "algorithm": anchor.second_algorithm,
                "public_key": anchor.second_key,
                "message": anchor.root,
                "signature": anchor.second_signature,
                "context": context_of(ANCHOR_PURPOSE),
            },
            deadline_s=_LIMIT_S,
        )
    finally:
        await worker.close()
    if good is not True:
        raise QedgeError(
            "auth.bad_signature",
            "The second signature of the fleet's root is not good.",
            fix="Do not use this fleet: ask its operator for a new invitation.",
        )
