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
        whole_ns = self._young.get(key)
        if whole_ns is None:
            whole_ns = self._old.get(key, now_ns)
            if len(self._young) >= self._max_kept:
                self._old, self._young = self._young, {}
        # A rule whose rate was changed never makes anybody wait longer than from the new empty.
        spent_ns = min(max(whole_ns - now_ns, 0), depth_ns) + interval_ns
        if spent_ns > depth_ns:
            self._young[key] = now_ns + spent_ns - interval_ns
            return False
        self._young[key] = now_ns + spent_ns
        return True
