"""Where a node's devices are: its names, and which run of it this is. Both stand in every handshake."""

from __future__ import annotations

from dataclasses import dataclass

from qedge.wire.attached import DeviceLeaf, device_topic
from qedge_device import schedule


@dataclass(frozen=True, slots=True)
class Place:
    """Names of fleet and node; `boot` are 16 random bytes of this run."""

    fleet: str
    node: str
    boot: bytes

    def who(self, device_id: str) -> bytes:
        """Return the bytes that name a device here."""
        return schedule.who(self.fleet, self.node, device_id)

    def up(self, device_id: str) -> str:
        """Return the topic from a device."""
        return device_topic(self.fleet, self.node, device_id, DeviceLeaf.UP)

    def down(self, device_id: str) -> str:
        """Return the topic to a device."""
        return device_topic(self.fleet, self.node, device_id, DeviceLeaf.DOWN)

    def welcome(self, device_id: str) -> str:
        """Return the topic of answers to a device's hello."""
        return device_topic(self.fleet, self.node, device_id, DeviceLeaf.WELCOME)
