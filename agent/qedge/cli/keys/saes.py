"""`qedge keys sae` and `qedge keys authority`: applications, their permissions and their certificates."""

from __future__ import annotations

import argparse
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.fleet.authority_desk import add_authority_arguments, folder_of, read_passphrase
from qedge.cli.terminal import table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.crypto.web_files import WebFolder
    from qedge.wire.delivery import SaeView


def add_arguments(actions: Any) -> None:  # what argparse's add_subparsers returns has no public name
    """Declare both commands."""
    sae = actions.add_parser("sae", help="applications that get keys")
    todo = sae.add_subparsers(dest="sae_action", metavar="ACTION", required=True)
    listing = todo.add_parser("list", help="list them")
    add = todo.add_parser("add", help="add one, or change one that was added")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--id", default="", help="SAE id in its certificate (default: its name)")
    add.add_argument("--node", default="", help="node that it is attached to (default: this one)")
    add.add_argument("--permit", action="append", default=[], metavar="NAME", help="may ask keys with NAME, * for all")
    add.add_argument("--max-keys-per-request", type=int, default=0, metavar="N", help="0: as the node")
    add.add_argument("--max-keys-per-s", type=float, default=0.0, metavar="N", help="0: no limit")
    permit = todo.add_parser("permit", help="let one ask keys with others")
    permit.add_argument("name", metavar="NAME")
    permit.add_argument("slaves", nargs="+", metavar="OTHER", help="names, or * for all")
    permit.add_argument("--withdraw", action="store_true", help="no more")
    remove = todo.add_parser("remove", help="remove one that was added, and revoke its certificates")
    revoke = todo.add_parser("revoke", help="revoke all its certificates")
    issue = todo.add_parser("issue", help="make key and certificate for one")
    for action in (remove, revoke, issue):
        action.add_argument("name", metavar="NAME")
    issue.add_argument("--out", required=True, metavar="DIR", help="folder for NAME.key, NAME.crt and ca.crt")
    for action in (listing, add, permit, remove, revoke):
        action.add_argument("--json", action="store_true", help="print JSON")
    _add_authority(actions)


