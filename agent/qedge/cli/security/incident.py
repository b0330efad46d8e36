"""`qedge incident`: what threatens the node, what it did about that, and what an operator says to it."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.wire.incidents import IncidentList, IncidentView

NAME: Final = "incident"
SUMMARY: Final = "Look at incidents, acknowledge and resolve them."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list incidents, newest first")
    listing.add_argument("--all", action="store_true", help="resolved ones too")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="how many at most (default: 50)")
    show = actions.add_parser("show", help="show one with its evidence and what was done")
    acknowledge = actions.add_parser("acknowledge", help="say that you have seen it")
    resolve = actions.add_parser("resolve", help="end it")
    resolve.add_argument("--release", action="store_true", help="lift the device's quarantine with it")
    for action in (show, acknowledge, resolve):
        action.add_argument("id", metavar="ID", help="id of the incident; its last digits are enough")
    for action in (acknowledge, resolve):
        action.add_argument("--note", default="", metavar="TEXT", help="words that stay with it")
    for action in (listing, show, acknowledge, resolve):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "list":
        found = ask(args, lambda node: node.security.incidents(args.limit, only_open=not args.all))
        if args.json:
            print_json(found)
        else:
            print("\n".join(list_lines(found)))
        return 0
    view = _change(args)
    if args.json:
        print_json(view)
    else:
        print("\n".join(view_lines(view)))
    return 0


def _change(args: argparse.Namespace) -> IncidentView:
    from qedge.wire.incidents import IncidentChange

    name = _whole_id(args)
    if args.action == "show":
        return ask(args, lambda node: node.security.incident(name))
    if args.action == "acknowledge":
        return ask(args, lambda node: node.security.acknowledge(name, IncidentChange(args.note)))
    return ask(args, lambda node: node.security.resolve(name, IncidentChange(args.note, args.release)))


def _whole_id(args: argparse.Namespace) -> str:
    """Complete the last digits of an id, where they are those of one incident alone."""
    from qedge.base.errors import QedgeError
    from qedge.base.ids import is_uuid

    name = str(args.id)
    if is_uuid(name):
        return name
    found = ask(args, lambda node: node.security.incidents(1000, only_open=False))
    ids = [view.id for view in found.incidents if view.id.endswith(name)]
    if len(ids) != 1:
        raise QedgeError(
            "incident.not_found",
            f"{len(ids) or 'No'} incidents have an id that ends in {name}.",
            fix="`qedge incident list --all --json` has the whole ids.",
        )
    return ids[0]


def list_lines(found: IncidentList) -> list[str]:
    """Draw incidents as a table."""
    rows = [
        (
            view.id[-12:],
            at(view.opened_utc_ns),
            clean(view.subject),
            view.evidence,
            view.state,
            ", ".join(dict.fromkeys(f"{act.response} ({act.outcome})" for act in view.acts)) or "-",
            view.node,
        )
        for view in found.incidents
    ]
    header = ("ID", "OPENED (UTC)", "SUBJECT", "EVIDENCE", "STATE", "RESPONSES", "NODE")
    mode = "" if found.mode == "enforce" else f"; the mode is {found.mode}: nothing is done by itself"
    lines = table_lines(header, rows, terminal=terminal_of()) if rows else []
    return [*lines, f"{found.open} open{mode}"]


def view_lines(view: IncidentView) -> list[str]:
    """Describe one incident."""
    lines = [
        f"{view.id}  {view.state}",
        f"  {view.subject_is} {clean(view.subject)}"
        + (f", class {clean(view.device_class)}" * bool(view.device_class)),
        f"  found by {view.node} at {at(view.opened_utc_ns)}: {view.evidence}, {view.count} times, "
        f"severity {view.severity:.2f}" + (f", score {view.score:.0f}" if view.score >= 0 else ""),
    ]
    if view.safety:
        lines.append("  a safety device: the node only alarms")
    lines += [f"  {at(row.utc_ns)}  {row.evidence:22} {clean(row.detail)}" for row in view.rows]
    lines += [
        f"  {at(act.utc_ns)}  → {act.response}: {act.outcome}" + (f" by {clean(act.actor)}" * bool(act.actor))
        for act in view.acts
    ]
    if view.acknowledged_by:
        lines.append(f"  acknowledged by {clean(view.acknowledged_by)}")
    if view.ended_by:
        lines.append(f"  ended at {at(view.ended_utc_ns)} by {clean(view.ended_by)}")
    if view.note:
        lines.append(f"  note: {clean(view.note)}")
    return lines


def at(utc_ns: int) -> str:
    """Write a time, UTC, to the second."""
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
