"""How fast each device may send; times on the boot-time clock."""

from __future__ import annotations

from qedge.base.bucket import Bucket


class Throttles:
    """How many messages a second a device may send: `default`, or what the policy administrator set."""

    def __init__(self, default: float) -> None:
        self.default = default
        self._set: dict[str, Bucket] = {}

    def throttle(self, device_id: str, messages_per_s: float, now_ns: int) -> None:
        """Set a limit; 0 lifts it."""
        if messages_per_s > 0:
            self._set[device_id] = Bucket(messages_per_s, max(1.0, messages_per_s), now_ns)
        else:
            self._set.pop(device_id, None)

    def rate(self, device_id: str) -> float:
        """Return the limit of a device in messages a second."""
        bucket = self._set.get(device_id)
        return self.default if bucket is None else min(bucket.rate, self.default)

    def may_send(self, device_id: str, now_ns: int) -> bool:
        """Take one message of a device that cannot be made to wait: only limits that were set count."""
        if not self._set:
            return True
        bucket = self._set.get(device_id)
        return bucket is None or bucket.try_take(now_ns)
