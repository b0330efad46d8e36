"""`qedge standing`: what results of other nodes have been worth."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import Terminal, clean, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.wire.standing import Standing

NAME: Final = "standing"
SUMMARY: Final = "Show how results of other nodes stood the checks; give a barred node jobs again."
_COLUMNS: Final = ("NODE", "JOBS", "CHECKED", "IN A ROW", "ODD", "FALSE", "WHY")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--pardon", default="", metavar="NODE", help="give this node jobs again")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the table, or pardon a node."""
    if args.pardon:
        standing = ask(args, lambda node: node.fleet.pardon(args.pardon))
        print_json(standing) if args.json else print(
            f"{clean(standing.node)} gets jobs again; its results are checked."
        )
        return 0
    known = ask(args, lambda node: node.fleet.standings())
    if args.json:
        print_json(known)
    else:
        print("\n".join(lines(known.standings, terminal_of())))
    return 0


def lines(standings: tuple[Standing, ...], terminal: Terminal) -> list[str]:
    """Draw the table."""
    if not standings:
        return ["No result of another node has been checked here yet. `qedge submit --node any` gives jobs to others."]
    return table_lines(_COLUMNS, [_row(each) for each in standings], terminal=terminal)


def _row(each: Standing) -> tuple[str, ...]:
    since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(each.barred_utc_ns / 1e9)) if each.barred_utc_ns else ""
    jobs = f"none since {since} UTC" if since else "yes"
    return (clean(each.node), jobs, str(each.checked), str(each.clean), str(each.odd), str(each.wrong), clean(each.why))
