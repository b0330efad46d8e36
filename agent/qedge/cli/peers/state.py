"""`qedge state`: look at what the nodes share, and write what operators may."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.wire.state import StateRow, StateRows

NAME: Final = "state"
SUMMARY: Final = "Look at the state that nodes share, and change what operators may."
_SHOWN: Final = 60
_WAIT_S: Final = 25.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list entries")
    get = actions.add_parser("get", help="print what stands under a key")
    put = actions.add_parser("put", help="say something under a key, for all nodes")
    delete = actions.add_parser("delete", help="delete what stands under a key, for all nodes")
    watch = actions.add_parser("watch", help="follow what changes, until Ctrl-C")
    for action in (listing, watch):
        action.add_argument("namespace", nargs="?", default="", metavar="NAMESPACE", help="only this one")
    for action in (get, put, delete):
        action.add_argument("namespace", metavar="NAMESPACE", help="where: operators write to settings and models")
        action.add_argument("key", metavar="KEY", help="letters, digits, `.`, `_` and `-`")
    put.add_argument("value", metavar="VALUE", help="text; @FILE takes the bytes of a file")
    watch.add_argument("--count", type=int, default=0, metavar="N", help="end after so many entries")
    for action in (listing, get, put, delete, watch):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "watch":
        ask(args, lambda node: _watch(node, args))
        return 0
    if args.action in ("put", "delete"):
        row = _change(args)
        if args.json:
            print_json(row)
        else:
            print("\n".join(row_lines((row,))))
        return 0
    found = ask(args, lambda node: _look(node, args))
    if args.json:
        print_json(found)
    else:
        print("\n".join(list_lines(found) if args.action == "list" else row_lines(found.rows)))
    return 0


async def _look(node: NodeClient, args: argparse.Namespace) -> StateRows:
    if args.action == "list":
        return await node.state.listing(args.namespace)
    return await node.state.get(args.namespace, args.key)


def _change(args: argparse.Namespace) -> StateRow:
    if args.action == "delete":
        return ask(args, lambda node: node.state.delete(args.namespace, args.key))
    value = _value(args.value)
    return ask(args, lambda node: node.state.put(args.namespace, args.key, value))


def _value(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    from pathlib import Path

    from qedge.base.errors import QedgeError

    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise QedgeError("client.file", f"{text[1:]} cannot be read: {error.strerror}.") from error


async def _watch(node: NodeClient, args: argparse.Namespace) -> None:
    since, left = (await node.state.listing(args.namespace)).change, args.count or -1
    while left:
        found = await node.state.changes(args.namespace, since, _WAIT_S)
        since = found.change
        for row in sorted(found.rows, key=lambda each: each.change):
            if args.json:
                print_json(row)
            else:
                print("\n".join(row_lines((row,))), flush=True)
            left -= 1
            if not left:
                return


def list_lines(found: StateRows) -> list[str]:
    """Draw entries as a table, with the digests by which two nodes can be compared."""
    rows = [(row.namespace, row.key, row.writer, at(row.utc_ns), shown(row)) for row in found.rows]
    header = ("NAMESPACE", "KEY", "WRITER", "WRITTEN (UTC)", "VALUE")
    lines = table_lines(header, rows, terminal=terminal_of()) if rows else ["nothing is held"]
    return [*lines, f"site {found.root_site[:12]}, fleet {found.root_fleet[:12]}: equal on nodes that hold the same"]


def row_lines(rows: tuple[StateRow, ...]) -> list[str]:
    """Describe entries, a line each."""
    return [f"{row.namespace} {row.key}  {row.writer}  {at(row.utc_ns)}  {shown(row)}" for row in rows]


def shown(row: StateRow) -> str:
    """Write a value for a terminal: text as it is, anything else as its size."""
    if row.deleted:
        return "(deleted)"
    if row.serial:
        return f"serial {row.serial}"
    try:
        text = row.value.decode()
    except UnicodeDecodeError:
        return f"({len(row.value)} bytes)"
    if not text.isprintable():
        return f"({len(row.value)} bytes)"
    return clean(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…") or "-"


def at(utc_ns: int) -> str:
    """Write a time for a terminal."""
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
