"""`qedge commands`: look at what fleet operators ordered this node to do."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.wire.commands import FleetCommandView

NAME: Final = "commands"
SUMMARY: Final = "Look at what fleet operators ordered this node to do."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the newest commands")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="how many (default: 50)")
    show = actions.add_parser("show", help="show one command")
    show.add_argument("id", metavar="ID", help="id of the command")
    for action in (listing, show):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "list":
        found = ask(args, lambda node: node.fleet.orders(args.limit))
        if args.json:
            print_json(found)
            return 0
        rows = [
            (each.id, clean(each.kind), each.state, clean(each.operator), _when(each.received_utc_ns), _why(each))
            for each in found.commands
        ]
        lines = table_lines(("ID", "KIND", "STATE", "OPERATOR", "RECEIVED", "STEP"), rows, terminal=terminal_of())
        print("\n".join(lines) if rows else "no commands")
        return 0
    view = ask(args, lambda node: node.fleet.order(args.id))
    if args.json:
        print_json(view)
    else:
        print("\n".join(show_lines(view)))
    return 0


def show_lines(view: FleetCommandView) -> list[str]:
    """Describe one command."""
    approved = f", approved by {', '.join(map(clean, view.approvals))}" if view.approvals else ""
    lines = [
        f"{view.id}  {clean(view.kind)}  {view.state}",
        f"  ordered by {clean(view.operator)} (key {view.key_id}, serial {view.serial}){approved}",
        f"  received {_when(view.received_utc_ns)}, good until {_when(view.expires_utc_ns)}",
    ]
    if view.began_utc_ns:
        lines.append(f"  began {_when(view.began_utc_ns)}")
    if view.ended_utc_ns:
        lines.append(f"  ended {_when(view.ended_utc_ns)}")
    if _why(view):
        lines.append(f"  {_why(view)}")
    if view.note:
        lines.append(f"  note: {clean(view.note)}")
    return lines


def _why(view: FleetCommandView) -> str:
    if view.code:
        return clean(f"{view.reason} [{view.code}]")
    step = clean(view.step)
    return f"{step} ({view.progress:.0%})" if step and view.state == "executing" else step


def _when(utc_ns: int) -> str:
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
