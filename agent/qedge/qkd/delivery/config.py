"""Settings of key delivery and of the applications that get keys."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qedge.qkd.delivery.model import ANY_SLAVE

_NAME = r"^[A-Za-z0-9_-]{1,36}\Z"
_NAME_WORDS = "at most 36 letters, digits, - and _"
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class SaeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[qkd.saes.NAME]`: an application (SAE) that gets keys here, or one at another node that it shares them with."""

    id: Annotated[
        str,
        msgspec.Meta(description="SAE id as its certificate says it; empty: the name of this section.", max_length=200),
    ] = ""
    node: Annotated[
        str,
        msgspec.Meta(
            description="Node that it is attached to; empty: this one.",
            pattern=r"^[A-Za-z0-9_-]{0,36}\Z",
            title=_NAME_WORDS,
        ),
    ] = ""
    permit: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=rf"{_NAME}|^\{ANY_SLAVE}\Z", title="a name, or *")], ...],
        msgspec.Meta(
            description="Names of the sections of those it may ask keys with; `*`: all. Nobody by default.",
            max_length=1024,
        ),
    ] = ()
    max_keys_per_request: Annotated[
        int,
        msgspec.Meta(description="Most keys in one request; 0: as many as qkd.delivery allows.", ge=0, le=1024),
    ] = 0
    max_keys_per_s: Annotated[
        float,
        msgspec.Meta(description="Keys a second that it may ask for on average; 0: no limit.", ge=0, le=1_000_000),
    ] = 0.0


class DeliveryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[qkd.delivery]`: keys for applications by ETSI GS QKD 014, over HTTPS with certificates on both sides."""

    enabled: Annotated[bool, msgspec.Meta(description="Listen for applications.")] = False
    host: Annotated[
        str, msgspec.Meta(description="Address to listen on; `::` and `0.0.0.0` are all.", min_length=1, max_length=45)
    ] = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(description="TCP port; 0 takes a free one.", ge=0, le=65_535)] = 8443
    names: Annotated[
        tuple[Text, ...],
        msgspec.Meta(
            description="Names and addresses under which applications reach this node, for the certificate that it "
            "makes itself; localhost and the host's name are always in it.",
            max_length=32,
        ),
    ] = ()
    kme_ids: Annotated[
        dict[str, Text],
        msgspec.Meta(description="KME ids by node, where they are not the names of the nodes.", max_length=1024),
    ] = {}
    certificate: Annotated[
        str, msgspec.Meta(description="PEM file with the KME's certificate chain; empty: made here.", max_length=1024)
    ] = ""
    private_key: Annotated[
        str, msgspec.Meta(description="PEM file with the private key to it; empty: made here.", max_length=1024)
    ] = ""
    authorities: Annotated[
        str,
        msgspec.Meta(
            description="PEM file with the authorities of applications; empty: this node's own web authority.",
            max_length=1024,
        ),
    ] = ""
    revocations: Annotated[
        str,
        msgspec.Meta(
            description="PEM file with revocation lists of those authorities, read again when it changes; empty: none, "
            "or that of the node's own authority.",
            max_length=1024,
        ),
    ] = ""
    common_name: Annotated[
        bool,
        msgspec.Meta(description="Take the SAE id from the common name where a certificate has no URI at all."),
    ] = False
    key_size_bits: Annotated[
        int, msgspec.Meta(description="Size of a key that does not say one.", ge=8, le=65_536, multiple_of=8)
    ] = 256
    min_key_size_bits: Annotated[
        int, msgspec.Meta(description="Smallest key given out.", ge=8, le=65_536, multiple_of=8)
    ] = 64
    max_key_size_bits: Annotated[
        int, msgspec.Meta(description="Largest key given out.", ge=8, le=65_536, multiple_of=8)
    ] = 4096
    max_keys_per_request: Annotated[int, msgspec.Meta(description="Most keys in one request.", ge=1, le=1024)] = 128
    max_key_count: Annotated[
        int, msgspec.Meta(description="Most keys that `status` reports as stored.", ge=1, le=2**31 - 1)
    ] = 100_000
    max_additional_saes: Annotated[
        int, msgspec.Meta(description="Additional slaves of one request; 0: no multicast.", ge=0, le=64)
    ] = 8
    body_limit_bytes: Annotated[int, msgspec.Meta(description="Largest request body.", ge=1024, le=2**20)] = 65_536
    request_limit_s: Annotated[
        float, msgspec.Meta(description="Longest time for one request, its body included.", ge=1, le=600)
    ] = 15.0
    handshake_limit_s: Annotated[
        float, msgspec.Meta(description="Time for the TLS handshake, and again for the first request.", ge=0.5, le=60)
    ] = 10.0
    max_connections: Annotated[int, msgspec.Meta(description="Open connections of applications.", ge=8, le=100_000)] = (
        1024
    )

    def __post_init__(self) -> None:
        if not self.min_key_size_bits <= self.key_size_bits <= self.max_key_size_bits:
            raise ValueError("min_key_size_bits, key_size_bits and max_key_size_bits have to rise in this order")
        if bool(self.certificate) != bool(self.private_key):
            raise ValueError("certificate and private_key belong together: give both or neither")
