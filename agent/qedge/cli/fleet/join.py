"""`qedge join`: make this box a member of a fleet, with the line that `qedge fleet invite` printed elsewhere."""

from __future__ import annotations

import argparse
import getpass
import sys
import time
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.wire.mesh import PeerList
    from qedge.wire.trust import IdentityView

NAME: Final = "join"
SUMMARY: Final = "Make this box a member of a fleet, with an invitation."
_MAX_LINE: Final = 4096
_PEER_LIMIT_S: Final = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "invitation", nargs="?", default="-", metavar="LINE", help="the line; none or -: read standard input (safer)"
    )
    parser.add_argument("--name", default="", metavar="NAME", help="name of this node in the fleet (default: its own)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Join, and wait until the node sees its fleet."""
    from qedge.crypto.joining import read_invitation
    from qedge.wire.trust import JoinCommand

    line = _read_line(args.invitation)
    invitation = read_invitation(line)

    async def join(node: NodeClient) -> tuple[IdentityView, PeerList]:
        from qedge.cli.fleet.inviting import wait_for_member

        before = await node.fleet.identity()
        if not before.standalone:
            raise QedgeError(
                "fleet.exists",
                f"This node belongs to fleet {before.fleet} already, as {before.node}.",
                fix="A node is in one fleet; give another state folder to a second one.",
            )
        _say(f"Asking {invitation.inviter} at {invitation.broker.url} ...")
        await node.fleet.join(JoinCommand(line, args.name))
        _say(f"Accepted by fleet {invitation.fleet}; starting anew as a member ...")
        await wait_for_member(node, invitation.fleet)
        return await node.fleet.identity(), await _meet(node, invitation.inviter)

    identity, peers = ask(args, join)
    alive = [peer.node for peer in peers.peers if peer.state == "alive" and not peer.own]
    if args.json:
        print_json({"fleet": identity.fleet, "node": identity.node, "pin": identity.pin, "peers": alive})
    else:
        print(f"{identity.node} is a member of fleet {identity.fleet}; it sees {', '.join(alive) or 'nobody yet'}.")
    return 0


async def _meet(node: NodeClient, inviter: str) -> PeerList:
    """Wait until the inviting node is seen alive; a broker may take its time, so its absence is no error."""
    import asyncio

    deadline = time.monotonic() + _PEER_LIMIT_S
    while True:
        peers = await node.peers()
        seen = any(peer.node == inviter and peer.state == "alive" for peer in peers.peers)
        if seen or time.monotonic() > deadline:
            return peers
        await asyncio.sleep(0.1)


def _read_line(argument: str) -> str:
    if argument != "-":
        return argument
    if sys.stdin.isatty():
        return getpass.getpass("Paste the invitation (it is not shown): ")
    return sys.stdin.readline(_MAX_LINE).strip()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
