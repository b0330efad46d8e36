"""Settings of commands of fleet operators."""

from __future__ import annotations

from typing import Annotated

import msgspec

_Kind = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,36}\Z", title="the name of a kind of command")]


class CommandsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fleet.commands]`: what fleet operators may order over MQTT."""

    enabled: Annotated[
        bool, msgspec.Meta(description="Whether the node takes commands of the fleet's operators over MQTT.")
    ] = True
    two_persons: Annotated[
        tuple[_Kind, ...],
        msgspec.Meta(
            description="Kinds of commands that begin only with the approval of a second operator; wipe always does. "
            "A configuration of the fleet leaves out none that a file of the box names.",
            max_length=64,
        ),
    ] = ("wipe",)
    synchronised_clock: Annotated[
        bool,
        msgspec.Meta(
            description="Whether commands of the role security are refused while the kernel says that nothing "
            "synchronises its clock. Only a file of the box can switch it off, no configuration of the fleet."
        ),
    ] = True
    clock_skew_s: Annotated[
        float, msgspec.Meta(description="How far clocks of operators may be ahead of the node's.", ge=0, le=3600)
    ] = 120.0
    max_waiting: Annotated[
        int, msgspec.Meta(description="Commands that wait at most, in all lanes.", ge=1, le=4096)
    ] = 256
    max_kept: Annotated[
        int, msgspec.Meta(description="Commands that are remembered at most; more are refused.", ge=16, le=100_000)
    ] = 4096
    keep_days: Annotated[
        float, msgspec.Meta(description="Days for which a command that has ended is shown.", ge=0.01, le=365)
    ] = 7.0
    checks_per_s: Annotated[
        float,
        msgspec.Meta(
            description="Bad signatures of commands that are looked at in a second; what is over waits for a calm one.",
            ge=1,
            le=10_000,
        ),
    ] = 20.0
