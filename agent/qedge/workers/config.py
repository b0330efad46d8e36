"""Settings of workers, and of the drivers they host."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Setting = str | int | float | bool | list[str | int | float | bool]


class WorkersConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[workers]`: limits of the processes that host drivers."""

    start_timeout_s: Annotated[
        float, msgspec.Meta(description="Time within which a worker must be ready.", ge=1, le=600)
    ] = 60.0
    heartbeat_timeout_s: Annotated[
        float, msgspec.Meta(description="An idle worker that is silent for longer is replaced.", ge=3, le=600)
    ] = 15.0
    memory_limit_mib: Annotated[
        int,
        msgspec.Meta(description="Memory a worker may take beyond what it has when idle; 0: no limit.", ge=0, le=2**22),
    ] = 0
    cpu_limit_s: Annotated[
        int, msgspec.Meta(description="Processor time of a worker's whole life; 0: no limit.", ge=0, le=10**8)
    ] = 0
    max_calls: Annotated[
        int, msgspec.Meta(description="A worker is replaced after this many calls.", ge=1, le=10**9)
    ] = 10_000
    health_interval_s: Annotated[
        float, msgspec.Meta(description="Time between two looks at the health of a driver.", ge=0.2, le=600)
    ] = 2.0
    call_deadline_s: Annotated[
        float, msgspec.Meta(description="Time for a short call such as open, close or health.", ge=0.5, le=600)
    ] = 20.0


class DriverConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[drivers.NAME]`: one device; NAME is how the rest of the configuration and the commands call it."""

    driver: Annotated[str, msgspec.Meta(description="Name of an installed driver.", min_length=1, max_length=64)]
    enabled: Annotated[bool, msgspec.Meta(description="Whether the node uses the device.")] = True
    startup: Annotated[
        Literal["error", "retry", "ignore"],
        msgspec.Meta(
            description="If it does not open: `error` keeps the node unready, `retry` tries on, `ignore` gives up."
        ),
    ] = "retry"
    workers: Annotated[
        int,
        msgspec.Meta(description="Worker processes that take calls at once; more than one only for QPUs.", ge=1, le=64),
    ] = 1
    spares: Annotated[
        int, msgspec.Meta(description="Further processes that stand warm in case one dies; only for QPUs.", ge=0, le=8)
    ] = 0
    settings: Annotated[
        dict[str, Setting], msgspec.Meta(description="Settings of the driver itself; `qedge drivers show` lists them.")
    ] = {}
