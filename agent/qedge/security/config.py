"""Settings of trust, detection, incidents and the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from qedge.security.policy.config import PolicyConfig


class TrustConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[security.trust]`: how far devices are trusted; what evidence counts is a table of the program."""

    base: Annotated[
        int, msgspec.Meta(description="Score of a device of which nothing is known, 0 to 100.", ge=0, le=100)
    ] = 50
    quarantine_below: Annotated[
        int, msgspec.Meta(description="A device with a score below this is quarantined.", ge=0, le=100)
    ] = 20
    hysteresis: Annotated[
        int,
        msgspec.Meta(
            description="Trust recovers this much later than it fell, and a quarantine ends only this much above its "
            "threshold.",
            ge=0,
            le=50,
        ),
    ] = 10
    gain_per_hour: Annotated[
        float, msgspec.Meta(description="Most points that good evidence gives a device in any hour.", ge=0, le=100)
    ] = 10.0
    review_s: Annotated[
        float,
        msgspec.Meta(
            description="Time after which a quarantine is looked at again; 0: only an operator lifts it.", ge=0, le=1e7
        ),
    ] = 3600.0

    def __post_init__(self) -> None:
        if self.quarantine_below + self.hysteresis > self.base:
            raise ValueError("quarantine_below and hysteresis together have to be at most base")


class DetectionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[security.detection]`: what no device does in a window, and how far it may stray from its habits.

    A window is 5 seconds. Limits are for devices of all classes.
    """

    mode: Annotated[
        Literal["observe", "enforce"],
        msgspec.Meta(description="`observe` only reports; `enforce` also lowers trust and responds."),
    ] = "enforce"
    messages: Annotated[
        int, msgspec.Meta(description="Messages of a device in a window; more is a flood.", ge=10, le=10_000_000)
    ] = 1000
    connects: Annotated[int, msgspec.Meta(description="Connections of a device in a window.", ge=2, le=100_000)] = 10
    malformed: Annotated[
        int, msgspec.Meta(description="Malformed packets of a device in a window.", ge=1, le=100_000)
    ] = 3
    replayed: Annotated[
        int, msgspec.Meta(description="Messages of a device in a window that came before.", ge=1, le=100_000)
    ] = 3
    denied: Annotated[
        int, msgspec.Meta(description="Requests of a device in a window that policy denied.", ge=1, le=100_000)
    ] = 5
    channels: Annotated[int, msgspec.Meta(description="Channels that a device uses in a window.", ge=1, le=10_000)] = 32
    failures: Annotated[
        int,
        msgspec.Meta(
            description="Failed authentications of one source, whatever time they take; they are forgotten by half "
            "every failures_half_life_s.",
            ge=3,
            le=10_000,
        ),
    ] = 10
    failures_half_life_s: Annotated[
        float, msgspec.Meta(description="Time in which half of a source's failures are forgotten.", ge=10, le=86400)
    ] = 900.0
    deviation: Annotated[
        float,
        msgspec.Meta(
            description="Habitual deviations by which rate or size may differ from what is usual for a device.",
            ge=3,
            le=100,
        ),
    ] = 8.0
    learn_windows: Annotated[
        int, msgspec.Meta(description="Windows with messages from which a device's habits are learnt.", ge=3, le=10_000)
    ] = 24
    silent_s: Annotated[
        float,
        msgspec.Meta(description="Silence of a device that always spoke; 0: it is not looked for.", ge=0, le=86400),
    ] = 120.0
    max_addresses: Annotated[
        int, msgspec.Meta(description="Sources of failures that are remembered at a time.", ge=16, le=1_000_000)
    ] = 4096


class IncidentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[security.incidents]`: how a node responds by itself."""

    severity: Annotated[
        float, msgspec.Meta(description="From this severity, 0 to 1, a finding opens an incident.", ge=0.01, le=1)
    ] = 0.5
    blast_ratio: Annotated[
        float,
        msgspec.Meta(description="Share of all devices that automatic responses may touch in 10 minutes.", ge=0, le=1),
    ] = 0.01
    blast_least: Annotated[
        int, msgspec.Meta(description="Devices that they may touch in 10 minutes in any case.", ge=0, le=1000)
    ] = 1
    throttle_hz: Annotated[
        float, msgspec.Meta(description="Messages a second that are taken from a device that floods.", gt=0, le=10_000)
    ] = 10.0
    block_s: Annotated[
        float, msgspec.Meta(description="Time for which a source that guesses passwords is shut out.", ge=1, le=86400)
    ] = 600.0
    demand: Annotated[
        int, msgspec.Meta(description="Points by which more trust is demanded of a device.", ge=0, le=50)
    ] = 10
    quiet_s: Annotated[
        float,
        msgspec.Meta(description="An incident of which nothing more is heard for so long is resolved.", ge=10, le=1e7),
    ] = 3600.0
    max_open: Annotated[int, msgspec.Meta(description="Incidents that are open at a time.", ge=16, le=100_000)] = 1024
    max_kept: Annotated[
        int, msgspec.Meta(description="Resolved incidents that are kept in the database.", ge=16, le=1_000_000)
    ] = 10_000


class AuditConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[security.audit]`: how much of the log is kept, for each of its two trails."""

    file_mib: Annotated[int, msgspec.Meta(description="Size at which a file is closed.", ge=1, le=1024)] = 8
    files: Annotated[int, msgspec.Meta(description="Files that are kept, the oldest goes first.", ge=2, le=10_000)] = 16
    queue: Annotated[
        int, msgspec.Meta(description="Denials that wait to be written; more are only counted.", ge=16, le=1_000_000)
    ] = 4096
    commit_ms: Annotated[
        int, msgspec.Meta(description="Longest time for which denials are gathered before a write.", ge=1, le=10_000)
    ] = 250
    checkpoint_s: Annotated[
        float, msgspec.Meta(description="Longest time between two signed checkpoints.", ge=10, le=1e6)
    ] = 3600.0


class SecurityConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[security]`: threats and what is done about them."""

    policy: PolicyConfig = PolicyConfig()
    trust: TrustConfig = TrustConfig()
    detection: DetectionConfig = DetectionConfig()
    incidents: IncidentConfig = IncidentConfig()
    audit: AuditConfig = AuditConfig()


SECURITY_SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "security.policy": PolicyConfig,
    "security.trust": TrustConfig,
    "security.detection": DetectionConfig,
    "security.incidents": IncidentConfig,
    "security.audit": AuditConfig,
}
"""Sections as the reference lists them."""
