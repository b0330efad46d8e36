"""Key delivery as the operator's programs see it: applications, their certificates, pools, and keys handed over."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qedge.wire.trust import Der

_MAX_KEYS = 1024
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class SaeView(msgspec.Struct, frozen=True):
    """One application (SAE): `permit` are names of those it may ask keys with, `*` all; limits are 0 where unset.

    `configured`: it stands in the configuration, commands cannot change it; `local`: it is attached to this node.
    """

    name: str
    id: str
    node: str
    local: bool
    configured: bool
    permit: tuple[str, ...] = ()
    max_keys_per_request: int = 0
    max_keys_per_s: float = 0.0
    certificates: int = 0


class SaeList(msgspec.Struct, frozen=True, tag_field="type", tag="sae-list/1"):
    """All applications that the node knows."""

    saes: tuple[SaeView, ...]


class SaeChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="sae-change/1"):
    """What an application shall be; empty `id`: its name, empty `node`: this one."""

    id: Annotated[str, msgspec.Meta(max_length=200)] = ""
    node: Annotated[str, msgspec.Meta(max_length=36)] = ""
    permit: Annotated[tuple[str, ...], msgspec.Meta(max_length=1024)] = ()
    max_keys_per_request: Annotated[int, msgspec.Meta(ge=0, le=_MAX_KEYS)] = 0
    max_keys_per_s: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 0.0


class SaePermit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="sae-permit/1"):
    """Let an application ask keys with `slaves`, or no more."""

    slaves: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1024)]
    withdraw: bool = False


class SaeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="sae-request/1"):
    """A signing request (PKCS#10) for a certificate of an application."""

    request: Der


class SaeCertificate(msgspec.Struct, frozen=True, tag_field="type", tag="sae-certificate/1"):
    """A certificate and its authority as PEM, where to use it, and whose certificate to expect there."""

    certificate: str
    authority: str
    sae_id: str
    kme_id: str
    url: str


class SaeRevoked(msgspec.Struct, frozen=True, tag_field="type", tag="sae-revoked/1"):
    """How many certificates count no more."""

    number: int


class KeyPair(msgspec.Struct, frozen=True):
    """What a master and a slave may have now; `error` says why nothing is known."""

    master: str
    slave: str
    node: str
    stored_keys: int = 0
    stored_bits: int = 0
    simulated: bool = False
    error: str = ""


class KeyOverview(msgspec.Struct, frozen=True, tag_field="type", tag="key-overview/1"):
    """Key delivery of the node: `url` of the interface (empty: it does not listen), `exchange` of its TLS at best.

    `pairs` has the first of `total`.
    """

    kme_id: str
    url: str
    exchange: str
    key_size: int
    pairs: tuple[KeyPair, ...] = ()
    total: int = 0


class KeyTake(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="key-take/1"):
    """Take fresh keys as `master`, an application of this node; ids are SAE ids, `size_bits` 0 the usual size."""

    master: Id
    slave: Id
    number: Annotated[int, msgspec.Meta(ge=1, le=_MAX_KEYS)] = 1
    size_bits: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 0
    additional: Annotated[tuple[Id, ...], msgspec.Meta(max_length=64)] = ()


class KeyCollect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="key-collect/1"):
    """Collect as `slave`, an application of this node, keys that `master` took."""

    slave: Id
    master: Id
    key_ids: Annotated[tuple[Id, ...], msgspec.Meta(min_length=1, max_length=_MAX_KEYS)]


class HandedKey(msgspec.Struct, frozen=True):
    """One key: `key` is Base64 of the secret, `source` says where it came from."""

    key_id: str
    key: str
    source: dict[str, object] = {}

    def __repr__(self) -> str:
        return f"HandedKey({self.key_id})"


class HandedKeys(msgspec.Struct, frozen=True, tag_field="type", tag="handed-keys/1"):
    """Keys that have left; they will not come again."""

    keys: tuple[HandedKey, ...]
