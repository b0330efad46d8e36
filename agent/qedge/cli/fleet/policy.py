"""`qedge fleet policy`: the authority signs a policy, and a node of the fleet tells the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.fleet.authority_desk import folder_of, open_authority
from qedge.cli.reading import read_file
from qedge.cli.security.policy import view_lines

if TYPE_CHECKING:
    import argparse

_DAY_NS: Final = 86_400 * 1_000_000_000
_MAX_DAYS: Final = 3660


def sign(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Sign the policy in a file under the next serial, and hand it out."""
    from qedge.security.policy.document import MAX_DOCUMENT_BYTES, parse_document

    if not 1 <= args.days <= _MAX_DAYS:
        raise QedgeError("client.usage", f"--days has to be 1 to {_MAX_DAYS}.", fix="See `qedge fleet policy --help`.")
    text = read_file(args.file, MAX_DOCUMENT_BYTES + 1)
    parse_document(text, args.file)  # one with faults is never signed
    folder = folder_of(args)
    authority = open_authority(folder, args)
    now_ns = time.time_ns()
    with folder.turn(authority):
        signed = authority.sign_policy(text, utc_ns=now_ns, expires_utc_ns=now_ns + args.days * _DAY_NS)
    serial = authority.ledger.policy_serial
    if args.out:
        _write(Path(args.out), signed)
        if args.json:
            print_json({"serial": serial, "file": args.out})
        else:
            print(f"policy {serial} is in {args.out}")
        say(f"Next: `qedge policy take {args.out}` where a node of the fleet runs.")
        return 0
    try:
        view = ask(args, lambda node: node.policy.take(signed))
    except QedgeError as error:
        say(f"Policy {serial} is signed, but no node took it: {error}")
        say("Run the command again where a node of the fleet runs; it takes the next serial.")
        raise
    if args.json:
        print_json(view)
    else:
        print("\n".join(view_lines(view)))
    return 0


def _write(path: Path, signed: bytes) -> None:
    try:
        path.write_bytes(signed)
    except OSError as error:
        raise QedgeError(
            "client.file", f"{path} cannot be written: {error.strerror or error}.", fix="Name another file with --out."
        ) from error
