"""`qedge doctor`: what is wrong with this box, and how to mend it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import print_json
from qedge.cli.terminal import Terminal, clean, terminal_of

if TYPE_CHECKING:
    from qedge.config import AgentConfig
    from qedge.fleet.diagnostics.model import BoxSettings
    from qedge.wire.diagnostics import DoctorReport
    from qedge.wire.node import NodeStatus
    from qedge.wire.trust import IdentityView

NAME: Final = "doctor"
SUMMARY: Final = "Look at this box, its daemon running or not, and say what is wrong and how to mend it."
_ASK_S: Final = 5.0
_SIGNS: Final = {"failed": "FAIL", "warning": "WARN", "skipped": "-", "ok": "ok"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_places(parser)
    parser.add_argument("--all", action="store_true", help="show what is well, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_places(parser: argparse.ArgumentParser) -> None:
    """Declare where the box keeps its things."""
    parser.add_argument("--config", default="", metavar="PATH", help="configuration file or folder, as for `qedge run`")
    parser.add_argument("--state-dir", default="", metavar="DIR", help="folder of the node, as for `qedge run`")


def run(args: argparse.Namespace) -> int:
    """Look; exit code 1 where something is broken."""
    from qedge.base.errors import Exit

    report = look(args).report
    if args.json:
        print_json(report)
    else:
        print("\n".join(report_lines(report, terminal_of(), everything=args.all)))
    return int(Exit.FAILED if any(check.verdict == "failed" for check in report.checks) else Exit.OK)


@dataclass(frozen=True, slots=True)
class Looked:
    """One look at the box: what its configuration says, what was found, and `socket` of its daemon.

    `socket` is empty where it is the one that is found by itself.
    """

    settings: BoxSettings
    report: DoctorReport
    socket: str


def look(args: argparse.Namespace) -> Looked:
    """Read the configuration, ask the daemon where it runs, look at the box, and judge."""
    from qedge import __version__
    from qedge.base.system_clock import SystemClock
    from qedge.config import check_config
    from qedge.daemon.diagnosing import box_settings
    from qedge.fleet.diagnostics.checks import examine
    from qedge.fleet.diagnostics.inspection import inspect
    from qedge.wire.diagnostics import DoctorReport

    verdict = check_config(args.config, state_dir=args.state_dir)
    settings, utc_ns = box_settings(verdict), SystemClock().utc_ns()
    socket = _socket_of(args, verdict.sound)
    status, identity, silence = _ask_daemon(socket)
    facts = inspect(settings, utc_ns, status, identity, silence)
    node = status.node if status is not None else settings.node
    report = DoctorReport(node, __version__, utc_ns, status is not None, examine(settings, facts))
    return Looked(settings, report, socket)


def report_lines(report: DoctorReport, terminal: Terminal, *, everything: bool = False) -> list[str]:
    """Write the report for a person: what is wrong first, each with its fix."""
    lines: list[str] = []
    order = list(_SIGNS)
    wrong = [check for check in report.checks if check.verdict in ("failed", "warning")]
    for check in sorted(report.checks if everything else wrong, key=lambda each: order.index(each.verdict)):
        sign = f"{_SIGNS[check.verdict]:4}"
        painted = terminal.bad(sign) if check in wrong else terminal.good(sign)
        lines.append(f"{painted}  {check.subject}: {clean(check.finding)}")
        if check.fix:
            lines.append(f"      fix: {clean(check.fix)}")
    failed = sum(check.verdict == "failed" for check in report.checks)
    warnings = len(wrong) - failed
    well = sum(check.verdict == "ok" for check in report.checks)
    return [*lines, f"{failed} broken, {warnings} to look at, {well} well"]


def _socket_of(args: argparse.Namespace, config: AgentConfig) -> str:
    """Return the socket of the daemon that the arguments mean; empty: the one that is found by itself."""
    from qedge.web.config import socket_path

    if args.socket or not (args.config or args.state_dir):
        return str(args.socket)
    return str(socket_path(config.http, config.node.runtime_dir))


def _ask_daemon(socket: str) -> tuple[NodeStatus | None, IdentityView | None, str]:
    import asyncio
    from pathlib import Path

    from qedge.base.errors import QedgeError
    from qedge.client.node import NodeClient

    async def put() -> tuple[NodeStatus, IdentityView]:
        async with NodeClient(socket, timeout_s=_ASK_S) as client:
            return await client.status(), await client.fleet.identity()

    if socket and not Path(socket).exists():
        return None, None, f"it is not running: there is no socket at {socket}"
    try:
        return *asyncio.run(put()), ""
    except QedgeError as error:
        return None, None, error.message
