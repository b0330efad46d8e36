"""Attached devices as the operator's programs see them, and what a node signs about its devices for its peers."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from qedge.wire.mesh import Name, Short
from qedge.wire.trust import Chain, Der, Utc

MAX_BATCH = 500
MAX_LISTED_REVOCATIONS = 3500
"""Entries with the longest names fill a message on the bus."""

Label = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{0,36}\Z")]
Labels = Annotated[tuple[Name, ...], msgspec.Meta(max_length=16)]
Value = Annotated[str, msgspec.Meta(max_length=100)]
Reason = Annotated[str, msgspec.Meta(max_length=200)]
Tier = Literal["rich", "constrained"]


class DeviceProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator says of a device; policy decides by it. `safety`: detectors may only raise an alarm over it."""

    device_class: Label = ""
    segment: Label = ""
    location: Label = ""
    groups: Labels = ()
    attributes: Annotated[dict[Name, Value], msgspec.Meta(max_length=16)] = {}
    posture: Labels = ()
    safety: bool = False


class DeviceAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="device-add/1"):
    """Add a device and invite it. `expires_s` 0: as configured.

    `root` is where the secret of a constrained device comes from: drawn here, a key of the key store, or, with
    `claim_code`, the one its maker gave it, which was imported before. `extra_key`: a rich device gets a key of the
    key store for its sessions.
    """

    name: Name
    tier: Tier = "rich"
    profile: DeviceProfile = DeviceProfile()
    root: Literal["drawn", "keys", "claimed"] = "drawn"
    claim_code: Annotated[str, msgspec.Meta(max_length=64)] = ""
    extra_key: bool = False
    expires_s: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 0.0

    def __repr__(self) -> str:
        return f"DeviceAdd({self.name!r})"


class DeviceInvite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="device-invite/1"):
    """Invite devices that choose their own names, or, with `name`, one that is known, to bring a new key."""

    name: Label = ""
    uses: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    approval: bool = False
    profile: DeviceProfile = DeviceProfile()
    expires_s: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 0.0


class DeviceInvited(msgspec.Struct, frozen=True, tag_field="type", tag="device-invited/1"):
    """The line for the device, a secret; empty for a device that has what it needs. `expires_utc_ns` 0: never."""

    line: str
    name: Label = ""
    expires_utc_ns: Utc = 0

    def __repr__(self) -> str:
        return f"DeviceInvited({self.name!r})"


class DeviceSessionView(msgspec.Struct, frozen=True):
    """The session that messages to a device are sealed in."""

    key_id: int
    age_s: float
    expires_in_s: float
    qkd_backed: bool


class AttachedDevice(msgspec.Struct, frozen=True, tag_field="type", tag="attached-device/1"):
    """One device. Times are UTC, 0 where there is none; `fingerprint` is of its public key.

    `revoked_at`: the other node that revoked the key of the device, whatever its state here.
    """

    name: Name
    tier: Tier
    state: Short
    profile: DeviceProfile
    trust: int
    quarantined: bool
    fingerprint: Short = ""
    algorithm: Short = ""
    certified_until_utc_ns: Utc = 0
    created_utc_ns: Utc = 0
    changed_utc_ns: Utc = 0
    reason: Reason = ""
    session: DeviceSessionView | None = None
    history: tuple[str, ...] = ()
    revoked_at: Label = ""


class AttachedDevices(msgspec.Struct, frozen=True, tag_field="type", tag="attached-devices/1"):
    """Devices in the order of names, and how many there are in each state and with a session."""

    devices: tuple[AttachedDevice, ...]
    total: int
    states: dict[str, int] = {}
    sessions: int = 0


class DeviceReason(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="device-reason/1"):
    """Why an operator does something to a device."""

    reason: Reason = ""


class DeviceApproval(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="device-approval/1"
):
    """Approve a device; a `fingerprint` that is given has to be its own. An empty profile keeps that of the request."""

    fingerprint: Short = ""
    profile: DeviceProfile | None = None


class DeviceRotation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="device-rotation/1"
):
    """Replace the keys of sessions of some devices, or, with an empty list, of all."""

    names: Annotated[tuple[Name, ...], msgspec.Meta(max_length=10_000)] = ()


class DeviceRotated(msgspec.Struct, frozen=True, tag_field="type", tag="device-rotated/1"):
    """How many devices have to open a new session."""

    devices: int


class DeviceDraft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device of a bulk import. `root` (hex) and `claim_code` are those of a constrained device from its maker."""

    name: Name
    tier: Tier = "rich"
    profile: DeviceProfile = DeviceProfile()
    root: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-fA-F]{64})?\Z")] = ""
    claim_code: Annotated[str, msgspec.Meta(max_length=64)] = ""

    def __repr__(self) -> str:
        return f"DeviceDraft({self.name!r})"


class DeviceBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="device-batch/1"):
    """Devices to add at once; those that are known stay as they are."""

    devices: Annotated[tuple[DeviceDraft, ...], msgspec.Meta(max_length=MAX_BATCH)]
    expires_s: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 0.0


class DeviceBatchAdded(msgspec.Struct, frozen=True, tag_field="type", tag="device-batch-added/1"):
    """What became of them: lines of those that were added, names of those that were known."""

    invited: tuple[DeviceInvited, ...]
    known: tuple[str, ...] = ()


class RevokedDevice(msgspec.Struct, frozen=True, array_like=True):
    """One device key, or root, that counts no more; `until_utc_s` is when its certificate ends anyway."""

    device: Name
    key_id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    until_utc_s: Utc


class DeviceRevocations(msgspec.Struct, frozen=True, tag_field="type", tag="device-revocations/1"):
    """Revoked device keys of one node. Not `complete`: there are more than fit, nobody shall rely on the list.

    `serial` grows with every list of a node; each is signed anew long before a reader finds it too old (`utc_ns`).
    """

    fleet: Name
    node: Name
    serial: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    utc_ns: Utc
    entries: Annotated[tuple[RevokedDevice, ...], msgspec.Meta(max_length=MAX_LISTED_REVOCATIONS)] = ()
    complete: bool = True


class DeviceDelegation(msgspec.Struct, frozen=True, tag_field="type", tag="device-delegation/1"):
    """A node says that `authority` (DER, self-signed) certifies its devices."""

    fleet: Name
    node: Name
    authority: Der
    utc_ns: Utc


class SignedByNode(msgspec.Struct, frozen=True, tag_field="type", tag="signed-by-node/1"):
    """One of the two above, encoded, with the signature of the node's identity key and the chain of that."""

    body: Annotated[bytes, msgspec.Meta(max_length=240 * 1024)]
    signature: Annotated[bytes, msgspec.Meta(max_length=8192)]
    chain: Chain


class DeviceListAsk(msgspec.Struct, frozen=True, tag_field="type", tag="device-list-ask/1"):
    """Asks a node for its signed list of revoked devices, where the broker does not bring it."""


class DeviceCredentials(msgspec.Struct, frozen=True, tag_field="type", tag="device-credentials/1"):
    """What a peer checks of a device that belongs to another node: its certificate and the node's delegation."""

    certificate: Der
    delegation: SignedByNode


class DeviceChecked(msgspec.Struct, frozen=True, tag_field="type", tag="device-checked/1"):
    """A device of another node whose credentials are good: certified there, revoked nowhere, its list being fresh."""

    node: Name
    device: Name
    fingerprint: Short
    algorithm: Short
