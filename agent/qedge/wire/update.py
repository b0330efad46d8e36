"""Software updates: what an operator orders, what a bundle says of itself, and what daemon and updater tell each other.

The manifest, the keys and the files between daemon and updater are JSON, since people look at them; what goes through
MQTT is MessagePack as everywhere.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from qedge.wire.mesh import Short
from qedge.wire.trust import Utc

MAX_BUNDLE_BYTES = 2 * 2**30
MAX_FILES = 500

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""SHA-256 in hex."""

Version = Annotated[
    str, msgspec.Meta(pattern=r"^\d{1,9}(\.\d{1,9}){1,3}((a|b|rc)\d{1,9})?(\.dev\d{1,9})?\Z", max_length=64)
]
"""A version as PEP 440 writes it, without epochs, post-releases and local parts."""

FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,199}\Z")]
"""The name of a file without any folder; it cannot begin with a dot."""

Size = Annotated[int, msgspec.Meta(ge=1, le=MAX_BUNDLE_BYTES)]
OrderId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")]


class SoftwareUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="software-update/1"):
    """Arguments of the command `software-update`.

    `source` is an `https://` or `http://` address, or an absolute path on the box; `sha256` and `size` (bytes) are
    those of the bundle there.
    """

    version: Version
    source: Annotated[str, msgspec.Meta(pattern=r"^(https?://[^\s]+|/[^\0]+)\Z", max_length=2048)]
    sha256: Digest
    size: Size


class SoftwareUpdated(msgspec.Struct, frozen=True, tag_field="type", tag="software-updated/1"):
    """Result of the command `software-update`: `version` runs now, `previous` is kept beside it.

    `gate_s` is how long the new version took until it was found well.
    """

    version: Version
    previous: Version
    gate_s: float = 0.0


class FileKind(StrEnum):
    """What a file of a bundle is."""

    WHEEL = "wheel"
    SBOM = "sbom"
    CBOM = "cbom"


class BundleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a bundle; `size` in bytes."""

    name: FileName
    kind: FileKind
    sha256: Digest
    size: Size


class Manifest(msgspec.Struct, frozen=True, tag_field="type", tag="update-manifest/1"):
    """What a bundle says of itself, and what its signatures cover.

    It goes onto boxes that run `minimum_previous` or newer, under this `python` (major.minor) and `platform`
    (`linux-` and the kernel's name of the machine).
    """

    version: Version
    minimum_previous: Version
    python: Annotated[str, msgspec.Meta(pattern=r"^3\.\d{1,3}\Z")]
    platform: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]+-[a-z0-9_]+\Z", max_length=64)]
    made_utc_ns: Utc
    files: Annotated[tuple[BundleFile, ...], msgspec.Meta(min_length=1, max_length=MAX_FILES)]


class ManifestSignatures(msgspec.Struct, frozen=True, tag_field="type", tag="update-signatures/1"):
    """Two signatures of one release key over the manifest as it stands: ML-DSA and SLH-DSA. Both must be good."""

    key_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    ml_dsa: Annotated[bytes, msgspec.Meta(max_length=8192)]
    slh_dsa: Annotated[bytes, msgspec.Meta(max_length=65536)]


class ReleaseKey(msgspec.Struct, frozen=True, tag_field="type", tag="release-key/1"):
    """The public half of a release key: SubjectPublicKeyInfo of an ML-DSA key, and an SLH-DSA key as it is."""

    name: Short
    ml_dsa: Annotated[bytes, msgspec.Meta(max_length=8192)]
    slh_dsa_algorithm: Annotated[str, msgspec.Meta(pattern=r"^slh-dsa-(sha2|shake)-(128|192|256)[sf]\Z")]
    slh_dsa: Annotated[bytes, msgspec.Meta(max_length=64)]


class UpdateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the daemon leaves for the updater: which file of the staging folder, and its hash. The updater trusts
    neither; `id` only lets the daemon tell the report of this request from that of an earlier one.
    """

    id: OrderId
    bundle: FileName
    sha256: Digest


class Outcome(StrEnum):
    """How an update ended."""

    KEPT = "kept"
    """The new version runs and was found well."""

    REFUSED = "refused"
    """Nothing was changed; the old version ran on."""

    ROLLED_BACK = "rolled-back"
    """The new version was started and not found well; the old one runs again."""


class UpdateReport(msgspec.Struct, frozen=True):
    """What the updater says at the end, in a file that root owns. `code` and `reason` say why it was not kept.

    `gate_s` is the time from the switch to the verdict, `down_s` that from the switch to the end of all, both in
    seconds; `databases` names those that were put back because the new version had changed their schema.
    """

    id: str
    outcome: Outcome
    version: str
    previous: str
    utc_ns: int
    code: str = ""
    reason: str = ""
    gate_s: float = 0.0
    down_s: float = 0.0
    databases: tuple[str, ...] = ()
