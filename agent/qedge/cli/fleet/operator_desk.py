"""What the commands of a fleet tool share: the operator's folder and key, the broker, the selection."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError

if TYPE_CHECKING:
    import argparse

    from qedge.bus.config import BusConfig
    from qedge.client.fleet_tool.model import FleetNode
    from qedge.client.fleet_tool.operator_folder import OperatorFolder
    from qedge.client.fleet_tool.tool import FleetTool

_BROKER_KEYS: Final = ("url", "username", "password_file", "ca_file", "cert_file", "key_file")
_PAUSE_S: Final = 2.0


def add_operator_arguments(parser: argparse.ArgumentParser, *, broker: bool = True) -> None:
    """Declare who one is, and where the fleet's broker is."""
    parser.add_argument("--fleet", default="", metavar="NAME", help="name of the fleet (default: the only one here)")
    parser.add_argument("--operator", default="", metavar="NAME", help="who you are (default: the only operator here)")
    parser.add_argument("--operator-folder", default="", metavar="PATH", help="folder of the operator's key and trail")
    parser.add_argument("--json", action="store_true", help="print JSON")
    if not broker:
        return
    parser.add_argument("--passphrase-file", default="", metavar="FILE", help="passphrase of the key, in a first line")
    add_broker_arguments(parser)


def add_broker_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where the fleet's broker is and how to be let in."""
    parser.add_argument("--broker", default="", metavar="URL", help="mqtt://HOST:PORT or mqtts://… (or broker.toml)")
    parser.add_argument("--username", default="", metavar="NAME", help="user name at the broker")
    parser.add_argument("--password-file", default="", metavar="FILE", help="password at the broker, in a first line")
    parser.add_argument("--ca-file", default="", metavar="FILE", help="certificates that may sign the broker's")
    parser.add_argument("--cert-file", default="", metavar="FILE", help="certificate to show to the broker")
    parser.add_argument("--key-file", default="", metavar="FILE", help="key of that certificate")


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which nodes are meant."""
    parser.add_argument("--node", action="append", default=[], metavar="NAME", help="a node by its name; several times")
    parser.add_argument("--to", default="", metavar="EXPR", help="nodes by an expression: label=edge and version<1.3")


def operators_folder() -> Path:
    """Return where this user's operators are (XDG data folder)."""
    data = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data) if data.startswith("/") else Path(os.path.expanduser("~")) / ".local" / "share"
    return base / "qedge" / "operators"


def operator_folder(args: argparse.Namespace) -> OperatorFolder:
    """Find the folder that the arguments mean; raises `client.usage` where there is none, or several."""
    from qedge.client.fleet_tool.operator_folder import KEY, OperatorFolder

    named = args.operator_folder or os.environ.get("QEDGE_OPERATOR_FOLDER", "")
    if named:
        return OperatorFolder(Path(named))
    pattern = f"{_name(args.fleet)}/{_name(args.operator)}/{KEY}"
    found = sorted(path.parent for path in operators_folder().glob(pattern))
    if not found:
        raise QedgeError(
            "client.usage",
            f"There is no operator's key in {operators_folder()}.",
            fix="Give --operator-folder, or set QEDGE_OPERATOR_FOLDER; `qedge operator new` makes a key.",
        )
    if len(found) > 1:
        names = ", ".join(f"{path.name} of {path.parent.name}" for path in found)
        raise QedgeError("client.usage", f"There are several operators: {names}.", fix="Give --fleet and --operator.")
    return OperatorFolder(found[0])


def open_tool(args: argparse.Namespace) -> FleetTool:
    """Open the operator's key and make the tool, which is not connected yet."""
    from qedge.base.log import LogConfig, configure
    from qedge.base.system_clock import SystemClock
    from qedge.cli.fleet.authority_desk import read_passphrase
    from qedge.client.fleet_tool.tool import FleetTool
    from qedge.crypto.operator_files import read_operator

    configure(LogConfig(level="error"))
    folder = operator_folder(args)
    config = broker_of(args, folder)
    path = folder.key_path()
    args.passphrase_file = args.passphrase_file or os.environ.get("QEDGE_OPERATOR_PASSPHRASE_FILE", "")
    identity = read_operator(path, read_passphrase(args))
    return FleetTool(
        folder,
        identity,
        config,
        clock=SystemClock(),
        random_bytes=secrets.token_bytes,
        uniform=SystemRandom().random,
    )


async def select(tool: FleetTool, args: argparse.Namespace) -> tuple[FleetNode, ...]:
    """Return the nodes that `--node` and `--to` mean; raises `client.usage`, `fleet.nobody`.

    A node that is named and unknown is believed to be there later: its request waits for it.
    """
    from qedge.client.fleet_tool.model import FleetNode, NodeStanding
    from qedge.client.fleet_tool.selecting import parse_selection

    if not args.node and not args.to:
        raise QedgeError("client.usage", "No nodes are named.", fix="Give --node NAME or --to EXPR; `--to all` is all.")
    selection = parse_selection(args.to) if args.to else None
    nodes = await tool.nodes()
    known = {node.name: node for node in nodes}
    picked = {node.name: node for node in (selection.pick(nodes) if selection is not None else ())}
    for name in args.node:
        picked.setdefault(name, known.get(name) or FleetNode(_name(name), NodeStanding.LOST))
    if not picked:
        raise QedgeError(
            "fleet.nobody",
            f"None of the {len(nodes)} nodes at the broker is meant by {args.to!r}.",
            fix="`qedge fleet inventory` shows what nodes say of themselves.",
        )
    return tuple(picked[name] for name in sorted(picked))


def deadline(wait_s: float) -> float:
    """Return until when to wait, on the clock of `time.monotonic`."""
    return time.monotonic() + wait_s


def broker_of(args: argparse.Namespace, folder: OperatorFolder) -> BusConfig:
    """Return what `broker.toml` of a folder says, and arguments before it; raises `client.usage`."""
    import msgspec

    from qedge.bus.config import BusConfig

    base = folder.broker() or BusConfig()
    given = {
        "url": args.broker,
        "username": args.username,
        "password_file": args.password_file,
        "ca_file": args.ca_file,
        "cert_file": args.cert_file,
        "key_file": args.key_file,
    }
    values = {**msgspec.structs.asdict(base), **{key: value for key, value in given.items() if value}}
    # A tool takes nothing up where an earlier one ended, and comes back sooner than a node does.
    values |= {"session_expiry_s": 0, "reconnect_cap_s": min(base.reconnect_cap_s, _PAUSE_S)}
    try:
        return msgspec.convert(values, BusConfig)
    except msgspec.ValidationError as error:
        raise QedgeError(
            "client.usage", f"The broker cannot be used: {error}.", fix="Give --broker mqtt://HOST:PORT"
        ) from error


def _name(text: str) -> str:
    from qedge.base.ids import is_name

    if text and not is_name(text):
        raise QedgeError("client.usage", f"{text!r} is no name.", fix="Names have letters, digits, - and _.")
    return text or "*"
