"""Arguments and results of the kinds of commands that every node knows.

Kinds that are not named here take the struct of what they do: `policy` a `PolicyNotice`, `revocation` a
`RevocationNotice`, `certificate-take` a `Membership`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from qedge.wire.mesh import Name, Short
from qedge.wire.node import Fact

Text = Annotated[str, msgspec.Meta(max_length=500)]


class RestartOutcome(msgspec.Struct, frozen=True, tag_field="type", tag="restart-outcome/1"):
    """What was restarted: the epoch grows with every start of the agent, the boot id is that of the kernel."""

    epoch_before: int
    epoch: int
    boot_id_before: Short
    boot_id: Short


class WorkerCommand(msgspec.Struct, frozen=True, tag_field="type", tag="worker-command/1"):
    """Arguments of `restart-worker`: the driver whose workers are replaced."""

    driver: Name


class DrainCommand(msgspec.Struct, frozen=True, tag_field="type", tag="drain-command/1"):
    """Arguments of `drain`: give jobs away and take no new ones, or `undo` that; `wait` until none is left."""

    undo: bool = False
    wait: bool = False


class DriverCommand(msgspec.Struct, frozen=True, tag_field="type", tag="driver-command/1"):
    """Arguments of `driver`. What is empty or None stays as it is.

    A lock survives restarts. `settings` and `enabled` count until the next start; the configuration is for ever.
    """

    name: Name
    admin_state: Annotated[str, msgspec.Meta(pattern=r"^(locked|unlocked|)\Z")] = ""
    settings: Annotated[dict[Short, Fact | list[Fact]], msgspec.Meta(max_length=64)] = {}
    enabled: bool | None = None


class DriverOutcome(msgspec.Struct, frozen=True, tag_field="type", tag="driver-outcome/1"):
    """How a driver is after a command."""

    name: Name
    enabled: bool
    admin_state: Short
    operating_state: Short
    reason: Text = ""


class DeviceOperation(StrEnum):
    """What can be done to an attached device from afar."""

    QUARANTINE = "quarantine"
    RELEASE = "release"
    REVOKE = "revoke"


class DeviceCommand(msgspec.Struct, frozen=True, tag_field="type", tag="device-command/1"):
    """Arguments of `device`."""

    device: Name
    operation: DeviceOperation
    reason: Text = ""


class DeviceOutcome(msgspec.Struct, frozen=True, tag_field="type", tag="device-outcome/1"):
    """How a device is after a command."""

    device: Name
    state: Short
    quarantined: bool


class SerialOutcome(msgspec.Struct, frozen=True, tag_field="type", tag="serial-outcome/1"):
    """What serial of a policy or of a list of revoked keys the node has after a command."""

    serial: int


class CertificateAsk(msgspec.Struct, frozen=True, tag_field="type", tag="certificate-ask/1"):
    """Arguments of `certificate-request`: ask for a signing request, for the present key or for a new one.

    The answer is a `SigningRequest`; what the authority makes of it goes back with `certificate-take`.
    """

    new_key: bool = False


class CertificateOutcome(msgspec.Struct, frozen=True, tag_field="type", tag="certificate-outcome/1"):
    """The certificate that the node has after `certificate-take`."""

    key_id: Short
    until_utc_ns: int


class LogAsk(msgspec.Struct, frozen=True, tag_field="type", tag="log-ask/1"):
    """Arguments of `logs`: the newest lines at least that grave that contain a text."""

    lines: Annotated[int, msgspec.Meta(ge=1, le=2000)] = 200
    level: Annotated[str, msgspec.Meta(pattern=r"^(info|warning|error)\Z")] = "info"
    contains: Short = ""


class LogLines(msgspec.Struct, frozen=True, tag_field="type", tag="log-lines/1"):
    """Lines of the log as JSON, oldest first; `left_out` matched and found no room."""

    lines: tuple[str, ...]
    left_out: int = 0


class DiagnosticsAsk(msgspec.Struct, frozen=True, tag_field="type", tag="diagnostics-ask/1"):
    """Arguments of `diagnostics`: which part; 0 makes a new bundle."""

    part: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0


class DiagnosticsPart(msgspec.Struct, frozen=True, tag_field="type", tag="diagnostics-part/1"):
    """One part of a bundle (tar.gz); `sha256` is of the whole of it."""

    part: int
    parts: int
    sha256: Short
    data: Annotated[bytes, msgspec.Meta(max_length=128 * 1024)]


class CheckResult(msgspec.Struct, frozen=True):
    """One check of a self-test."""

    name: Short
    ok: bool
    took_s: float
    detail: Text = ""


class SelfTestOutcome(msgspec.Struct, frozen=True, tag_field="type", tag="self-test-outcome/1"):
    """What a self-test found."""

    ok: bool
    checks: Annotated[tuple[CheckResult, ...], msgspec.Meta(max_length=256)]


class BenchmarkAsk(msgspec.Struct, frozen=True, tag_field="type", tag="benchmark-ask/1"):
    """Arguments of `benchmark`: how long to measure each thing, in seconds."""

    seconds: Annotated[float, msgspec.Meta(ge=0.1, le=30)] = 3.0


class BenchmarkFigure(msgspec.Struct, frozen=True):
    """How fast one thing was: `per_s` times a second, the median of `median_ms` each."""

    name: Short
    per_s: float
    median_ms: float
    count: int


class BenchmarkOutcome(msgspec.Struct, frozen=True, tag_field="type", tag="benchmark-outcome/1"):
    """What a benchmark measured while the node did its usual work."""

    figures: Annotated[tuple[BenchmarkFigure, ...], msgspec.Meta(max_length=16)]


class WipeCommand(msgspec.Struct, frozen=True, tag_field="type", tag="wipe-command/1"):
    """Arguments of `wipe`: the name of the node once more, and why."""

    node: Name
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class WipeOutcome(msgspec.Struct, frozen=True, tag_field="type", tag="wipe-outcome/1"):
    """The last word of a node: right after it, it removes identity, keys and state, and stops."""

    utc_ns: int
