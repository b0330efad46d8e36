"""How often each subject used a rule: the generic cell rate algorithm (ITU-T I.371), one number a subject and rule."""

from __future__ import annotations

from typing import Final

Key = tuple[str, str, str]
"""Rule, kind of subject, id."""

MAX_KEPT: Final = 65_536


class RateBook:
    """Remembers, for each key, when its allowance will be whole again; times on the boot-time clock.

    Memory is bounded by two generations of at most `max_kept` keys: when the younger is full, what was not used since
    the last turn is forgotten, and begins again with its whole burst.
    """

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._young: dict[Key, int] = {}
        self._old: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def clear(self) -> None:
        """Give everybody a whole burst."""
        self._young, self._old = {}, {}

    def take(self, key: Key, interval_ns: int, depth_ns: int, now_ns: int) -> bool:
        """Use an allowance of one in `interval_ns`, `depth_ns` worth of them at once; False, and no change, over it."""
        young = self._young
        whole_ns = young.get(key)
        if whole_ns is None:
            whole_ns = self._old.get(key, now_ns)
            if len(young) >= self._max_kept:
                self._old, self._young = young, {}
                young = self._young
        spent_ns = whole_ns - now_ns
        if spent_ns < 0:
            spent_ns = 0
        elif spent_ns > depth_ns:  # a rule whose rate was changed makes nobody wait longer than from the new empty
            spent_ns = depth_ns
        if spent_ns + interval_ns > depth_ns:
            young[key] = now_ns + spent_ns
            return False
        young[key] = now_ns + spent_ns + interval_ns
        return True
