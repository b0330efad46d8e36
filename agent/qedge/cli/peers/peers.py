"""`qedge peers`: who is in the fleet, as this node sees it."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import Terminal, clean, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.wire.mesh import PeerList, PeerView

NAME: Final = "peers"
SUMMARY: Final = "List the nodes of the fleet as this one sees them."
_INTERVAL_S: Final = 1.0
_DAY_NS: Final = 86_400 * 1_000_000_000
_COLUMNS: Final = ("NODE", "STATE", "HEARD", "VERSION", "CAN", "LOAD", "SESSION", "POLICY", "CERTIFICATE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--watch", action="store_true", help="show it again every second until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print JSON; with --watch one line for every change")


def run(args: argparse.Namespace) -> int:
    """Print once, or again and again."""
    if args.watch:
        ask(args, lambda node: _watch(node, as_json=args.json))
        return 0
    peers = ask(args, lambda node: node.peers())
    if args.json:
        print_json(peers)
    else:
        print("\n".join(lines(peers, terminal_of())))
    return 0


async def _watch(node: NodeClient, *, as_json: bool) -> None:
    told: object = None
    while True:
        try:
            peers = await node.peers()
        except QedgeError as error:
            if error.code not in ("client.no_daemon", "client.timeout"):
                raise
            await asyncio.sleep(_INTERVAL_S)
            continue
        facts = [
            (peer.node, peer.state, peer.epoch, peer.session, peer.capabilities, peer.policy_serial)
            for peer in peers.peers
        ]
        if as_json:
            if facts != told:
                print_json(peers)
        elif sys.stdout.isatty():
            print("\x1b[H\x1b[2J" + "\n".join(lines(peers, terminal_of())), flush=True)
        elif facts != told:
            print("\n".join(lines(peers, terminal_of())) + "\n", flush=True)
        told = facts
        await asyncio.sleep(_INTERVAL_S)


def lines(peers: PeerList, terminal: Terminal) -> list[str]:
    """Draw the table."""
    alive = sum(peer.state == "alive" for peer in peers.peers)
    newest = max((peer.policy_serial for peer in peers.peers), default=0)
    rows = [_row(peer, newest) for peer in peers.peers]
    head = f"fleet {clean(peers.fleet)}: {alive} of {len(peers.peers)} alive"
    behind = [clean(peer.node) for peer in peers.peers if _is_behind(peer, newest)]
    warnings = (
        [f"warning: the fleet's newest policy, {newest}, is not in force at {', '.join(behind)}"] if behind else []
    )
    return [head, *table_lines(_COLUMNS, rows, terminal=terminal), *warnings]


def _is_behind(peer: PeerView, newest: int) -> bool:
    """Say whether a node takes devices and enforces an older policy than another one does, or none of the fleet's."""
    return peer.state.value not in ("left", "revoked") and bool(peer.devices_serial) and peer.policy_serial < newest


def _policy(peer: PeerView, newest: int) -> str:
    if not peer.devices_serial:
        return "-"
    return f"{peer.policy_serial or 'own'}{' (old)' if _is_behind(peer, newest) else ''}"


def _row(peer: PeerView, newest: int) -> tuple[str, ...]:
    kinds = sorted({each.kind for each in peer.capabilities})
    session = peer.session
    sealed = f"suite {session.suite} {session.path}" if session.state == "open" else session.state
    if session.extra_key:
        sealed += " +key"
    elif session.restricted:
        sealed += " no key: restricted"
    days = (peer.certificate_until_utc_ns - time.time_ns()) / _DAY_NS
    return (
        clean(peer.node) + (" *" if peer.own else ""),
        peer.state.value,
        "-" if peer.own or peer.heard_s < 0 else f"{peer.heard_s:.1f} s",
        clean(peer.version),
        clean(", ".join([*kinds, *peer.labels])) or "-",
        clean(_load(peer)),
        "this node" if peer.own else clean(sealed),
        _policy(peer, newest),
        f"{days:.0f} days" if peer.certificate_until_utc_ns and days < 3650 else "-",
    )


def _load(peer: PeerView) -> str:
    """Say how busy a node is: slots taken, jobs that wait, and what keeps it from taking more."""
    load = peer.load
    if load is None or not load.slots:
        return "-"
    waiting = sum(load.queued)
    text = f"{load.slots - load.free_slots}/{load.slots} busy" + (f", {waiting} wait" if waiting else "")
    if load.draining:
        text += ", draining"
    return text if load.verdict == "ok" else f"{text}, {load.verdict}: {load.reason}"
