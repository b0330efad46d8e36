"""Jobs as lines for a terminal: one in a list, one in full, one change of state."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.base.units import format_bytes, format_duration
from qedge.cli.terminal import Terminal, bar, clean, paint_state, table_lines

if TYPE_CHECKING:
    from qedge.wire.jobs import JobView

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SHORT: Final = 12
"""Characters from the end of an id that tell jobs apart; its beginning is the time."""
_BAR: Final = 24


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted; what is empty or 0 lets all through. `since_utc_ns`: submitted then or later."""

    states: Collection[str] = ()
    client: str = ""
    tag: str = ""
    node: str = ""
    since_utc_ns: int = 0

    def wants(self, job: JobView, own: str = "") -> bool:
        """Say whether a job passes; `own` is the name of the node that answers, where jobs without a node ran."""
        return (
            (not self.states or job.state in self.states)
            and (not self.client or job.client == self.client)
            and (not self.tag or self.tag in job.tags)
            and (not self.node or (job.node or own) == self.node)
            and job.submitted_utc_ns >= self.since_utc_ns
        )


def since(text: str, utc_ns: int) -> int:
    """Read `10m`, `2h`, `1d` … as the time that long before `utc_ns`; empty is 0. Raises `client.usage`."""
    found = _SPAN.fullmatch(text)
    if text and found is None:
        raise QedgeError("client.usage", f"--since {text} is no time span.", fix="Say for example 90s, 10m, 2h or 1d.")
    return utc_ns - round(float(found[1]) * _UNITS_S[found[2]] * 1e9) if found else 0


def age(utc_ns: int, now_utc_ns: int) -> str:
    """Write how long ago something was, in one unit: `8 s`, `12 min`, `3 h`, `2 d`; `-` where it never was."""
    if not utc_ns:
        return "-"
    seconds = max(0, now_utc_ns - utc_ns) / 1e9
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds / 86_400)} d"


def took(job: JobView, now_utc_ns: int) -> str:
    """Write how long a job ran or has been running; `-` before it starts."""
    if not job.started_utc_ns:
        return "-"
    return format_duration(max(0, (job.ended_utc_ns or now_utc_ns) - job.started_utc_ns) / 1e9)


def place(job: JobView) -> str:
    """Say where a job runs or ran."""
    return clean(" ".join(each for each in (job.node, job.qpu) if each) or "any")


def progress(job: JobView, now_utc_ns: int) -> float:
    """Return how far a running job should be by its estimate, 0 … 0.99; −1 where nothing is known."""
    if not job.started_utc_ns or job.ended_utc_ns or job.estimate is None or job.estimate.time_s <= 0:
        return -1.0
    return min(0.99, max(0.0, (now_utc_ns - job.started_utc_ns) / 1e9 / job.estimate.time_s))


def list_lines(jobs: Sequence[JobView], terminal: Terminal, now_utc_ns: int, *, short: bool) -> list[str]:
    """Draw a table of jobs; `short` cuts ids down to what tells them apart."""
    rows = [
        (
            job.id[-_SHORT:] if short else job.id,
            job.state,
            str(job.shots),
            place(job),
            age(job.submitted_utc_ns, now_utc_ns),
            took(job, now_utc_ns),
            clean(job.client),
            job.error.title if job.error else " ".join(job.tags),
        )
        for job in jobs
    ]
    header = ("ID", "STATE", "SHOTS", "RUNS ON", "AGE", "TOOK", "FROM", "NOTE")
    return table_lines(header, rows, terminal=terminal)


def change_line(job: JobView, terminal: Terminal) -> str:
    """Write one change of state."""
    when = datetime.fromtimestamp((job.ended_utc_ns or time.time_ns()) / 1e9, UTC).astimezone().strftime("%H:%M:%S")
    parts = [terminal.dim(when), job.id, paint_state(str(job.state), terminal) + " " * (9 - len(job.state))]
    if job.node or job.qpu:
        parts.append(place(job))
    if job.queue_position:
        parts.append(f"{job.queue_position} before it")
    if job.attempts > 1:
        parts.append(f"attempt {job.attempts}")
    if job.ended_utc_ns and job.started_utc_ns:
        parts.append(took(job, job.ended_utc_ns))
    if job.error is not None:
        parts.append(terminal.bad(f"{clean(job.error.title)} [{clean(job.error.code)}]"))
    return "  ".join(parts).rstrip()


def show_lines(job: JobView, terminal: Terminal, now_utc_ns: int) -> list[str]:
    """Draw everything about a job but its result."""
    lines = [f"{job.id}: {paint_state(str(job.state), terminal)}"]
    tags = f", tags {clean(', '.join(job.tags))}" if job.tags else ""
    lines.append(f"from {clean(job.client)}, {job.shots} shots, priority {job.priority}{tags}")
    if job.error is not None:
        lines.append(terminal.bad(f"{clean(job.error.title)} [{clean(job.error.code)}]"))
        if job.error.fix:
            lines.append(f"fix: {clean(job.error.fix)}")
    lines += ["", *_timeline(job, terminal, now_utc_ns)]
    if job.estimate is not None:
        estimate = job.estimate
        lines += [
            "",
            f"estimate  {format_duration(estimate.time_s)}, {format_bytes(estimate.memory_bytes)} of memory, "
            f"{estimate.qubits} qubits, {estimate.operations} operations, method {clean(estimate.method)}",
        ]
    if job.result is not None and job.result.timings_s:
        lines += ["", *_stages(job.result.timings_s, terminal)]
    return lines


def _timeline(job: JobView, terminal: Terminal, now_utc_ns: int) -> Iterator[str]:
    rows = [(job.submitted_utc_ns, "accepted")]
    if job.started_utc_ns:
        rows.append((job.started_utc_ns, f"started: {_where(job)}"))
    if job.ended_utc_ns:
        rows.append((job.ended_utc_ns, paint_state(str(job.state), terminal)))
    before = 0
    for utc_ns, text in rows:
        moment = datetime.fromtimestamp(utc_ns / 1e9, UTC).astimezone()
        shown = moment.strftime("%Y-%m-%d %H:%M:%S") if not before else f"+{format_duration((utc_ns - before) / 1e9)}"
        yield f"{terminal.dim(f'{shown:>19}')}  {text}"
        before = utc_ns
    if not job.ended_utc_ns:
        waits = f", {job.queue_position} before it" if job.queue_position else ""
        where = "" if job.started_utc_ns else f" for {place(job)}"
        since_then = f"{format_duration(max(0, now_utc_ns - before) / 1e9)} ago"
        yield f"{terminal.dim(f'{since_then:>19}')}  still {job.state}{where}{waits}"


def _where(job: JobView) -> str:
    """Say where it ran, and what is known of why there."""
    node = f"node {clean(job.node)}" if job.node else "this node"
    qpu = f", QPU {clean(job.qpu)}" if job.qpu else ""
    why = ", given to it by this node" if job.node else ", which accepted it"
    again = f", attempt {job.attempts}: {job.attempts - 1} before it ended without a result" if job.attempts > 1 else ""
    return f"{node}{qpu}{why}{again}"


def _stages(timings_s: dict[str, float], terminal: Terminal) -> list[str]:
    longest = max(timings_s.values()) or 1.0
    name_width = max(map(len, timings_s))
    return [
        f"{clean(name):>{name_width}}  {format_duration(value):>9}  "
        f"{terminal.accent(bar(value / longest, _BAR, terminal)) if value > 0 else ''}".rstrip()
        for name, value in timings_s.items()
    ]
