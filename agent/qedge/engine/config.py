"""Settings of the job service."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qedge.engine.qasm.model import ParseLimits


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[engine]`: what jobs may cost, and how long they are kept."""

    max_shots: Annotated[int, msgspec.Meta(description="Most shots of one job.", ge=1, le=10**9)] = 1_000_000
    max_result_bytes: Annotated[
        int, msgspec.Meta(description="Largest result, estimated before the run.", ge=1024, le=2**30)
    ] = 16 * 2**20
    memory_share: Annotated[
        float, msgspec.Meta(description="Share of the free memory that jobs may take together.", gt=0, le=1)
    ] = 0.8
    queue_limit: Annotated[
        int, msgspec.Meta(description="Jobs that may wait; any further one is refused.", ge=1, le=10**6)
    ] = 10_000
    client_queue_limit: Annotated[
        int,
        msgspec.Meta(description="Jobs of one client that have not ended; any further one is refused.", ge=1, le=10**6),
    ] = 5_000
    client_critical_limit: Annotated[
        int,
        msgspec.Meta(description="Of these, critical ones; what is always first must stay little.", ge=0, le=10**6),
    ] = 200
    critical_share: Annotated[
        float,
        msgspec.Meta(description="Share of the time that critical jobs get at most while others wait.", gt=0, lt=1),
    ] = 0.8
    interactive_weight: Annotated[
        float,
        msgspec.Meta(
            description="Time that interactive jobs get for every second of batch jobs, where both wait.", ge=1, le=1000
        ),
    ] = 8.0
    ageing_s: Annotated[
        float,
        msgspec.Meta(description="A waiting job rises by one priority each time this has passed.", ge=0.1, le=86_400),
    ] = 30.0
    express_s: Annotated[
        float,
        msgspec.Meta(
            description="Critical and interactive jobs that take no longer run on a spare worker while all others are "
            "busy; 0: none do.",
            ge=0,
            le=60,
        ),
    ] = 0.5
    client_run_s_per_minute: Annotated[
        float,
        msgspec.Meta(
            description="Predicted run time that one client may ask for per minute; 0 is no limit.", ge=0, le=1e6
        ),
    ] = 0.0
    keep_answers: Annotated[
        int,
        msgspec.Meta(
            description="Results of simulators that are given again to identical jobs with the same seed; 0 is none.",
            ge=0,
            le=1000,
        ),
    ] = 32
    keep_templates: Annotated[
        int, msgspec.Meta(description="Uploaded programs that are kept, those used last.", ge=1, le=100_000)
    ] = 1_000
    assess_after_s: Annotated[
        float,
        msgspec.Meta(description="A QPU that came up is assessed after this time, when no job waits.", ge=0, le=86_400),
    ] = 30.0
    assess_every_s: Annotated[
        float, msgspec.Meta(description="And again after this time; 0: only on request.", ge=0, le=10**7)
    ] = 3600.0
    assess_devices: Annotated[
        bool,
        msgspec.Meta(
            description="Whether real devices are assessed without being asked; it takes thousands of runs, which may "
            "cost money."
        ),
    ] = False
    prepare_deadline_s: Annotated[
        float, msgspec.Meta(description="Time to parse and estimate a program.", ge=0.1, le=600)
    ] = 20.0
    run_deadline_s: Annotated[
        float, msgspec.Meta(description="Longest run of one job; its worker is then replaced.", ge=0.1, le=86_400)
    ] = 300.0
    qpu_wait_s: Annotated[
        float, msgspec.Meta(description="A submission waits this long for a QPU that is starting.", ge=0, le=600)
    ] = 10.0
    no_qpu_limit_s: Annotated[
        float, msgspec.Meta(description="A job that finds no QPU for this long fails.", ge=1, le=86_400)
    ] = 600.0
    max_attempts: Annotated[
        int, msgspec.Meta(description="Runs of a job whose worker dies under it, the first one included.", ge=1, le=10)
    ] = 2
    runner_lost_s: Annotated[
        float,
        msgspec.Meta(
            description="A job that waits for one node fails when that has been gone for this long.",
            ge=1,
            le=10**6,
        ),
    ] = 300.0
    keep_s: Annotated[
        float,
        msgspec.Meta(
            description="Ended jobs are forgotten after this time, counted while the node runs.", ge=60, le=10**9
        ),
    ] = 7 * 86_400.0
    keep_jobs: Annotated[
        int, msgspec.Meta(description="Ended jobs beyond this number are forgotten, oldest first.", ge=1, le=10**7)
    ] = 20_000
    limits: Annotated[ParseLimits, msgspec.Meta(description="Bounds of one program.")] = ParseLimits()
