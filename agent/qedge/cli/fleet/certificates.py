"""`qedge fleet renew` and `qedge fleet relist`: what an authority signs again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.fleet.authority_desk import folder_of, open_authority
from qedge.cli.terminal import clean

if TYPE_CHECKING:
    import argparse

    from qedge.crypto.authority import Authority, Ledger

Say = Callable[[str], None]
Outcome = tuple[list[str], dict[str, str]]


def renew(args: argparse.Namespace, say: Say) -> int:
    """Renew members; with `--every` again and again, so that nobody has to think of it."""
    folder = folder_of(args)
    authority = open_authority(folder, args)
    while True:
        try:
            done, failed = asyncio.run(_renew_all(args, authority, folder.save))
        except QedgeError as error:
            if not args.every or error.code == "fleet.not_member":
                raise
            done, failed = [], {"": str(error)}  # the node of this box is away for a while
        if args.json:
            print_json({"renewed": done, "failed": failed})
        elif done or failed or not args.every:
            print(f"renewed: {', '.join(done) or 'nobody'}", flush=True)
            for name, why in failed.items():
                print(f"not renewed: {clean(name) or 'anybody'} ({clean(why)})", flush=True)
        if not args.every:
            return 1 if failed else 0
        time.sleep(args.every)


def relist(args: argparse.Namespace, say: Say) -> int:
    """Sign the list of revoked keys anew, so that it does not grow old, and hand it out."""
    folder = folder_of(args)
    authority = open_authority(folder, args)
    signed = authority.relist(time.time_ns())
    folder.save(authority.ledger)
    serial = authority.ledger.revocation_serial
    try:
        ask(args, lambda node: node.fleet.revoke(signed))
    except QedgeError as error:
        say(f"The list is signed, but no node took it: {error}")
        say("Run the command again where a node of the fleet runs; it is safe to repeat.")
        raise
    if args.json:
        print_json({"serial": serial})
    else:
        print(f"the fleet has list {serial}")
    return 0


async def _renew_all(args: argparse.Namespace, authority: Authority, save: Callable[[Ledger], None]) -> Outcome:
    import secrets

    from qedge.client.node import NodeClient

    done: list[str] = []
    failed: dict[str, str] = {}
    async with NodeClient(args.socket) as node:
        identity = await node.fleet.identity()
        if identity.fleet != authority.fleet or identity.standalone:
            raise QedgeError(
                "fleet.not_member",
                f"The node of this box is not in fleet {authority.fleet}.",
                fix="Run the command on a member.",
            )
        collected = await node.fleet.renewals(due_only=args.due)
        failed |= dict.fromkeys(collected.absent, "it did not answer")
        # This node comes last: its services start anew, and then it can hand out nothing for a while.
        for request in sorted(collected.requests, key=lambda each: each.node == identity.node):
            try:
                membership = authority.certify(request, utc_ns=time.time_ns(), random_bytes=secrets.token_bytes)
                save(authority.ledger)
                await node.fleet.renew(request.node, membership)
                done.append(request.node)
            except QedgeError as error:
                failed[request.node] = str(error)
    return done, failed
