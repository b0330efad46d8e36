"""How `qedge top` draws one look at a node into a given room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from qedge.base.units import format_duration
from qedge.cli.jobs.lines import age, place, progress, took
from qedge.cli.terminal import Terminal, bar, clean, table_lines
from qedge.cli.top.look import Look
from qedge.wire.incidents import IncidentView

if TYPE_CHECKING:
    pass

PANELS: Final = ("nodes", "jobs", "links", "devices", "incidents")
WIDE: Final = 130
_PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass
class Screen:
    """What the person at the keyboard chose: the panel in front, and how far each is scrolled."""

    focus: int = 0
    scrolled: dict[str, int] = field(default_factory=dict)

    def press(self, key: str) -> bool:
        """Take a key; False means the end is wanted."""
        if key in ("q", "Q", "\x03", "\x1b"):
            return False
        if key in ("\t", "\x1b[C", "l"):
            self.focus = (self.focus + 1) % len(PANELS)
        elif key in ("\x1b[Z", "\x1b[D", "h"):
            self.focus = (self.focus - 1) % len(PANELS)
        elif key in ("\x1b[A", "k", "\x1b[B", "j"):
            name, step = PANELS[self.focus], -1 if key in ("\x1b[A", "k") else 1
            self.scrolled[name] = max(0, self.scrolled.get(name, 0) + step)
        elif key.isascii() and key.isdigit() and 1 <= int(key) <= len(PANELS):
            self.focus = int(key) - 1
        return True


def plain_lines(look: Look, terminal: Terminal) -> list[str]:
    """Draw a look in full, for a pipe or a file."""
    lines = [_head(look, terminal, "")]
    for name in PANELS:
        title, rows = _panel(name, look, terminal)
        lines += ["", terminal.bold(title), *rows]
    return lines


def screen_lines(look: Look | None, screen: Screen, terminal: Terminal, height: int, trouble: str) -> list[str]:
    """Draw exactly `height` lines; `trouble` says that the daemon does not answer."""
    if look is None:
        body = [terminal.warn(trouble or "asking the daemon …")]
    else:
        body = [_head(look, terminal, trouble), ""]
        room = height - len(body) - 1
        if terminal.width >= WIDE:
            left = (terminal.width - 3) * 11 // 20
            columns = (
                _column(("nodes", "jobs"), look, screen, _narrow(terminal, left), room),
                _column(
                    ("links", "devices", "incidents"), look, screen, _narrow(terminal, terminal.width - 3 - left), room
                ),
            )
            body += [
                f"{pad(a, left)} {terminal.dim('│' if terminal.unicode else '|')} {b}"
                for a, b in zip(*columns, strict=True)
            ]
        else:
            body += _column(PANELS, look, screen, terminal, room)
    body = body[: height - 1] + [""] * max(0, height - 1 - len(body))
    keys = "q quit   tab / arrows panel and scroll   1-5 panel"
    return [crop(line, terminal.width) for line in [*body, terminal.dim(keys)]]


def _narrow(terminal: Terminal, width: int) -> Terminal:
    return Terminal(color=terminal.color, unicode=terminal.unicode, width=width)


def _column(names: Sequence[str], look: Look, screen: Screen, terminal: Terminal, room: int) -> list[str]:
    panels = [_panel(name, look, terminal) for name in names]
    focus = names.index(PANELS[screen.focus]) if PANELS[screen.focus] in names else -1
    rooms = rooms_of([len(rows) + 2 for _, rows in panels], focus, room)
    lines: list[str] = []
    for number, (name, (title, rows), size) in enumerate(zip(names, panels, rooms, strict=True)):
        if size < 2:
            continue
        shown = size - 2 if size > 3 else size - 1  # the last line stays empty where there is room
        top = min(screen.scrolled.get(name, 0), max(0, len(rows) - shown))
        screen.scrolled[name] = top
        header, body = rows[:1], rows[1:]
        cut = [*header, *body[top : top + shown - 1]] if shown > 1 else (body or header)[:1]
        more = len(rows) - len(cut)
        mark = ("▸ " if terminal.unicode else "> ") if number == focus else "  "
        text = f"{mark}{title}" + (f"  (+{more})" if more > 0 else "")
        lines.append(terminal.bold(text) if number != focus else terminal.accent(text))
        lines += cut
        lines += [""] * (size - 1 - len(cut))
    return (lines + [""] * room)[:room]


def rooms_of(wants: Sequence[int], focus: int, room: int) -> list[int]:
    """Share `room` lines: three for each at least, half of it to the one in front, then one after another."""
    rooms = [min(3, want) for want in wants]
    while sum(rooms) > room:
        rooms[max(range(len(rooms)), key=lambda at: (rooms[at], at != focus, at))] -= 1
    if focus >= 0:
        extra = min(wants[focus], max(rooms[focus], room // 2)) - rooms[focus]
        rooms[focus] += max(0, min(extra, room - sum(rooms)))
    while sum(rooms) < room:
        open_ones = [at for at, want in enumerate(wants) if rooms[at] < want]
        if not open_ones:
            break
        rooms[min(open_ones, key=lambda at: (rooms[at], at))] += 1
    return rooms


def _head(look: Look, terminal: Terminal, trouble: str) -> str:
    alive = sum(row.state == "alive" for row in look.nodes)
    state = terminal.good("ready") if look.ready else terminal.bad(f"waiting for {clean(', '.join(look.not_ready))}")
    name = terminal.bold(clean(look.node))
    facts = f"{alive}/{len(look.nodes)} nodes  cpu {look.cpu_ratio:.0%}  mem {look.memory_ratio:.0%}"
    if trouble:
        return f"{name}  {terminal.bad(trouble)}"
    return f"{name} of {clean(look.fleet)}  {state}  up {format_duration(look.uptime_s)}  {facts}"


def _panel(name: str, look: Look, terminal: Terminal) -> tuple[str, list[str]]:
    """Return the title of a panel and its lines, the first of them the header of its table."""
    if name == "nodes":
        return "Nodes", _nodes(look, terminal)
    if name == "jobs":
        title = f"Jobs  {look.jobs_running} running, {look.jobs_queued} queued, {look.jobs_done} done"
        return title + (f", {look.jobs_failed} failed" if look.jobs_failed else ""), _jobs(look, terminal)
    if name == "links":
        return "QKD links", _links(look, terminal)
    if name == "devices":
        return "Devices", _devices(look, terminal)
    return f"Incidents  {len(look.incidents)} open", _incidents(look, terminal)


def _known(value: float, text: str) -> str:
    return text if value >= 0 else "-"


def _nodes(look: Look, terminal: Terminal) -> list[str]:
    rows = [
        (
            row.node + (" *" if row.own else ""),
            row.state,
            "-" if row.own or row.heard_s < 0 else f"{row.heard_s:.1f} s",
            str(row.qpus),
            _known(row.busy_ratio, f"{row.busy_ratio:.0%}"),
            _known(row.running, str(row.running)),
            _known(row.queued, str(row.queued)),
            str(row.ours) if row.ours else "-",
            row.session,
        )
        for row in look.nodes
    ]
    return table_lines(
        ("NODE", "STATE", "HEARD", "QPU", "BUSY", "RUN", "QUEUE", "OURS", "SESSION"), rows, terminal=terminal
    )


def _jobs(look: Look, terminal: Terminal) -> list[str]:
    if not look.jobs:
        return ["no jobs yet: qedge submit FILE.qasm"]
    rows = []
    for job in look.jobs:
        share = progress(job, look.utc_ns)
        note = job.error.title if job.error else " ".join(job.tags)
        if share >= 0:
            note = f"{bar(share, 10, terminal)} {share:.0%}"
        elif job.queue_position:
            note = f"{job.queue_position} before it"
        rows.append(
            (job.id[-12:], job.state, place(job), age(job.submitted_utc_ns, look.utc_ns), took(job, look.utc_ns), note)
        )
    return table_lines(("JOB", "STATE", "RUNS ON", "AGE", "TOOK", ""), rows, terminal=terminal)


def _links(look: Look, terminal: Terminal) -> list[str]:
    if not look.links:
        return ["no link is configured"]
    rows = [
        (
            row.name,
            row.peer or "-",
            row.state,
            _known(row.key_bit_s, _amount(row.key_bit_s, "bit/s")),
            _known(row.qber, f"{row.qber:.2%}"),
            _known(row.stored_bits, _amount(row.stored_bits, "bit")),
            row.reason,
        )
        for row in look.links
    ]
    return table_lines(("LINK", "PEER", "STATE", "KEY RATE", "QBER", "STORED", ""), rows, terminal=terminal)


def _devices(look: Look, terminal: Terminal) -> list[str]:
    view = look.devices
    if view is None:
        return ["this node takes no devices: [devices] enabled = true"]
    states = ", ".join(f"{count} {state}" for state, count in view.states.items() if count) or "none"
    row = (
        str(view.sessions),
        str(view.connections),
        _known(look.taken_per_s, f"{look.taken_per_s:.0f}"),
        _known(look.refused_per_s, f"{look.refused_per_s:.0f}"),
        str(view.denied),
        states,
    )
    return table_lines(("SESSIONS", "CONNECTED", "MSG/S", "REFUSED/S", "DENIED", "DEVICES"), [row], terminal=terminal)


def _incidents(look: Look, terminal: Terminal) -> list[str]:
    if not look.incidents:
        return ["none open"]
    rows = [
        (one.subject, one.state, one.evidence.replace("_", " "), age(one.opened_utc_ns, look.utc_ns), _acts(one))
        for one in look.incidents
    ]
    return table_lines(("ABOUT", "STATE", "EVIDENCE", "AGE", "DONE"), rows, terminal=terminal)


def _acts(one: IncidentView) -> str:
    return ", ".join(dict.fromkeys(act.response.replace("_", " ") for act in one.acts if act.outcome == "done")) or "-"


def _amount(value: float, unit: str) -> str:
    scale, prefix = next(((scale, prefix) for scale, prefix in _PREFIXES if value >= scale), (1.0, ""))
    return f"{value / scale:.3g} {prefix}{unit}"


def crop(text: str, width: int) -> str:
    """Cut a line with colours to `width` columns; what was switched on is switched off."""
    first, *rest = text.split("\x1b[")
    shown, left = first[:width], max(0, width - len(first))
    for part in rest:
        code, _, words = part.partition("m")
        shown += f"\x1b[{code}m{words[:left]}"
        left = max(0, left - len(words))
    return shown


def pad(text: str, width: int) -> str:
    """Fill a line with colours up to `width` columns, or cut it."""
    plain = sum(len(part.partition("m")[2]) if at else len(part) for at, part in enumerate(text.split("\x1b[")))
    return crop(text, width) + " " * max(0, width - plain)
