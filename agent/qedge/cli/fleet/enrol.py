"""`qedge node`: the identity of this node, and enrolment by files where boxes and authority never meet."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.fleet.authority_desk import add_authority_arguments, folder_of, open_authority
from qedge.cli.terminal import clean

if TYPE_CHECKING:
    import msgspec

    T = TypeVar("T", bound=msgspec.Struct)

NAME: Final = "node"
SUMMARY: Final = "Show this node's identity, or enrol it by files."
_MAX_BYTES: Final = 512 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="show who this node is, and until when")
    show.add_argument("--json", action="store_true", help="print JSON")
    enrol = actions.add_parser("enrol", help="enrol by files: request on the box, accept at the authority, install")
    steps = enrol.add_subparsers(dest="step", metavar="STEP", required=True)
    request = steps.add_parser("request", help="on the box: make a key and write a signing request")
    request.add_argument("--fleet", required=True, metavar="NAME", help="fleet to join")
    request.add_argument("--name", default="", metavar="NAME", help="name of this node in it (default: its own)")
    request.add_argument("--level", type=int, choices=(3, 5), default=3, help="level of the fleet (default: 3)")
    accept = steps.add_parser("accept", help="at the authority: certify a request")
    accept.add_argument("file", metavar="FILE", help="the request")
    accept.add_argument("--replace", action="store_true", help="take the name from the box that has it")
    accept.add_argument("--broker", default="", metavar="URL", help="broker of the fleet, mqtt://HOST:PORT")
    add_authority_arguments(accept)
    install = steps.add_parser("install", help="on the box: take the membership that the authority wrote")
    install.add_argument("file", metavar="FILE", help="the membership")
    for step in (request, accept):
        step.add_argument("-o", "--output", default="", metavar="FILE", help="write here (default: standard output)")


def run(args: argparse.Namespace) -> int:
    """Do what the action and step say."""
    if args.action == "show":
        return _show(args)
    return {"request": _request, "accept": _accept, "install": _install}[args.step](args)


def _show(args: argparse.Namespace) -> int:
    view = ask(args, lambda node: node.fleet.identity())
    if args.json:
        print_json(view)
        return 0
    until = datetime.fromtimestamp(view.valid_until_utc_ns // 10**9, UTC)
    days = (view.valid_until_utc_ns - time.time_ns()) / (86_400 * 10**9)
    alone = " (standalone: a fleet of one)" if view.standalone else ""
    print(f"node       {view.node}")
    print(f"fleet      {view.fleet}{alone}")
    print(f"key        {view.key_id}  {view.algorithm}")
    print(f"pin        {view.pin}")
    print(f"valid      until {until:%Y-%m-%d}, {days:.0f} days left")
    if view.renewal:
        print(f"renewal    {clean(view.renewal)}")
    print(f"revoked    list {view.revocation_serial}" if view.revocation_serial else "revoked    no list known")
    print(f"broker     {view.broker or 'reachable from this box alone'}")
    return 0


def _request(args: argparse.Namespace) -> int:
    from qedge.client.node import NodeClient
    from qedge.wire.trust import NewIdentity, SigningRequest

    async def make(node: NodeClient) -> SigningRequest:
        name = args.name or (await node.fleet.identity()).node
        return await node.fleet.new_identity(NewIdentity(args.fleet, name, args.level))

    request = ask(args, make)
    _write(args.output, request)
    _say(f"A key for {request.node} is in the node. Carry the request to the authority: qedge node enrol accept FILE")
    return 0


def _accept(args: argparse.Namespace) -> int:
    from qedge.wire.trust import BrokerAddress, SigningRequest

    request = _read(args.file, SigningRequest)
    folder = folder_of(args)
    authority = open_authority(folder, args)
    with folder.turn(authority):
        membership = authority.certify(
            request,
            utc_ns=time.time_ns(),
            random_bytes=secrets.token_bytes,
            replace=args.replace,
            broker=BrokerAddress(args.broker) if args.broker else None,
        )
    _write(args.output, membership)
    _say(f"{request.node} is certified. Carry the membership back to the box: qedge node enrol install FILE")
    return 0


def _install(args: argparse.Namespace) -> int:
    from qedge.cli.fleet.inviting import wait_for_member
    from qedge.client.node import NodeClient
    from qedge.wire.trust import IdentityView, Membership

    membership = _read(args.file, Membership)

    async def install(node: NodeClient) -> IdentityView:
        await node.fleet.adopt(membership)
        await wait_for_member(node, membership.anchor.fleet)
        return await node.fleet.identity()

    view = ask(args, install)
    print(f"{view.node} is a member of fleet {view.fleet}.")
    return 0


def _read(file: str, kind: type[T]) -> T:
    import msgspec

    try:
        with Path(file).open("rb") as stream:
            return msgspec.json.decode(stream.read(_MAX_BYTES), type=kind)
    except OSError as error:
        raise QedgeError("client.file", f"{file} cannot be read: {error.strerror or error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QedgeError(
            "client.file", f"{file} is not what this step needs.", fix="Name the file of the step before."
        ) from error


def _write(file: str, value: msgspec.Struct) -> None:
    import msgspec

    data = msgspec.json.encode(value)
    if not file:
        sys.stdout.write(data.decode() + "\n")
        return
    try:
        Path(file).write_bytes(data)
    except OSError as error:
        raise QedgeError("client.file", f"{file} cannot be written: {error.strerror or error}.") from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
