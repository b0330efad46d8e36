"""`qedge keys`: what is stored for applications, taking and collecting keys, and the applications themselves."""

from __future__ import annotations

import argparse
import base64
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import ask, print_json
from qedge.cli.keys import saes, watch
from qedge.cli.terminal import table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.wire.delivery import HandedKeys, KeyOverview

NAME: Final = "keys"
SUMMARY: Final = "Look at keys, take them, and say which applications may."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = actions.add_parser("status", help="tell what every pair of applications could have now")
    get = actions.add_parser("get", help="take fresh keys as an application of this node, or collect them by id")
    get.add_argument("--as", dest="sae", required=True, metavar="ID", help="SAE id of the application")
    get.add_argument("--with", dest="other", required=True, metavar="ID", help="SAE id of the other application")
    get.add_argument("--id", dest="ids", action="append", default=[], metavar="UUID", help="collect this key (again)")
    get.add_argument("--number", type=int, default=1, metavar="N", help="how many fresh keys (default: 1)")
    get.add_argument("--size", type=int, default=0, metavar="BITS", help="bits of each (default: the node's)")
    get.add_argument("--also", action="append", default=[], metavar="ID", help="one more that may collect them (again)")
    get.add_argument("--hex", action="store_true", help="print keys in hex instead of Base64")
    watch.add_arguments(actions.add_parser("watch", help="draw rate, error rate and stored keys while they change"))
    for action in (status, get):
        action.add_argument("--json", action="store_true", help="print JSON")
    saes.add_arguments(actions)


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "sae":
        return saes.run(args)
    if args.action == "authority":
        return saes.run_authority(args)
    if args.action == "watch":
        return watch.run(args)
    return _get(args) if args.action == "get" else _status(args)


def _status(args: argparse.Namespace) -> int:
    found = ask(args, lambda node: node.keys.overview())
    if args.json:
        print_json(found)
    else:
        print("\n".join(overview_lines(found)))
    return 0


def overview_lines(found: KeyOverview) -> list[str]:
    """Describe the interface and the pairs."""
    terminal = terminal_of()
    where = found.url or "not listening (qkd.delivery.enabled)"
    lines = [f"KME {found.kme_id}   {where}   key exchange: {found.exchange}, certificates: ECDSA"]
    rows = [
        (
            pair.master,
            pair.slave,
            pair.node,
            "-" if pair.error else str(pair.stored_keys),
            pair.error or (f"{found.key_size} bits each{', simulated' if pair.simulated else ''}"),
        )
        for pair in found.pairs
    ]
    if rows:
        lines += table_lines(("MASTER", "SLAVE", "NODE", "KEYS", ""), rows, terminal=terminal)
    else:
        lines.append("no application of this node may ask keys with another; see `qedge keys sae --help`")
    if found.total > len(found.pairs):
        lines.append(f"and {found.total - len(found.pairs)} more pairs")
    return lines


def _get(args: argparse.Namespace) -> int:
    from qedge.wire.delivery import KeyCollect, KeyTake

    handed: HandedKeys
    if args.ids:
        handed = ask(args, lambda node: node.keys.collect(KeyCollect(args.sae, args.other, tuple(args.ids))))
    else:
        wanted = KeyTake(args.sae, args.other, args.number, args.size, tuple(args.also))
        handed = ask(args, lambda node: node.keys.take(wanted))
    if args.json:
        print_json(handed)
        return 0
    for key in handed.keys:
        print(f"{key.key_id}  {base64.b64decode(key.key).hex() if args.hex else key.key}")
    return 0
