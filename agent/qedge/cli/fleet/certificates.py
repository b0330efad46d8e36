"""`qedge fleet renew | renewer | relist | reissue`: what an authority signs again and again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.fleet.authority_desk import folder_of, open_authority, read_passphrase
from qedge.cli.terminal import clean

if TYPE_CHECKING:
    import argparse

    from qedge.crypto.authority import Authority
    from qedge.crypto.authority_files import AuthorityFolder

Say = Callable[[str], None]
Outcome = tuple[list[str], dict[str, str]]


def renew(args: argparse.Namespace, say: Say) -> int:
    """Renew members; with `--every` again and again, so that nobody has to think of it."""
    folder = folder_of(args)
    authority = open_authority(folder, args)
    while True:
        try:
            done, failed = asyncio.run(_renew_all(args, authority, folder))
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
    with folder.turn(authority):
        signed = authority.relist(time.time_ns())
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


def renewer(args: argparse.Namespace, say: Say) -> int:
    """Answer nodes that ask by themselves; a service does this, so that nobody has to think of it."""
    import secrets
    from random import SystemRandom

    from qedge.base.log import LogConfig, configure
    from qedge.base.system_clock import SystemClock
    from qedge.base.systemd import Notifier
    from qedge.cli.fleet.operator_desk import broker_of
    from qedge.client.fleet_tool.operator_folder import OperatorFolder
    from qedge.client.fleet_tool.renewer import Renewer

    configure(LogConfig(level="error"))
    folder = folder_of(args)

    def tell(node: str, words: str) -> None:
        if args.json:
            print_json({"node": node, "outcome": words})
        else:
            print(f"{clean(node)}: {clean(words)}", flush=True)

    made = Renewer(
        folder,
        lambda: open_authority(folder, args),
        broker_of(args, OperatorFolder(folder.path)),
        clock=SystemClock(),
        random_bytes=secrets.token_bytes,
        uniform=SystemRandom().random,
        tell=tell,
    )
    say(f"Answering nodes of {made.fleet} that ask for their next certificate; Ctrl-C ends.")
    asyncio.run(made.run(lambda: Notifier(os.environ).ready(f"answers nodes of {made.fleet}")))
    return 0


def reissue(args: argparse.Namespace, say: Say) -> int:
    """Make a new issuing key; `root.sealed` has to be in the folder for it."""
    import secrets

    folder = folder_of(args)
    folder.ledger()  # where there is none, say so before asking for a passphrase
    ledger = folder.reissue(read_passphrase(args), time.time_ns(), secrets.token_bytes)
    say("Members take certificates of the new key as they are renewed. Move root.sealed away again.")
    if args.json:
        print_json({"fleet": ledger.anchor.fleet})
    else:
        print(f"fleet {ledger.anchor.fleet} has a new issuing key")
    return 0


async def _renew_all(args: argparse.Namespace, authority: Authority, folder: AuthorityFolder) -> Outcome:
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
        # This node comes last: one of an older version starts its services anew, and can hand out nothing meanwhile.
        for request in sorted(collected.requests, key=lambda each: each.node == identity.node):
            try:
                with folder.turn(authority):
                    membership = authority.certify(request, utc_ns=time.time_ns(), random_bytes=secrets.token_bytes)
                    folder.keep(request.node, membership.chain)
                await node.fleet.renew(request.node, membership)
                done.append(request.node)
            except QedgeError as error:
                failed[request.node] = str(error)
    return done, failed
