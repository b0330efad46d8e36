"""What the primary host says of itself on its STATE topic, and what that means for this node. Pure.

Times are compared within one connection only: hosts keep a time for each server
(tck-id-operational-behavior-host-application-multi-server-timestamp).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

_MAX_BYTES: Final = 4096
_MAX_MS: Final = 1 << 63


class HostSays(StrEnum):
    """What follows from a STATE message."""

    ONLINE = "online"
    OFFLINE = "offline"
    NOTHING = "nothing"


class _State(msgspec.Struct):
    """The payload of STATE, JSON; further keys are ignored."""

    online: bool
    timestamp: int


class PrimaryHost:
    """Follows one host during one connection to one server."""

    def __init__(self) -> None:
        self.online = False
        self._newest_ms = -1

    def hear(self, payload: bytes) -> HostSays:
        """Take a STATE message of the configured host.

        tck-id-message-flow-edge-node-birth-publish-phid-{wait-online,wait-timestamp}: online counts where its time is
        not older than that of the newest message. tck-id-message-flow-edge-node-birth-publish-phid-offline,
        tck-id-operational-behavior-edge-node-termination-host-{offline,offline-timestamp}: so does offline; an older
        one is the late will of an earlier connection of the host.
        """
        if len(payload) > _MAX_BYTES:
            return HostSays.NOTHING
        try:
            state = msgspec.json.decode(payload, type=_State)
        except (msgspec.DecodeError, RecursionError):
            return HostSays.NOTHING
        if not 0 <= state.timestamp < _MAX_MS or state.timestamp < self._newest_ms:
            return HostSays.NOTHING
        self._newest_ms = state.timestamp
        self.online = state.online
        return HostSays.ONLINE if state.online else HostSays.OFFLINE
