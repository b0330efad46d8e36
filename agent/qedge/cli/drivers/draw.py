"""`qedge random`: draw random bytes."""

from __future__ import annotations

import argparse
import base64
import sys
from typing import Final

from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import clean, terminal_of

NAME: Final = "random"
SUMMARY: Final = "Draw random bytes from the node's pool."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bytes", type=int, nargs="?", default=32, metavar="N", help="how many, 1 … 65536 (default: 32)")
    parser.add_argument(
        "--require-quantum", action="store_true", help="fail unless a healthy quantum source takes part"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--hex", action="store_true", help="print hexadecimal (default)")
    form.add_argument("--base64", action="store_true", help="print base64")
    form.add_argument("--raw", action="store_true", help="write the bytes themselves")
    form.add_argument("--json", action="store_true", help="print JSON with the bytes' origin")


def run(args: argparse.Namespace) -> int:
    """Draw and print."""
    from qedge.wire.node import RandomRequest

    view = ask(args, lambda node: node.random(RandomRequest(args.bytes, args.require_quantum)))
    data = bytes.fromhex(view.hex)
    if args.json:
        print_json(view)
    elif args.raw:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        print(base64.b64encode(data).decode() if args.base64 else view.hex)
    if sys.stderr.isatty() and not args.json:
        kind = "simulated quantum source" if view.simulated else "quantum source"
        origin = f"{kind} {clean(view.source)} with" if view.quantum else "no quantum source, only"
        print(terminal_of(sys.stderr).dim(f"from {origin} the operating system's randomness"), file=sys.stderr)
    return 0
