"""`qedge crypto`: the algorithms that the product knows, and whether this box can run them."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import print_json
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qedge.cli.security.crypto_trials import Trial, TrialReport
    from qedge.crypto.registry import Algorithm

NAME: Final = "crypto"
SUMMARY: Final = "List algorithms with their status, or test those of this box."
_PIPE_WIDTH: Final = 240
_STATUSES: Final = ("allowed", "experimental", "reserved", "refused")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list all algorithms, why some are refused, and what to use instead")
    listing.add_argument("--status", choices=_STATUSES, help="only those of one status")
    test = actions.add_parser("test", help="run every usable algorithm, and let two providers check each other")
    test.add_argument("names", nargs="*", metavar="NAME", help="only these algorithms (default: all)")
    for action in (listing, test):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says; a test that fails ends with exit code 1."""
    return _list(args) if args.action == "list" else _test(args)


def _list(args: argparse.Namespace) -> int:
    from qedge.crypto.registry import ALGORITHMS, REFUSED

    rows = [*ALGORITHMS.values(), *(row for _, row in REFUSED)]
    chosen = [row for row in rows if args.status in (None, row.status.value)]
    if args.json:
        print_json(chosen)
        return 0
    terminal = terminal_of()
    if not sys.stdout.isatty():
        terminal = replace(terminal, width=_PIPE_WIDTH)  # whoever pipes it to a program wants whole lines
    known = [row for row in chosen if row.status.value != "refused"]
    refused = [row for row in chosen if row.status.value == "refused"]
    lines: list[str] = []
    if known:
        columns = ("NAME", "KIND", "STATUS", "CAT", "PROVIDER", "STANDARD AND NOTE")
        lines += table_lines(columns, [_known(row) for row in known], terminal=terminal)
    if refused:
        told = [(row.name, row.replacement, f"{row.reason} ({row.reference})") for row in refused]
        lines += [*([""] if known else []), *table_lines(("REFUSED", "USE INSTEAD", "WHY"), told, terminal=terminal)]
    print("\n".join(lines))
    return 0


def _known(row: Algorithm) -> tuple[str, ...]:
    instead = f"use {row.replacement}" if row.replacement and row.status.value != "allowed" else ""
    note = "; ".join(part for part in (row.standard, instead, row.reason) if part)
    return (row.name, row.kind.value, row.status.value, str(row.category or "-"), row.provider or "-", note)


def _test(args: argparse.Namespace) -> int:
    from qedge.base.errors import Exit
    from qedge.cli.security.crypto_trials import run_trials
    from qedge.crypto.registry import ALGORITHMS, require_usable

    rows = [require_usable(name, experimental=True) for name in args.names] or list(ALGORITHMS.values())
    report = asyncio.run(run_trials(rows, _ignore if args.json else _tell))
    if args.json:
        print_json(report)
    else:
        print(_sum_up(report))
    return int(Exit.OK if report.ok else Exit.FAILED)


def _ignore(_trial: Trial) -> None:
    """With --json, one object at the end says everything."""


def _tell(trial: Trial) -> None:
    terminal = terminal_of(sys.stdout)
    if trial.skipped:
        state, told = terminal.warn("skip"), f"{trial.provider} is not installed"
    elif trial.ok:
        state, told = terminal.good("ok  "), f"{trial.ms:.2f} ms"
    else:
        state, told = terminal.bad("FAIL"), clean(trial.problem)
    print(f"{state}  {trial.algorithm:<20} {trial.check:<12} {trial.provider:<13} {told}", flush=True)


def _sum_up(report: TrialReport) -> str:
    failed: Sequence[Trial] = [trial for trial in report.trials if not trial.ok]
    skipped = sum(trial.skipped for trial in report.trials)
    told = f"{len(report.trials) - len(failed) - skipped} passed"
    told += f", {skipped} skipped" if skipped else ""
    return f"{told}, {len(failed)} failed"
