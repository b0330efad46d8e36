"""How the fleet tool draws: tables of nodes and commands, bars of what is under way, waves. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from qedge.cli.terminal import Terminal, bar, clean, shorten, table_lines
from qedge.client.fleet_tool.model import Ending, FleetNode, NodeStanding, SentCommand
from qedge.client.fleet_tool.rollout_model import Phase, Step
from qedge.client.fleet_tool.rollout_view import RolloutView, WaveView
from qedge.client.fleet_tool.trail import TrailLine

_BAR: Final = 24
_SHOWN_FAULTS: Final = 20
_DAY_NS: Final = 86_400 * 10**9


def age(then_utc_ns: int, now_utc_ns: int) -> str:
    """Write how long ago something was."""
    if not then_utc_ns:
        return "never"
    seconds = max(0, now_utc_ns - then_utc_ns) / 1e9
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def inventory_lines(nodes: Sequence[FleetNode], now_utc_ns: int, terminal: Terminal) -> list[str]:
    """Draw the nodes of a fleet."""
    if not nodes:
        return ["no nodes: none has introduced itself at this broker"]
    rows = [
        (
            node.name,
            node.state.value,
            node.version,
            f"{node.policy_serial or '-'}/{node.config_serial or '-'}",
            age(node.seen_utc_ns, now_utc_ns),
            f"{(node.certificate_until_utc_ns - now_utc_ns) / _DAY_NS:.0f} d",
            ", ".join(sorted({each.kind for each in node.capabilities})) or "-",
            ", ".join(node.labels),
        )
        for node in nodes
    ]
    header = ("NODE", "STATE", "VERSION", "POLICY/CONFIG", "SEEN", "CERT", "CAN", "LABELS")
    up = sum(node.state is NodeStanding.UP for node in nodes)
    versions = Counter(node.version for node in nodes).most_common(4)
    told = ", ".join(f"{number} × {clean(version)}" for version, number in versions)
    return [*table_lines(header, rows, terminal=terminal), f"{len(nodes)} nodes, {up} up; {told}"]


def progress_line(views: Iterable[SentCommand], terminal: Terminal) -> str:
    """Draw how far commands are, in one line."""
    counts = Counter(view.ending for view in views)
    total = sum(counts.values())
    ended = total - counts[Ending.WAITING] - counts[Ending.UNDER_WAY]
    parts = [f"{counts[ending]} {ending}" for ending in Ending if counts[ending]]
    share = bar(ended / total, _BAR, terminal) if ended else " " * _BAR
    return f"{terminal.accent(share)} {ended}/{total}  {', '.join(parts)}"


def command_line(view: SentCommand) -> str:
    """Write one command as a line."""
    more = view.reason or view.step
    code = f" [{view.code}]" if view.code else ""
    return f"{clean(view.node)}: {view.kind} {view.ending}{f': {clean(more)}' if more else ''}{code}"


def command_lines(views: Sequence[SentCommand], terminal: Terminal) -> list[str]:
    """Draw commands as a table."""
    rows = [
        (
            view.node,
            view.kind,
            view.ending.value,
            f"{view.progress:.0%}" if view.ending is Ending.UNDER_WAY else "",
            view.id,
            view.reason or view.step,
        )
        for view in views
    ]
    return table_lines(("NODE", "KIND", "STATE", "DONE", "COMMAND", "WHY"), rows, terminal=terminal)


def rollout_lines(view: RolloutView, terminal: Terminal) -> list[str]:
    """Draw a roll-out: a bar for each wave, then who failed."""
    where = f"wave {view.wave} of {len(view.waves)}, " if view.phase in (Phase.SENDING, Phase.SOAKING) else ""
    paused = ", paused" if view.paused else ""
    state = f"{where}{view.phase}{paused}{f': {clean(view.reason)}' if view.reason else ''}"
    head = f"roll-out {view.id}  {view.kind}  {view.reached} of {view.nodes} nodes reached  {state}"
    lines = [head, *(wave_line(number, wave, terminal) for number, wave in enumerate(view.waves, 1))]
    lines += [
        f"  {terminal.bad(clean(fault.node))} (wave {fault.wave}, {fault.step}): {clean(fault.reason)}"
        for fault in view.faults[:_SHOWN_FAULTS]
    ]
    if len(view.faults) > _SHOWN_FAULTS:
        lines.append(f"  and {len(view.faults) - _SHOWN_FAULTS} more")
    return lines


def wave_line(number: int, wave: WaveView, terminal: Terminal) -> str:
    """Draw one wave."""
    share = bar(wave.ended / wave.size, _BAR, terminal) if wave.ended else " " * _BAR
    parts = ", ".join(f"{wave.steps[step]} {step}" for step in Step if wave.steps.get(step))
    return f"  wave {number:>2} {terminal.accent(share)} {wave.ended}/{wave.size}  {parts}"


def trail_lines(lines: Sequence[TrailLine], terminal: Terminal) -> list[str]:
    """Draw an audit trail."""
    rows = [
        (
            str(line.number),
            f"{datetime.fromtimestamp(line.entry.utc_ns // 10**9, UTC):%Y-%m-%d %H:%M:%S}",
            line.entry.operator,
            line.entry.act.value,
            line.entry.node or "-",
            line.entry.kind or "-",
            " ".join(part for part in (line.entry.outcome, shorten(line.entry.reason or line.entry.note, 60)) if part),
        )
        for line in lines
    ]
    return table_lines(("#", "TIME (UTC)", "WHO", "ACT", "NODE", "KIND", "OUTCOME"), rows, terminal=terminal)
