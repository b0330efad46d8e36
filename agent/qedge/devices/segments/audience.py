"""Devices that listen to segments over connections of this node itself, where no broker stands between. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qedge.devices.ports import Way

MAX_LISTENERS: Final = 1024
"""Devices on one topic: each gets every message by itself. More of them belong behind a broker."""


class Listeners:
    """Who listens to which topic; what is said there goes to each by the first way that reaches it."""

    def __init__(self) -> None:
        self.ways: Sequence[Way] = ()
        self._of_topic: dict[str, dict[str, None]] = {}

    def has_room(self, topic: str) -> bool:
        """Say whether one more may listen to a topic."""
        return len(self._of_topic.get(topic, ())) < MAX_LISTENERS

    def add(self, device_id: str, topic: str) -> None:
        """Let a device listen."""
        self._of_topic.setdefault(topic, {})[device_id] = None

    def drop(self, device_id: str, topic: str) -> None:
        """Let it listen no more; nothing where it did not."""
        listening = self._of_topic.get(topic)
        if listening is not None:
            listening.pop(device_id, None)
            if not listening:
                del self._of_topic[topic]

    def drop_all(self, device_id: str, base: str) -> None:
        """Let a device listen to nothing of a segment, whose topics begin with `base`."""
        for topic in [each for each in self._of_topic if each.startswith(base + "/")]:
            self.drop(device_id, topic)

    def send(self, topic: str, frame: bytes) -> None:
        """Hand a frame to all who listen; one that cannot take it now goes without."""
        for device_id in self._of_topic.get(topic, ()):
            any(way.send(device_id, topic, frame) for way in self.ways)
