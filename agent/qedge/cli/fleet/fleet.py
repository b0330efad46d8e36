"""`qedge fleet`: found a fleet, invite boxes into it, list, revoke and renew its members, sign its policy.

The actions of the fleet tool, which command nodes at a broker, stand in `tool` and `rollout`.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.fleet.authority_desk import (
    DEFAULT_FLEET,
    add_authority_arguments,
    folder_of,
    found_fleet,
    open_authority,
)
from qedge.cli.fleet.operator_desk import add_broker_arguments
from qedge.cli.fleet.rollout import add_action as add_rollout
from qedge.cli.fleet.rollout import run as run_rollout
from qedge.cli.fleet.tool import ACTIONS as TOOL_ACTIONS
from qedge.cli.fleet.tool import add_actions
from qedge.cli.fleet.tool import run as run_tool
from qedge.cli.terminal import clean, table_lines, terminal_of

NAME: Final = "fleet"
SUMMARY: Final = "Found a fleet, invite boxes into it, look after its members, and command them."
_DAY_NS: Final = 86_400 * 1_000_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    init = actions.add_parser("init", help="found a fleet: make its authority on this machine")
    init.add_argument("--level", type=int, choices=(3, 5), default=3, help="security category of keys (default: 3)")
    init.add_argument("--days", type=int, default=90, metavar="N", help="life of a node's certificate (default: 90)")
    invite = actions.add_parser("invite", help="print a line with which a box can join, and wait until it has")
    invite.add_argument("--count", type=int, default=1, metavar="N", help="invite N boxes (default: 1)")
    invite.add_argument("--minutes", type=float, default=15.0, metavar="N", help="how long it is good (default: 15)")
    invite.add_argument("--replace", action="store_true", help="let a box take the name of another, which is revoked")
    invite.add_argument("--this-box", action="store_true", help="invite other nodes of this box only")
    listing = actions.add_parser("list", help="list the members that the authority certified")
    revoke = actions.add_parser("revoke", help="make a member's key count no more, at once and for ever")
    revoke.add_argument("node", metavar="NODE", help="name of the member")
    revoke.add_argument("--reason", default="", metavar="TEXT", help="why, for the list")
    renew = actions.add_parser("renew", help="give all members that are there a new certificate")
    renew.add_argument("--due", action="store_true", help="only those with two thirds of their certificate's life over")
    renew.add_argument("--every", type=float, default=0.0, metavar="S", help="do it every S seconds until Ctrl-C")
    renewer = actions.add_parser("renewer", help="answer nodes that ask for their next certificate, until Ctrl-C")
    add_broker_arguments(renewer)
    reissue = actions.add_parser("reissue", help="make a new issuing key with the root, before the present one ends")
    relist = actions.add_parser("relist", help="sign the list of revoked keys anew, so that it does not grow old")
    policy = actions.add_parser("policy", help="sign a policy for all nodes, and hand it to the node of this box")
    policy.add_argument("file", metavar="FILE", help="the policy")
    policy.add_argument("--days", type=int, default=365, metavar="N", help="how long it counts (default: 365)")
    policy.add_argument("--out", default="", metavar="PATH", help="write it to a file, for `qedge policy take`")
    for action in (init, invite, listing, revoke, renew, renewer, reissue, relist, policy):
        add_authority_arguments(action)
        action.add_argument("--json", action="store_true", help="print JSON")
    add_actions(actions)
    add_rollout(actions)


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action in TOOL_ACTIONS:
        return run_tool(args)
    if args.action == "rollout":
        return run_rollout(args)
    if args.action == "init":
        return _init(args)
    if args.action == "invite":
        from qedge.cli.fleet.inviting import invite

        return invite(args, say)
    if args.action == "list":
        return _list(args)
    if args.action == "policy":
        from qedge.cli.fleet.policy import sign

        return sign(args, say)
    if args.action == "revoke":
        return _revoke(args)
    from qedge.cli.fleet.certificates import reissue, relist, renew, renewer

    return {"relist": relist, "renew": renew, "renewer": renewer, "reissue": reissue}[args.action](args, say)


def say(line: str) -> None:
    """Tell a person something, beside what a program may read."""
    print(line, file=sys.stderr, flush=True)


def _init(args: argparse.Namespace) -> int:
    fleet = args.fleet or DEFAULT_FLEET
    if not 1 <= args.days <= 3660:
        raise QedgeError("client.usage", "--days has to be 1 to 3660.", fix="See `qedge fleet init --help`.")
    folder = folder_of(args, new=fleet)
    ledger = found_fleet(folder, fleet, args.level, args.days, args, say)
    if args.json:
        print_json({"fleet": fleet, "folder": str(folder.path), "level": ledger.level, "pin": _pin(ledger.anchor)})
    else:
        print(f"fleet {fleet}, level {ledger.level}, pin {_pin(ledger.anchor)}")
    say("Next: `qedge fleet invite` on a box whose node runs.")
    return 0


def _pin(anchor: object) -> str:
    from qedge.crypto.trust import pin
    from qedge.wire.trust import Anchor

    return pin(anchor).hex() if isinstance(anchor, Anchor) else ""


def _list(args: argparse.Namespace) -> int:
    from qedge.crypto.authority import newest

    ledger = folder_of(args).ledger()
    members = newest(ledger)
    if args.json:
        print_json({"fleet": ledger.anchor.fleet, "pin": _pin(ledger.anchor), "members": members})
        return 0
    now_ns = time.time_ns()
    rows = []
    for entry in members:
        left = (entry.until_utc_ns - now_ns) / _DAY_NS
        state = f"{left:.0f} days left" if left >= 0 else "expired"
        if entry.revoked_utc_ns:
            state = f"revoked {entry.reason}".strip()
        rows.append((clean(entry.node), clean(state), entry.key_id))
    print(f"fleet {ledger.anchor.fleet}, level {ledger.level}, pin {_pin(ledger.anchor)}")
    lines = table_lines(("NODE", "CERTIFICATE", "KEY"), rows, terminal=terminal_of())
    print("\n".join(lines) if rows else "no members")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    folder = folder_of(args)
    authority = open_authority(folder, args)
    with folder.turn(authority):
        signed = authority.revoke(args.node, args.reason, time.time_ns())
    serial = authority.ledger.revocation_serial
    try:
        ask(args, lambda node: node.fleet.revoke(signed))
    except QedgeError as error:
        say(f"The list is in the authority's folder, but no node took it: {error}")
        say("Run the command again where a node of the fleet runs; it is safe to repeat.")
        raise
    if args.json:
        print_json({"node": args.node, "serial": serial})
    else:
        print(f"{clean(args.node)} is revoked; the fleet has list {serial}.")
    return 0
