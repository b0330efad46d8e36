"""Settings of cryptography: which algorithms sessions may use."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

AlgorithmName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=64, title="the name of an algorithm; `qedge crypto list` shows them")
]
PeerPolicy = Annotated[
    str,
    msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,36}=(off|prefer|require)\Z", title="NODE=off, NODE=prefer or NODE=require"),
]
WhenOld = Literal["tell", "refuse-commands", "refuse-peers"]
_MAX_NAMES = 32


class CryptoConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[crypto]`: which algorithms sessions between nodes may use."""

    floor: Annotated[
        Literal[3, 5],
        msgspec.Meta(description="Lowest NIST security category that a session may have; 5 costs more time."),
    ] = 3
    key_exchange: Annotated[
        tuple[AlgorithmName, ...],
        msgspec.Meta(description="Key exchanges that a session may use.", min_length=1, max_length=_MAX_NAMES),
    ] = ("mlkem768-x25519", "mlkem1024-p384")
    signatures: Annotated[
        tuple[AlgorithmName, ...],
        msgspec.Meta(description="Signatures that a session may use.", min_length=1, max_length=_MAX_NAMES),
    ] = ("ml-dsa-44", "ml-dsa-65", "ml-dsa-87")
    ciphers: Annotated[
        tuple[AlgorithmName, ...],
        msgspec.Meta(description="Ciphers that a session may use.", min_length=1, max_length=_MAX_NAMES),
    ] = ("aes-256-gcm", "chacha20-poly1305")
    experimental: Annotated[
        bool,
        msgspec.Meta(description="Whether algorithms of status `experimental` may be named; never used by default."),
    ] = False
    extra_key: Annotated[
        Literal["off", "prefer", "require"],
        msgspec.Meta(
            description="A key of another source, QKD for instance, mixed into sessions: `off`, `prefer` where there "
            "is one, `require`: without one a session carries only what leads to one."
        ),
    ] = "prefer"
    extra_key_peers: Annotated[
        tuple[PeerPolicy, ...],
        msgspec.Meta(description="Another policy for some peers, each as NODE=off, NODE=prefer or NODE=require."),
    ] = ()
    extra_key_period_s: Annotated[
        float,
        msgspec.Meta(description="Age at which a session gets a fresh extra key; 0: it keeps the first.", ge=0, le=1e6),
    ] = 60.0

    revocations_max_age_s: Annotated[
        float,
        msgspec.Meta(
            description="Age beyond which the fleet's list of revoked keys is too old, in a fleet whose authority "
            "signs it anew in time (`qedge fleet relist`); 0: it never is.",
            ge=0,
            le=4e8,
        ),
    ] = 0.0
    revocations_when_old: Annotated[
        WhenOld,
        msgspec.Meta(
            description="What a list that is too old leads to: `tell`, `refuse-commands` of the fleet's operators, or "
            "`refuse-peers`, which closes the node to everybody but its own programs."
        ),
    ] = "tell"

    def extra_key_policy(self, peer: str) -> str:
        """Return what policy says of extra keys in sessions with a peer."""
        named = dict(entry.split("=") for entry in self.extra_key_peers)
        return named.get(peer, self.extra_key)
