"""Settings of the ledger."""

from __future__ import annotations

from typing import Annotated

import msgspec


class LedgerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[ledger]`: leases of jobs on other nodes, copies of their records, stragglers, draining."""

    lease_s: Annotated[
        float,
        msgspec.Meta(
            description="A runner that was not heard of for this long has lost its jobs for any node; it renews three "
            "times as often.",
            ge=0.2,
            le=60,
        ),
    ] = 1.0
    quiet_s: Annotated[
        float,
        msgspec.Meta(
            description="A job for any node that waits this long for its runner to answer at all is offered to a "
            "second one as well; batch jobs wait for the end of the lease. 0: all do.",
            ge=0,
            le=60,
        ),
    ] = 0.25
    copies: Annotated[
        int,
        msgspec.Meta(description="Other nodes that hold a record of each job for any node.", ge=0, le=2),
    ] = 1
    copy_wait_s: Annotated[
        float,
        msgspec.Meta(
            description="A submission waits this long for the first copy; then it is accepted without one.",
            ge=0,
            le=10,
        ),
    ] = 0.25
    adopt_after_s: Annotated[
        float,
        msgspec.Meta(description="The owner of a job has to be dead for this long before another adopts it.", ge=0.1),
    ] = 1.0
    records_of_one: Annotated[
        int, msgspec.Meta(description="Records of jobs that are held for one node at most.", ge=1, le=10**6)
    ] = 20_000
    leases_of_one: Annotated[
        int, msgspec.Meta(description="Jobs that are run for one node at a time, waiting ones included.", ge=1, le=4096)
    ] = 2_000
    straggler_factor: Annotated[
        float,
        msgspec.Meta(
            description="A job that runs for this many times as long as predicted, and as most others did, runs on a "
            "second node as well; 0: never.",
            ge=0,
            le=1000,
        ),
    ] = 4.0
    straggler_min_s: Annotated[
        float, msgspec.Meta(description="And never before it has run for this long.", ge=0.1, le=86_400)
    ] = 2.0
    straggler_share: Annotated[
        float, msgspec.Meta(description="Share of the running jobs that may run twice at a time.", ge=0, le=1)
    ] = 0.05
    drain_limit_s: Annotated[
        float,
        msgspec.Meta(description="Running jobs of a node that is drained go elsewhere after this time.", ge=0, le=1e6),
    ] = 30.0
    drain_on_stop: Annotated[
        bool, msgspec.Meta(description="Whether a node that is stopped gives its jobs away before it ends.")
    ] = True
    drain_stop_s: Annotated[float, msgspec.Meta(description="Time that this may take.", ge=0.1, le=3600)] = 1.5
