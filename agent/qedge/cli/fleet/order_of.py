"""From words of a command line to the arguments of a command."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli import reading

if TYPE_CHECKING:
    import argparse

_MAX_FILE_BYTES: Final = 192 * 1024


def add_order_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of a command, and how long it is good."""
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="arguments of the kind; KEY=@FILE reads a file")
    parser.add_argument("--arguments", default="", metavar="FILE", help="arguments as a file, .json or .toml")
    parser.add_argument("--expires", type=float, default=3600.0, metavar="S", help="good for S seconds (default: 3600)")
    parser.add_argument("--limit", type=float, default=0.0, metavar="S", help="time limit once begun (default: kind's)")
    parser.add_argument("--note", default="", metavar="TEXT", help="why; it stands in the request and in the trail")


def arguments_of(args: argparse.Namespace, kind: str = "") -> bytes:
    """Return the encoded arguments that the command line gives; raises `fleet.bad_arguments`, `client.file`."""
    from qedge.client.fleet_tool.kinds import encode_arguments

    table: Mapping[str, object] | None = None
    if args.arguments:
        data = read_file(args.arguments)
        try:
            loads = tomllib.loads if args.arguments.endswith(".toml") else json.loads
            table = loads(data.decode())
        except (ValueError, UnicodeDecodeError) as error:
            raise QedgeError(
                "client.data", f"{args.arguments} cannot be read: {error}.", fix="JSON or TOML."
            ) from error
        if not isinstance(table, dict):
            raise QedgeError("client.data", f"{args.arguments} holds no table.", fix="KEY: VALUE each.")
    return encode_arguments(kind or args.kind, args.words, read_file, table)


def read_file(name: str) -> bytes:
    """Read a file that a command line names; raises `client.file`."""
    data = reading.read_file(name, _MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise QedgeError("client.data", f"{name} is larger than {_MAX_FILE_BYTES} bytes.", fix="Send a link to it.")
    return data
