"""Settings of the key store."""

from __future__ import annotations

from typing import Annotated

import msgspec


class KeyStoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[qkd.keys]`: how much key is kept, for how long, and under which wrapping key."""

    wrapping_key_file: Annotated[
        str,
        msgspec.Meta(
            description="File of 32 bytes under which key material is encrypted, best on another medium than the state "
            "directory or a credential that a TPM unseals; empty: `keys.wrap` in the state directory.",
            pattern=r"^(/|\Z)",
            max_length=1024,
            title="an absolute path or empty",
        ),
    ] = ""
    max_stored_mbit: Annotated[
        int,
        msgspec.Meta(
            description="Key of one link that is kept at most, in Mbit; then distillation waits.", ge=1, le=65536
        ),
    ] = 256
    reserve_kbit: Annotated[
        int,
        msgspec.Meta(
            description="Key of one link, in kbit, that applications never get: it is for sessions and authentication.",
            ge=0,
            le=1_000_000,
        ),
    ] = 16
    block_max_age_s: Annotated[
        float, msgspec.Meta(description="Key that nobody asked for is destroyed after this time.", ge=1, le=1e8)
    ] = 604_800.0
    key_max_age_s: Annotated[
        float,
        msgspec.Meta(
            description="A key that was handed to one side and not collected is destroyed after this.", ge=1, le=1e8
        ),
    ] = 86_400.0
    block_wait_s: Annotated[
        float,
        msgspec.Meta(
            description="A block that the other end does not have after this time is destroyed.", ge=1, le=1e6
        ),
    ] = 120.0
    peer_deadline_s: Annotated[
        float,
        msgspec.Meta(
            description="Time that the other end has to confirm keys before they are given up.", ge=0.1, le=60
        ),
    ] = 3.0
    tombstone_s: Annotated[
        float,
        msgspec.Meta(description="For this time it is remembered whose a key was, after it is gone.", ge=60, le=1e8),
    ] = 86_400.0
    max_tombstones: Annotated[
        int, msgspec.Meta(description="Requests for keys that are remembered at most.", ge=1000, le=100_000_000)
    ] = 100_000
    relay: Annotated[
        bool,
        msgspec.Meta(description="Pass keys of other nodes on, which this node then sees, and which cost its links."),
    ] = True
    max_hops: Annotated[
        int,
        msgspec.Meta(
            description="Links beyond the first that keys for applications here may cross; 0: only nodes with a link.",
            ge=0,
            le=7,
        ),
    ] = 3
