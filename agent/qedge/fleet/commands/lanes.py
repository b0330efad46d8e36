"""Queues of commands, one for each class: one runs at a time, and one that hangs holds up its own class alone."""

from __future__ import annotations

from collections import deque

from qedge.base.errors import QedgeError


class Lanes:
    """Which command runs next. Knows ids and names of lanes only."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[str, deque[str]] = {}
        self._running: dict[str, str] = {}

    @property
    def waiting(self) -> int:
        """How many wait in all lanes."""
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._running)

    def check_room(self) -> None:
        """Raise `order.queue_full` where no more may wait."""
        if self.waiting >= self._limit:
            raise QedgeError(
                "order.queue_full",
                f"{self._limit} commands wait already.",
                fix="Cancel some, or wait.",
                limit=self._limit,
            )

    def push(self, lane: str, command: str) -> None:
        """Let a command wait its turn."""
        self._waiting.setdefault(lane, deque()).append(command)

    def due(self) -> list[str]:
        """Return the commands whose turn it is, and count them as running."""
        begun = []
        for lane, queue in self._waiting.items():
            if queue and lane not in self._running:
                self._running[lane] = queue.popleft()
                begun.append(self._running[lane])
        self._waiting = {lane: queue for lane, queue in self._waiting.items() if queue}
        return begun

    def drop(self, command: str) -> bool:
        """Forget a command that waits; False where it does not, since its turn has come."""
        for queue in self._waiting.values():
            if command in queue:
                queue.remove(command)
                return True
        return False

    def remove(self, command: str) -> None:
        """Forget a command, whether it waits or runs; its lane is free then."""
        self.drop(command)
        self._running = {lane: each for lane, each in self._running.items() if each != command}
