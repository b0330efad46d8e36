"""`qedge drain`: empty the node before maintenance, or let it take jobs again."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import ask, print_json

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.wire.node import DrainView

NAME: Final = "drain"
SUMMARY: Final = "Give the jobs of this node away and take no new ones, before maintenance."
_LOOK_S: Final = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--undo", action="store_true", help="take jobs again")
    parser.add_argument("--wait", action="store_true", help="wait until no job is left")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Drain, and say what is left."""
    view = ask(args, lambda node: _drain(node, undo=args.undo, wait=args.wait))
    if args.json:
        print_json(view)
    elif view.state == "open":
        print("the node takes jobs")
    elif view.state == "empty":
        print("the node is empty")
    else:
        print(f"draining: {view.waiting} waiting, {view.running} running")
    return 0


async def _drain(node: NodeClient, *, undo: bool, wait: bool) -> DrainView:
    view = await node.fleet.drain(undo=undo)
    while wait and view.state == "draining":
        await asyncio.sleep(_LOOK_S)
        view = await node.fleet.drain_view()
    return view