def _add_authority(actions: Any) -> None:  # as above
    authority = actions.add_parser("authority", help="one web authority for a whole fleet, on the operator's machine")
    todo = authority.add_subparsers(dest="authority_action", metavar="ACTION", required=True)
    init = todo.add_parser("init", help="found it beside the fleet's authority")
    kme = todo.add_parser("kme", help="make key and certificate for a node's interface")
    kme.add_argument("name", metavar="KME_ID", help="KME id: the node's name unless qkd.delivery.kme_ids says other")
    kme.add_argument("--host", action="append", required=True, metavar="NAME", help="DNS name or address (again)")
    sae = todo.add_parser("sae", help="make key and certificate for an application")
    sae.add_argument("name", metavar="SAE_ID")
    revoke = todo.add_parser("revoke", help="revoke all certificates of an application")
    revoke.add_argument("name", metavar="SAE_ID")
    for action in (kme, sae, revoke):
        action.add_argument("--out", required=True, metavar="DIR", help="folder for what is made")
    for action in (init, kme, sae, revoke):
        add_authority_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Do what `sae_action` says."""
    from qedge.wire.delivery import SaeChange, SaePermit

    if args.sae_action == "issue":
        return _issue(args)
    if args.sae_action in ("remove", "revoke"):
        revoking = args.sae_action == "revoke"
        done = ask(args, lambda node: (node.keys.revoke if revoking else node.keys.remove_sae)(args.name))
        if args.json:
            print_json(done)
        else:
            print(f"{args.name}: {'removed, ' if not revoking else ''}{done.number} certificates revoked")
        return 0
    views: tuple[SaeView, ...]
    if args.sae_action == "add":
        change = SaeChange(args.id, args.node, tuple(args.permit), args.max_keys_per_request, args.max_keys_per_s)
        views = (ask(args, lambda node: node.keys.put_sae(args.name, change)),)
    elif args.sae_action == "permit":
        wanted = SaePermit(tuple(args.slaves), args.withdraw)
        views = (ask(args, lambda node: node.keys.permit(args.name, wanted)),)
    else:
        views = ask(args, lambda node: node.keys.saes())
    if args.json:
        for view in views:
            print_json(view)
    else:
        _show(views)
    return 0


def run_authority(args: argparse.Namespace) -> int:
    """Do what `authority_action` says; no daemon is asked."""
    from qedge.crypto.web_authority import make_request, new_key
    from qedge.crypto.web_files import WebFolder, write_file
    from qedge.qkd.delivery.registry import uri_of

    folder = WebFolder(folder_of(args).path / "web")
    if args.authority_action == "init":
        folder.found(
            folder.path.parent.name,
            utc_ns=time.time_ns(),
            random_bytes=secrets.token_bytes,
            passphrase=read_passphrase(args, new=True),
        )
        print(f"The web authority is in {folder.path}; applications trust {folder.authority_file}.")
        return 0
    if not folder.exists:
        raise QedgeError(
            "fleet.none", f"There is no web authority in {folder.path}.", fix="`qedge keys authority init`"
        )
    authority = folder.open(read_passphrase(args) if folder.is_sealed else "")
    out, utc_ns, uri = _folder(args.out), time.time_ns(), uri_of(args.name)
    if args.authority_action == "revoke":
        number = authority.revoke(uri, utc_ns=utc_ns)
        folder.keep(authority, utc_ns=utc_ns, revoked=True)
        _publish(folder, out)
        print(f"{number} certificates revoked; copy {out / 'revoked.pem'} to every node (qkd.delivery.revocations).")
        return 0
    if args.authority_action == "kme":
        made = authority.issue_server(uri, args.host, utc_ns=utc_ns, random_bytes=secrets.token_bytes)
        key, certificate = made.key, made.certificate
    else:
        key = new_key(secrets.token_bytes)
        certificate = authority.issue_client(
            make_request(key, uri), uri, utc_ns=utc_ns, random_bytes=secrets.token_bytes
        )
    folder.keep(authority, utc_ns=utc_ns)
    stem = _stem(args.name)
    write_file(out / f"{stem}.key", key.encode(), 0o600)
    write_file(out / f"{stem}.crt", certificate.encode(), 0o644)
    _publish(folder, out)
    print(f"{out / stem}.key, {stem}.crt, ca.crt and revoked.pem")
    return 0


def _issue(args: argparse.Namespace) -> int:
    from qedge.crypto.web_authority import make_request, new_key
    from qedge.crypto.web_files import write_file

    out, stem = _folder(args.out), _stem(args.name)
    key = new_key(secrets.token_bytes)
    made = ask(args, lambda node: node.keys.certify(args.name, make_request(key, stem)))
    write_file(out / f"{stem}.key", key.encode(), 0o600)
    write_file(out / f"{stem}.crt", made.certificate.encode(), 0o644)
    write_file(out / "ca.crt", made.authority.encode(), 0o644)
    print(f"{out / stem}.key, {stem}.crt and ca.crt: {made.sae_id} at KME {made.kme_id}, {made.url or 'not listening'}")
    return 0


def _publish(folder: WebFolder, out: Path) -> None:
    from qedge.crypto.web_files import write_file

    write_file(out / "ca.crt", folder.authority_file.read_bytes(), 0o644)
    write_file(out / "revoked.pem", folder.revocations_file.read_bytes(), 0o644)


def _folder(path: str) -> Path:
    try:
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise QedgeError(
            "client.file", f"{path} cannot be made: {error.strerror}.", fix="Name another --out."
        ) from error
    if not os.access(path, os.W_OK):
        raise QedgeError("client.file", f"{path} cannot be written.", fix="Name another --out.")
    return Path(path)


def _stem(name: str) -> str:
    """Make a file name of an id."""
    return "".join(each if each.isascii() and (each.isalnum() or each in "-_.") else "_" for each in name).lstrip(".")


def _show(views: tuple[SaeView, ...]) -> None:
    rows = [
        (
            view.name,
            view.id,
            view.node + ("" if view.local else " (peer)"),
            ", ".join(view.permit) or "-",
            str(view.certificates) if view.local else "-",
            "configuration" if view.configured else "command",
        )
        for view in views
    ]
    header = ("NAME", "SAE ID", "NODE", "MAY ASK KEYS WITH", "CERTIFICATES", "FROM")
    print("\n".join(table_lines(header, rows, terminal=terminal_of()) if rows else ["no applications"]))
