"""Configuration that a fleet gives a node: what operators send and what the node answers.

A layer is the text of one TOML file, read last of all files of the node. Its serial only grows; what was applied under
one serial is never applied again under it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from qedge.wire.commands import Serial
from qedge.wire.mesh import Short
from qedge.wire.trust import Utc

MAX_LAYER_BYTES = 96 * 1024

LayerText = Annotated[str, msgspec.Meta(max_length=MAX_LAYER_BYTES)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
"""In hex; empty: not told."""

HealthLimit = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class ConfigurationStep(StrEnum):
    """How far a change of the configuration is; what is none of these is over."""

    WRITING = "writing"
    """Decided; the file of the layer is being written."""

    TRIAL = "trial"
    """Written; the daemon reads it, or has read it and shows whether it is well."""

    RESTORING = "restoring"
    """It is not well; the layer before is being put back."""

    GOOD = "good"
    """In force: the node was well with it."""

    ROLLED_BACK = "rolled-back"
    """Over: the layer before is in force again."""


class ConfigurationStage(msgspec.Struct, frozen=True, tag_field="type", tag="configuration-stage/1"):
    """Have a node check a layer and keep it for later. `sha256`, where it is told, has to be that of the text."""

    serial: Serial
    text: LayerText
    sha256: Sha256 = ""


class StagedConfiguration(msgspec.Struct, frozen=True, tag_field="type", tag="staged-configuration/1"):
    """The layer has no faults. It changes the sections `changed`; for those in `restart` the daemon restarts."""

    serial: int
    sha256: str
    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


class ConfigurationApply(msgspec.Struct, frozen=True, tag_field="type", tag="configuration-apply/1"):
    """Put the staged layer of this serial into force; it is undone where the node is not well within the limit.

    `health_limit_s` 0: the limit that the node's own configuration sets.
    """

    serial: Serial
    sha256: Sha256 = ""
    health_limit_s: HealthLimit = 0.0


class ConfigurationRollback(msgspec.Struct, frozen=True, tag_field="type", tag="configuration-rollback/1"):
    """Put back the layer before the one in force, whose serial has to be named: what is undone is what was meant."""

    serial: Serial
    reason: Short = ""
    health_limit_s: HealthLimit = 0.0


class ConfigurationOutcome(msgspec.Struct, frozen=True, tag_field="type", tag="configuration-outcome/1"):
    """How a change ended. `serial` 0: no layer of the fleet is in force any more.

    `asked` is the serial of the layer that was tried or rolled back, `state` a `ConfigurationStep`.
    """

    asked: int
    serial: int
    sha256: str
    state: Short
    settings_sha256: str = ""
    code: Short = ""
    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    command: Short = ""
    starts: int = 0
    began_utc_ns: Utc = 0
    ended_utc_ns: Utc = 0


class ConfigurationView(msgspec.Struct, frozen=True, tag_field="type", tag="configuration/1"):
    """What the fleet's configuration of a node is now.

    `settings_sha256` is the digest of all effective settings; `drift` says in what they differ from what stood when the
    fleet last applied something (`layer`: the file was changed by others; else the section). `state` is empty or the
    `ConfigurationStep` of a change under way, whose serial is `changing`.
    """

    serial: int = 0
    sha256: str = ""
    settings_sha256: str = ""
    staged: int = 0
    staged_sha256: str = ""
    highest: int = 0
    state: Short = ""
    changing: int = 0
    drift: tuple[str, ...] = ()
    undo: int = 0
    """How many layers can be rolled back one after the other."""

    last: ConfigurationOutcome | None = None


class SettingRow(msgspec.Struct, frozen=True):
    """One effective setting: its key path, its value as TOML writes it, and the file and line that set it.

    Without a file it is a default. Secrets are not shown.
    """

    key: str
    value: str
    file: str = ""
    line: int = 0


class ConfigurationSnapshot(msgspec.Struct, frozen=True, tag_field="type", tag="configuration-snapshot/1"):
    """All effective settings of a node, without secrets, with where each was set.

    `zipped` is zlib of the MessagePack of a list of `SettingRow`, since the whole has to fit into one report.
    """

    view: ConfigurationView
    files: tuple[str, ...]
    zipped: Annotated[bytes, msgspec.Meta(max_length=120 * 1024)]


class SettingList(msgspec.Struct, frozen=True, tag_field="type", tag="setting-list/1"):
    """All effective settings, as the operator's programs at the box see them."""

    files: tuple[str, ...]
    settings: tuple[SettingRow, ...]
    settings_sha256: str = ""
