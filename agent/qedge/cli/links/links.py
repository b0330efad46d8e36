"""`qedge link`: QKD links, their raw error rates, and plans of links that are not built yet."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import ask, print_json
from qedge.cli.links import plan
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.wire.node import LinkView

NAME: Final = "link"
SUMMARY: Final = "List QKD links, measure their error rates, and plan new ones."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the links")
    measure = actions.add_parser("measure", help="take one window of detections")
    measure.add_argument("name", metavar="NAME", help="name of the link")
    measure.add_argument(
        "--sifted", type=int, default=20_000, metavar="N", help="about how many sifted bits (default: 20000)"
    )
    for action in (listing, measure):
        action.add_argument("--json", action="store_true", help="print JSON")
    plan.add_arguments(actions.add_parser("plan", help=plan.SUMMARY, description=plan.DESCRIPTION))


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "plan":
        return plan.run(args)
    from qedge.wire.http import LinkList
    from qedge.wire.node import LinkMeasure

    if args.action == "measure":
        view = ask(args, lambda node: node.measure_link(args.name, LinkMeasure(args.sifted)))
        if args.json:
            print_json(view)
        else:
            _show((view,))
        return 0
    links = ask(args, lambda node: node.links())
    if args.json:
        print_json(LinkList(links))
    else:
        _show(links)
    return 0


def _show(links: tuple[LinkView, ...]) -> None:
    rows = [
        (
            link.name,
            f"{link.alice or link.peer} → {link.bob or link.peer}",
            "-" if link.qber < 0 else f"{link.qber:.2%}",
            str(link.sifted),
            f"{link.gain:.2e}" if not link.state else "-",
            "-" if not link.state else f"{link.key_bit_s / 1e6:.3f} Mbit/s",
            f"{link.state}: {clean(link.reason)}" if link.state and link.reason else link.state or link.verdict,
        )
        for link in links
    ]
    header = ("LINK", "ENDS", "ERRORS", "SIFTED BITS", "GAIN", "SECRET KEY", "VERDICT")
    print("\n".join(table_lines(header, rows, terminal=terminal_of()) if rows else ["no links are configured"]))
