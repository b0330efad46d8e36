"""What the enforcement point counts of each device and each address, for those who look for threats.

Plain integers, incremented where the message passes; whoever judges reads and resets them once a window.
"""

from __future__ import annotations


class Tally:
    """Counts of one device or address within the current window. Sizes in bytes, times on the boot-time clock.

    `channel` is the one that came last, which stands in `channels`.
    """

    __slots__ = (
        "bytes_in",
        "channel",
        "channels",
        "connects",
        "denied",
        "failed",
        "last_ns",
        "malformed",
        "messages",
        "replayed",
        "squared_bytes",
        "throttled",
    )

    def __init__(self) -> None:
        self.last_ns = 0
        self.channels: set[str] = set()
        self.reset()

    def reset(self) -> None:
        """Begin a window; `last_ns` stays."""
        self.messages = 0
        self.bytes_in = 0
        self.squared_bytes = 0
        self.connects = 0
        self.failed = 0
        self.malformed = 0
        self.replayed = 0
        self.denied = 0
        self.throttled = 0
        self.channel = ""
        self.channels.clear()
