"""Settings of host health."""

from __future__ import annotations

from typing import Annotated

import msgspec


class HostConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[host]`: when the box itself counts as unwell."""

    sample_interval_s: Annotated[
        float, msgspec.Meta(description="Time between two looks at the host.", ge=0.2, le=10)
    ] = 2.0
    min_memory_mib: Annotated[
        int,
        msgspec.Meta(description="Below this much free memory the host is degraded; critical at half.", ge=0, le=2**22),
    ] = 128
    min_disk_mib: Annotated[
        int,
        msgspec.Meta(
            description="Below this much free disk the host is degraded; critical at a quarter.", ge=0, le=2**30
        ),
    ] = 64
    max_cpu_ratio: Annotated[
        float,
        msgspec.Meta(
            description="Above this busy share of all cores over half a minute the host is degraded.",
            gt=0,
            le=1,
        ),
    ] = 0.98
    max_temperature_celsius: Annotated[
        float, msgspec.Meta(description="Above this the host is degraded; critical 10 degrees on.", ge=20, le=200)
    ] = 90.0
    clock_step_s: Annotated[
        float, msgspec.Meta(description="A jump of the wall clock by more than this is reported.", ge=0.05, le=3600)
    ] = 0.5
