"""`qedge operator`: who may order the nodes of a fleet to do something. The authority certifies, lists and revokes."""

from __future__ import annotations

import argparse
import secrets
import time
from pathlib import Path
from typing import Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.fleet.authority_desk import add_authority_arguments, folder_of, open_authority, read_new_passphrase
from qedge.cli.fleet.fleet import say
from qedge.cli.terminal import clean, table_lines, terminal_of

NAME: Final = "operator"
SUMMARY: Final = "Certify the people who may order nodes of the fleet to do something."
_DAY_NS: Final = 86_400 * 1_000_000_000
_ROLES: Final = ("viewer", "operator", "security")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser("new", help="make a key and a certificate for an operator")
    new.add_argument("name", metavar="NAME", help="name of the operator")
    new.add_argument("--role", action="append", choices=_ROLES, default=[], help="what it may order; several times")
    new.add_argument("--days", type=int, default=365, metavar="N", help="life of the certificate (default: 365)")
    new.add_argument("--out", default="", metavar="FILE", help="the operator's file (default: NAME.operator)")
    new.add_argument("--replace", action="store_true", help="revoke the operator of that name first")
    new.add_argument(
        "--operator-passphrase-file", default="", metavar="FILE", help="read the passphrase of the operator's file"
    )
    listing = actions.add_parser("list", help="list the operators that the authority certified")
    revoke = actions.add_parser("revoke", help="make an operator's key count no more, at once and for ever")
    revoke.add_argument("name", metavar="NAME", help="name of the operator")
    revoke.add_argument("--reason", default="", metavar="TEXT", help="why, for the list")
    for action in (new, listing, revoke):
        add_authority_arguments(action)
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    return {"new": _new, "list": _list, "revoke": _revoke}[args.action](args)


def _new(args: argparse.Namespace) -> int:
    from qedge.crypto.operator_files import OperatorIdentity, write_operator
    from qedge.crypto.operators import enrol_operator
    from qedge.wire.commands import OperatorRole

    if not 1 <= args.days <= 3660:
        raise QedgeError("client.usage", "--days has to be 1 to 3660.", fix="See `qedge operator new --help`.")
    path = Path(args.out or f"{args.name}.operator")
    if path.exists():
        raise QedgeError("fleet.exists", f"{path} is there already.", fix="Name another file with --out.")
    may = [OperatorRole(each) for each in args.role or ("viewer", "operator")]
    folder = folder_of(args)
    authority = open_authority(folder, args)
    now_ns = time.time_ns()
    passphrase = read_new_passphrase(args.operator_passphrase_file, f"New passphrase of {args.name}'s file: ")
    with folder.turn(authority):
        key, chain = enrol_operator(
            authority,
            args.name,
            may,
            utc_ns=now_ns,
            random_bytes=secrets.token_bytes,
            days=args.days,
            replace=args.replace,
        )
    identity = OperatorIdentity(authority.fleet, args.name, key.algorithm, key.seed, chain, authority.ledger.anchor)
    write_operator(path, identity, passphrase, secrets.token_bytes)
    if args.json:
        print_json({"operator": args.name, "roles": may, "key_id": key.key_id, "file": str(path)})
    else:
        print(f"{clean(args.name)} may order as {', '.join(may)}; the key is in {path}, sealed by its passphrase.")
    return 0


def _list(args: argparse.Namespace) -> int:
    from qedge.crypto.authority import newest
    from qedge.crypto.model import Role

    operators = newest(folder_of(args).ledger(), Role.OPERATOR)
    if args.json:
        print_json({"operators": operators})
        return 0
    now_ns, rows = time.time_ns(), []
    for entry in operators:
        left = (entry.until_utc_ns - now_ns) / _DAY_NS
        state = f"{left:.0f} days left" if left >= 0 else "expired"
        if entry.revoked_utc_ns:
            state = f"revoked {entry.reason}".strip()
        rows.append((clean(entry.node), " ".join(entry.may), clean(state), entry.key_id))
    lines = table_lines(("OPERATOR", "ROLES", "CERTIFICATE", "KEY"), rows, terminal=terminal_of())
    print("\n".join(lines) if rows else "no operators")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    from qedge.crypto.model import Role

    folder = folder_of(args)
    authority = open_authority(folder, args)
    with folder.turn(authority):
        signed = authority.revoke(args.name, args.reason, time.time_ns(), role=Role.OPERATOR)
    serial = authority.ledger.revocation_serial
    try:
        _hand_over(args, signed)
    except QedgeError as error:
        say(f"The list is in the authority's folder, but no node took it: {error}")
        say("Run the command again where a node of the fleet runs; it is safe to repeat.")
        raise
    if args.json:
        print_json({"operator": args.name, "serial": serial})
    else:
        print(f"{clean(args.name)} is revoked; the fleet has list {serial}.")
    return 0


def _hand_over(args: argparse.Namespace, signed: bytes) -> None:
    ask(args, lambda node: node.fleet.revoke(signed))
