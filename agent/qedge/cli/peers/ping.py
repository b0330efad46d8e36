"""`qedge ping`: measure the way to a node of the fleet."""

from __future__ import annotations

import argparse
import statistics
from typing import Final

from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import clean

NAME: Final = "ping"
SUMMARY: Final = "Measure round-trip times and throughput to a node of the fleet."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("node", nargs="?", default="", metavar="NODE", help="name of the node (default: this one)")
    parser.add_argument("--count", type=int, default=5, metavar="N", help="how often (default: 5)")
    parser.add_argument("--size", type=int, default=0, metavar="BYTES", help="bytes with each question (default: 0)")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="questions under way at once (default: 1)")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="longest wait for one answer")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Ping and print."""
    from qedge.client.node import NodeClient
    from qedge.wire.node import PingRequest, PingView

    async def ping(node: NodeClient) -> PingView:
        name = args.node or (await node.status()).node
        return await node.ping(PingRequest(name, args.count, args.timeout, args.size, args.parallel))

    view = ask(args, ping)
    if args.json:
        print_json(view)
        return 0
    over = f" over {clean(view.path)}" if view.path else ""
    for rtt_ms in view.rtt_ms:
        print(f"{clean(view.node)}: {rtt_ms:.2f} ms{over}")
    if len(view.rtt_ms) > 1:
        print(
            f"fastest {min(view.rtt_ms):.2f} ms, median {statistics.median(view.rtt_ms):.2f} ms, "
            f"slowest {max(view.rtt_ms):.2f} ms"
        )
    if view.size_bytes and view.elapsed_s > 0:
        sent_mbit = len(view.rtt_ms) * view.size_bytes * 8 / 1e6
        print(f"{sent_mbit / view.elapsed_s:.1f} Mbit/s to {clean(view.node)}")
    return 0
