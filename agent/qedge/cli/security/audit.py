"""`qedge audit`: shows the audit log, and checks that nothing in it was changed, with the daemon or without it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import Exit
from qedge.cli.asking import ask, print_json
from qedge.cli.security.incident import at
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.wire.audit import AuditReport, AuditRow, TrailReport

NAME: Final = "audit"
SUMMARY: Final = "Show the audit log, and check that nothing in it was changed."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = actions.add_parser(
        "verify",
        help="check every hash and signature",
        description="Check every hash and signature; exits with 65 where something was changed.",
    )
    verify.add_argument(
        "folder",
        nargs="?",
        default="",
        metavar="FOLDER",
        help="state directory of a node, or a copy of its folder `audit`, to be checked without the daemon",
    )
    verify.add_argument(
        "--key-id", default="", metavar="HEX", help="id of the node's key (default: what its database says)"
    )
    show = actions.add_parser("show", help="print the newest rows")
    show.add_argument("--denials", action="store_true", help="what policy denied, instead of what was done")
    show.add_argument("--limit", type=int, default=50, metavar="N", help="how many rows (default: 50)")
    verify.add_argument("--json", action="store_true", help="print JSON")
    show.add_argument("--json", action="store_true", help="print one JSON object a row")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    return _show(args) if args.action == "show" else _verify(args)


def _verify(args: argparse.Namespace) -> int:
    report = _check_folder(args) if args.folder else ask(args, lambda node: node.security.verify_audit())
    if args.json:
        print_json(report)
    else:
        print("\n".join(report_lines(report)))
    return Exit.OK if report.ok else Exit.DATA


def _check_folder(args: argparse.Namespace) -> AuditReport:
    """Check without the daemon. What the database knows counts where it is there: key and newest checkpoints."""
    from qedge.base.errors import QedgeError
    from qedge.security.audit.database import known_by_database
    from qedge.security.audit.log import verify_folder

    state = Path(args.folder)
    folder = state / "audit" if (state / "audit").is_dir() else state
    if not next(folder.glob("*-[0-9]*.jsonl"), None):
        raise QedgeError("audit.no_log", f"{folder} has no audit log.", fix="Name the state directory of a node.")
    key_id, kept = known_by_database(folder.parent / "qedge.sqlite3")
    return verify_folder(folder, args.key_id or key_id, {}, kept)


def report_lines(report: AuditReport) -> list[str]:
    """Say what was found."""
    lines = []
    for trail in report.trails:
        lines += _trail_lines(trail)
    if not report.key_id:
        lines.append("whose key signed the checkpoints was not looked at: give --key-id, or the whole state directory")
    lines.append("nothing was changed" if report.ok else "the log is NOT as it was written")
    return lines


def _trail_lines(trail: TrailReport) -> list[str]:
    if not trail.rows:
        return [f"{trail.trail}: no rows", *(f"  {clean(fault)}" for fault in trail.faults)]
    proven = f"proven up to row {trail.proven_sequence}" if trail.proven_sequence else "not vouched for yet"
    keys = f" by key {', '.join(trail.key_ids)}" if trail.key_ids else ""
    head = f"{trail.trail}: rows {trail.first_sequence} to {trail.last_sequence} in {trail.files} files, {proven}{keys}"
    return [head, *(f"  {clean(fault)}" for fault in trail.faults)]


def _show(args: argparse.Namespace) -> int:
    import msgspec

    from qedge.wire.audit import AuditTrail

    trail = AuditTrail.DENIALS if args.denials else AuditTrail.ACTS
    found = ask(args, lambda node: node.security.audit_rows(trail, args.limit))
    if args.json:
        for row in found.rows:
            print(msgspec.json.encode(row).decode())
    else:
        print("\n".join(row_lines(found.rows)))
    return 0


def row_lines(rows: tuple[AuditRow, ...]) -> list[str]:
    """Draw rows as a table."""
    cells = [
        (
            str(row.sequence),
            at(row.utc_ns),
            row.kind,
            clean(row.subject) or "-",
            clean(" ".join(part for part in (row.action, row.resource) if part)) or "-",
            clean(row.decision) or "-",
            clean(row.rule) or "-",
            clean(row.actor) or "-",
            str(row.count),
        )
        for row in rows
    ]
    header = ("ROW", "TIME (UTC)", "KIND", "SUBJECT", "ACTION", "DECISION", "RULE", "ACTOR", "TIMES")
    return table_lines(header, cells, terminal=terminal_of()) if cells else ["no rows"]
