"""`qedge template`: upload a program once, to run it by its hash."""

from __future__ import annotations

import argparse
from typing import Final

from qedge.cli.asking import ask, print_json
from qedge.cli.jobs.submit import read_program

NAME: Final = "template"
SUMMARY: Final = "Upload a program once and run it by its hash."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="upload a program; prints its hash")
    add.add_argument("file", metavar="FILE", help="OpenQASM 2 or 3 program; - reads standard input")
    show = actions.add_parser("show", help="print the program of a hash")
    show.add_argument("hash", metavar="HASH", help="hash of the template")
    for action in (add, show):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "show":
        view = ask(args, lambda node: node.template(args.hash))
    else:
        program = read_program(args.file)
        view = ask(args, lambda node: node.add_template(program))
    if args.json:
        print_json(view)
    else:
        print(view.program if args.action == "show" else view.template)
    return 0
