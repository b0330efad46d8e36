"""Settings of the way upstream."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from qedge.devices.segments.model import RetentionClass


class KeepConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[devices.onward.CLASS]`: how much of a class of readings waits, how long, and what gives way."""

    max_mib: Annotated[int, msgspec.Meta(description="Readings on the disk.", ge=1, le=1_048_576)] = 128
    max_age_s: Annotated[int, msgspec.Meta(description="Older readings are dropped.", ge=60, le=31_536_000)] = 259_200
    drop: Annotated[
        Literal["oldest", "newest"],
        msgspec.Meta(description="What gives way where the space is used up."),
    ] = "oldest"


class OnwardConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[devices.onward]`: readings of segments with `upstream`, kept on the disk until the upstream has them."""

    recipient: Annotated[
        str,
        msgspec.Meta(
            description="File with the public key (X-Wing) of who may read them, made by `qedge segment upstream-key`; "
            "empty: there is no upstream.",
            max_length=1024,
        ),
    ] = ""
    batch_readings: Annotated[int, msgspec.Meta(description="Most readings in a message.", ge=1, le=1024)] = 512
    replay_per_s: Annotated[
        int,
        msgspec.Meta(
            description="Readings a second at which those that waited are sent; new ones are not held up.",
            ge=10,
            le=1_000_000,
        ),
    ] = 5000
    queue_readings: Annotated[
        int,
        msgspec.Meta(description="Readings that may wait in memory for the disk.", ge=1024, le=10_000_000),
    ] = 100_000
    critical: KeepConfig = KeepConfig(64, 604_800, "newest")
    telemetry: KeepConfig = KeepConfig()
    bulk: KeepConfig = KeepConfig(64, 86_400, "oldest")

    def keep(self, retention: RetentionClass) -> KeepConfig:
        """Return what holds for a class."""
        return {
            RetentionClass.CRITICAL: self.critical,
            RetentionClass.TELEMETRY: self.telemetry,
            RetentionClass.BULK: self.bulk,
        }[retention]
