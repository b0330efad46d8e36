"""Settings of telemetry."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from qedge.wire.telemetry import MAX_ITEMS, TelemetryClass


class TelemetryKeepConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fleet.telemetry.CLASS]`: how much of a class waits on the disk, how long, and what gives way."""

    max_rows: Annotated[int, msgspec.Meta(description="Items on the disk.", ge=16, le=100_000_000)] = 100_000
    max_mib: Annotated[int, msgspec.Meta(description="Space of them on the disk.", ge=1, le=1_048_576)] = 32
    max_age_s: Annotated[int, msgspec.Meta(description="Older items are dropped.", ge=60, le=31_536_000)] = 604_800
    drop: Annotated[
        Literal["oldest", "newest", "thin"],
        msgspec.Meta(
            description="What gives way where the space is used up; `thin`: every second item of each series in the "
            "older half.",
        ),
    ] = "oldest"


class TelemetryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fleet.telemetry]`: readings, health, events and alarms of this node for those who watch the fleet."""

    enabled: Annotated[bool, msgspec.Meta(description="Keep telemetry on the disk and publish it.")] = False
    period_s: Annotated[float, msgspec.Meta(description="Time between two readings.", ge=0.1, le=86_400)] = 30.0
    health_s: Annotated[
        float, msgspec.Meta(description="Time after which unchanged health is said again.", ge=1, le=86_400)
    ] = 300.0
    alarm_after_s: Annotated[
        float,
        msgspec.Meta(description="How long something is wrong before it is told, if not critical.", ge=0, le=3600),
    ] = 20.0
    batch_items: Annotated[int, msgspec.Meta(description="Most items in a message.", ge=1, le=MAX_ITEMS)] = 256
    replay_per_s: Annotated[
        int,
        msgspec.Meta(
            description="Items a second at which those that waited are sent; new ones go ahead of them.",
            ge=10,
            le=1_000_000,
        ),
    ] = 1000
    queue_items: Annotated[
        int, msgspec.Meta(description="Items that may wait in memory for the disk.", ge=1024, le=10_000_000)
    ] = 50_000
    alarm: TelemetryKeepConfig = TelemetryKeepConfig(20_000, 8, 2_592_000, "newest")
    event: TelemetryKeepConfig = TelemetryKeepConfig(50_000, 16, 1_209_600, "oldest")
    health: TelemetryKeepConfig = TelemetryKeepConfig(20_000, 8, 604_800, "thin")
    reading: TelemetryKeepConfig = TelemetryKeepConfig(500_000, 96, 604_800, "thin")

    def keep(self, kind: TelemetryClass) -> TelemetryKeepConfig:
        """Return what holds for a class."""
        return {
            TelemetryClass.ALARM: self.alarm,
            TelemetryClass.EVENT: self.event,
            TelemetryClass.HEALTH: self.health,
            TelemetryClass.READING: self.reading,
        }[kind]
