"""Settings of the policy."""

from __future__ import annotations

from typing import Annotated

import msgspec


class PolicyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[security.policy]`: what attached devices, apps and peers may do."""

    file: Annotated[
        str,
        msgspec.Meta(
            description="File with this node's policy, as an absolute path; it counts while the fleet's authority has "
            "signed none. Without any policy everything is denied.",
            pattern=r"^(/|\Z)",
            max_length=1024,
            title="an absolute path or empty",
        ),
    ] = ""
