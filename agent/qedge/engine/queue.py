"""The queue: classes by their share, higher priority first, clients by what they had, then first come first served.

- `critical` jobs go before all others, but where others wait they get no more than a bounded share of the time for
  long; `interactive` and `batch` share what is left by weight (virtual time: a class's grows by what it is served over
  its weight, and the smaller one is next).
- Within a class a higher priority goes first. It rises while a job waits, so that a low one waits a bounded time.
- Within a priority the client is next that was served the least time (start-time fair queueing: Goyal, Vin, Cheng,
  1996), so that a client with many or long jobs does not starve another.

Pure: time is an argument. The cost of a job is `cost_s`, the time that it is likely to take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from qedge.engine.config import EngineConfig
from qedge.engine.model import Job
from qedge.wire.jobs import LatencyClass

CLASSES: Final = (LatencyClass.CRITICAL, LatencyClass.INTERACTIVE, LatencyClass.BATCH)
BEST_PRIORITY: Final = 9
LEAST_COST_S: Final = 1e-3
"""No job counts for less: giving it out costs time too."""
_BURST_S: Final = 0.5
"""What critical jobs may be ahead of their share before others come in between."""
_MAX_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class _Class:
    """Waiting jobs of one class: a line for each priority and client, and what each client was served."""

    lines: dict[tuple[int, str], deque[Job]] = field(default_factory=dict)
    served: dict[str, float] = field(default_factory=dict)
    """Virtual time of each client, in seconds of service."""
    now: float = 0.0
    """Virtual time at which the last job began: a client that comes anew starts from here."""
    count: int = 0
    work_s: float = 0.0

    def ranked(self, now_ns: int, ageing_ns: int) -> list[tuple[int, str]]:
        """Return the keys of all lines, the one to be served next first."""

        def rank(key: tuple[int, str]) -> tuple[int, float, int]:
            priority, client = key
            head = self.lines[key][0]
            risen = min(BEST_PRIORITY, priority + max(0, now_ns - head.queued_ns) // ageing_ns)
            return -risen, self.served.get(client, self.now), head.queued_ns

        return sorted(self.lines, key=rank)


class JobQueue:
    """Waiting jobs of all classes."""

    def __init__(self, config: EngineConfig) -> None:
        self._classes = {each: _Class() for each in CLASSES}
        self._ageing_ns = round(config.ageing_s * 1e9)
        self._share = config.critical_share
        self._weights = {LatencyClass.INTERACTIVE: config.interactive_weight, LatencyClass.BATCH: 1.0}
        self._passed = dict.fromkeys(self._weights, 0.0)
        """Virtual time of the weighted classes."""
        self._ahead_s = 0.0
        """How much more than its share of the time the critical class had lately."""

    def __len__(self) -> int:
        return sum(each.count for each in self._classes.values())

    def waiting(self) -> tuple[int, int, int]:
        """Count the waiting jobs of each class."""
        critical, interactive, batch = (self._classes[each].count for each in CLASSES)
        return critical, interactive, batch

    def work_s(self) -> tuple[float, float, float]:
        """Return the time that the waiting jobs of each class are likely to take together."""
        critical, interactive, batch = (max(0.0, self._classes[each].work_s) for each in CLASSES)
        return critical, interactive, batch

    def push(self, job: Job, *, first: bool = False) -> None:
        """Add a job behind its client's others, or before them (a job that ran and lost its worker)."""
        latency = job.submission.latency_class
        found = self._classes[latency]
        if not found.count and latency in self._passed:
            # who had nothing to do has not saved anything up
            other = min((self._passed[each] for each in self._passed if self._classes[each].count), default=0.0)
            self._passed[latency] = max(self._passed[latency], other)
        line = found.lines.setdefault((job.submission.priority, job.client), deque())
        if first:
            line.appendleft(job)
        else:
            line.append(job)
        found.served[job.client] = max(found.served.get(job.client, 0.0), found.now)
        found.count += 1
        found.work_s += job.cost_s

    def pop(
        self,
        suits: Callable[[Job], bool],
        now_ns: int,
        *,
        classes: Collection[LatencyClass] = CLASSES,
        depth: int | None = None,
    ) -> Job | None:
        """Take the next job of these classes for which `suits` holds, looking at `depth` jobs of each line."""
        for latency in self._order():
            if latency not in classes:
                continue
            found = self._classes[latency]
            for key in found.ranked(now_ns, self._ageing_ns):
                line = found.lines[key]
                job = next((job for job in islice(line, depth) if suits(job)), None)
                if job is not None:
                    self._take(job, found, key)
                    self._charge(job, found, latency)
                    return job
        return None

    def remove(self, job: Job) -> bool:
        """Take one job out; False where it does not wait."""
        found = self._classes[job.submission.latency_class]
        key = (job.submission.priority, job.client)
        if job not in found.lines.get(key, ()):
            return False
        self._take(job, found, key)
        return True

    def jobs(self) -> list[Job]:
        """Return all waiting jobs in about the order in which they would be taken if nothing else came."""
        return [job for latency in CLASSES for job in _in_turns(self._classes[latency])]

    def position(self, job: Job) -> int:
        """Return about how many jobs stand before this one, plus one; 0 where it does not wait."""
        return next((place for place, other in enumerate(self.jobs(), 1) if other is job), 0)

    def _order(self) -> list[LatencyClass]:
        """Return the classes that have jobs, the one to be served next first."""
        rest = sorted((each for each in self._weights if self._classes[each].count), key=self._passed.__getitem__)
        if not self._classes[LatencyClass.CRITICAL].count:
            return rest
        if rest and self._ahead_s > _BURST_S:
            return [*rest, LatencyClass.CRITICAL]
        return [LatencyClass.CRITICAL, *rest]

    def _take(self, job: Job, found: _Class, key: tuple[int, str]) -> None:
        line = found.lines[key]
        line.remove(job)
        if not line:
            del found.lines[key]
        found.count -= 1
        found.work_s = found.work_s - job.cost_s if found.count else 0.0

    def _charge(self, job: Job, found: _Class, latency: LatencyClass) -> None:
        cost_s = max(job.cost_s, LEAST_COST_S)
        found.now = max(found.now, found.served.get(job.client, found.now))
        found.served[job.client] = found.now + cost_s
        if not found.count:
            found.now = max(found.served.values())  # all had what they asked for: everybody starts anew from here
            found.served.clear()
        elif len(found.served) > _MAX_REMEMBERED:
            found.served = {client: at for client, at in found.served.items() if at > found.now}
        if latency is LatencyClass.CRITICAL:
            others = any(self._classes[each].count for each in self._weights)
            self._ahead_s = self._ahead_s + cost_s * (1 - self._share) if others else 0.0
        else:
            self._ahead_s = max(0.0, self._ahead_s - cost_s * self._share)
            self._passed[latency] += cost_s / self._weights[latency]


def _in_turns(found: _Class) -> Iterator[Job]:
    """Give the jobs of a class: higher priority first, its clients in turn."""
    for priority in sorted({key[0] for key in found.lines}, reverse=True):
        lines = [list(line) for key, line in found.lines.items() if key[0] == priority]
        for turn in range(max(len(line) for line in lines)):
            yield from (line[turn] for line in lines if turn < len(line))
