"""Entry point of the `qedge` command: one module per command, each loaded only when it is asked for.

A command module has `NAME`, `SUMMARY`, `add_arguments(parser)` and `run(args) -> exit code`, and imports what is heavy
inside `run`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, Protocol, cast

from qedge import __version__
from qedge.base.errors import Exit, QedgeError

COMMANDS: Final[Mapping[str, str]] = {
    "run": "node.run",
    "demo": "demo.demo",
    "check": "configuration.check",
    "config": "configuration.configuration",
    "status": "node.status",
    "submit": "jobs.submit",
    "decode": "jobs.decode",
    "jobs": "jobs.jobs",
    "drain": "node.drain",
    "template": "jobs.template",
    "random": "drivers.draw",
    "segment": "devices.segment",
    "drivers": "drivers.drivers",
    "link": "links.links",
    "keys": "keys.keys",
    "device": "devices.device",
    "qkd": "keys.qkd",
    "ping": "peers.ping",
    "peers": "peers.peers",
    "standing": "peers.standing",
    "top": "top.top",
    "events": "node.events",
    "join": "fleet.join",
    "fleet": "fleet.fleet",
    "operator": "fleet.operators",
    "commands": "fleet.orders",
    "telemetry": "fleet.telemetry",
    "policy": "security.policy",
    "node": "fleet.enrol",
    "state": "peers.state",
    "incident": "security.incident",
    "audit": "security.audit",
    "crypto": "security.crypto",
    "doctor": "box.doctor",
    "diag": "box.diag",
    "open": "node.open_page",
    "install": "box.install",
    "update": "box.update",
}
"""Command → module of this package, in the order in which the help shows them."""


class Command(Protocol):
    """What a command module offers."""

    NAME: str
    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code, raises `QedgeError`."""
        ...


def load(module: str) -> Command:
    """Load one command module by its name below this package."""
    return cast("Command", importlib.import_module(f"qedge.cli.{module}"))


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints end with the exit code of sysexits."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments and where to read on."""
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"qedge: {message}\n  fix: `{self.prog} --help` shows how.\n")


def make_parser(only: str = "") -> argparse.ArgumentParser:
    """Build the whole command line, or the part that one command needs."""
    parser = Parser(
        prog="qedge",
        description="The daemon of a quantum edge box, and the commands that talk to it.",
        epilog="First time here? `qedge demo` shows everything in a minute; `qedge run` starts a node.",
    )
    parser.add_argument("--version", action="version", version=f"qedge {__version__}")
    parser.add_argument(
        "--socket", default="", metavar="PATH", help="unix socket of the daemon to talk to (default: found by itself)"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        if only and name != only:
            continue
        command = load(module)
        sub = commands.add_parser(command.NAME, help=command.SUMMARY, description=command.SUMMARY)
        command.add_arguments(sub)
        sub.set_defaults(handler=command.run)
    return parser


def print_error(error: QedgeError) -> None:
    """Tell a person what went wrong and what to do about it."""
    print(f"qedge: {error.message} [{error.code}]", file=sys.stderr)
    if error.fix:
        print(f"  fix: {error.fix}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (sysexits)."""
    words = sys.argv[1:] if argv is None else list(argv)
    # A command loads only its own module: the daemon and scripts that call qedge often feel the difference.
    args = make_parser(next((word for word in words if word in COMMANDS), "")).parse_args(words)
    try:
        return int(args.handler(args))
    except QedgeError as error:
        print_error(error)
        return int(error.spec.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`qedge jobs list | head`); what is left in the buffer has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)
