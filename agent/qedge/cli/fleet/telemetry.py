"""`qedge telemetry`: what of the node's telemetry waits, and whether the adapters to other tools are connected."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import Terminal, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.wire.telemetry import TelemetryView

NAME: Final = "telemetry"
SUMMARY: Final = "Show what telemetry waits on this node, and the adapters to other tools."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", nargs="?", choices=("status",), default="status", help="what to show")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    view = ask(args, lambda node: node.fleet.telemetry())
    if args.json:
        print_json(view)
    else:
        print("\n".join(lines(view, terminal_of())))
    return 0


def lines(view: TelemetryView, terminal: Terminal) -> list[str]:
    """Write it for people."""
    if not view.enabled:
        return ["telemetry is off; set fleet.telemetry.enabled = true and restart the node"]
    way = terminal.good("connected") if view.up else terminal.warn("waiting for the broker")
    told = [f"telemetry {way}, spool {view.spool}"]
    if view.replaying:
        told.append(f"{view.replaying} items that waited are on their way")
    if view.in_memory:
        told.append(f"{view.in_memory} items wait in memory for the disk")
    if view.problem:
        told.append(terminal.bad(f"problem: {view.problem}"))
    rows = [
        (
            lane.kind.value,
            str(lane.waiting),
            f"{lane.waiting_bytes / 1024:.0f}",
            f"{lane.oldest_s:.0f}",
            str(lane.sent),
            ", ".join(f"{reason} {number}" for reason, number in sorted(lane.dropped.items())) or "-",
        )
        for lane in view.lanes
    ]
    told += table_lines(("class", "waiting", "KiB", "oldest s", "sent", "dropped"), rows, terminal=terminal)
    return told + [f"adapter {name}: {state}" for name, state in sorted(view.adapters.items())]
