"""The queue: higher priority first, then clients in turn, then first come first served. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from qedge.engine.model import Job


class JobQueue:
    """Waiting jobs. Clients of one priority take turns, so that one that submits thousands does not starve another."""

    def __init__(self) -> None:
        self._levels: dict[int, OrderedDict[str, deque[Job]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, job: Job, *, first: bool = False) -> None:
        """Add a job behind its client's others, or before them (a job that ran and lost its worker)."""
        line = self._levels.setdefault(job.submission.priority, OrderedDict()).setdefault(job.client, deque())
        if first:
            line.appendleft(job)
        else:
            line.append(job)
        self._count += 1

    def pop(self, suits: Callable[[Job], bool]) -> Job | None:
        """Take the next job for which `suits` holds; its client then stands last in its level."""
        for priority in sorted(self._levels, reverse=True):
            level = self._levels[priority]
            for client, line in level.items():
                job = next((job for job in line if suits(job)), None)
                if job is not None:
                    self._take(job, line, level, client)
                    return job
        return None

    def remove(self, job: Job) -> bool:
        """Take one job out; False where it does not wait."""
        level = self._levels.get(job.submission.priority, OrderedDict())
        line = level.get(job.client)
        if line is None or job not in line:
            return False
        line.remove(job)
        if not line:
            del level[job.client]
        self._count -= 1
        return True

    def jobs(self) -> list[Job]:
        """Return all waiting jobs in the order in which they would be taken if nothing else came."""
        ordered: list[Job] = []
        for priority in sorted(self._levels, reverse=True):
            lines = [list(line) for line in self._levels[priority].values()]
            longest = max((len(line) for line in lines), default=0)
            ordered += [line[turn] for turn in range(longest) for line in lines if turn < len(line)]
        return ordered

    def position(self, job: Job) -> int:
        """Return how many jobs stand before this one, plus one; 0 where it does not wait."""
        return next((place for place, other in enumerate(self.jobs(), 1) if other is job), 0)

    def _take(self, job: Job, line: deque[Job], level: OrderedDict[str, deque[Job]], client: str) -> None:
        line.remove(job)
        if line:
            level.move_to_end(client)
        else:
            del level[client]
        self._count -= 1
