"""`qedge diag`: a bundle for those who help from afar, without secrets."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import print_json
from qedge.cli.box.doctor import add_places, look

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.wire.diagnostics import DiagnosticsSummary

NAME: Final = "diag"
SUMMARY: Final = "Collect what others need to find a fault, in one file without secrets."
_ASK_S: Final = 10.0
_MAX_LOG_BYTES: Final = 16 * 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    collect = actions.add_parser("collect", help="write a tar.gz of findings, states, configuration, metrics and log")
    add_places(collect)
    collect.add_argument("--output", default="", metavar="FILE", help="file to write (default: named by node and time)")
    collect.add_argument("--log", default="", metavar="FILE", help="log of the daemon (default: the service's journal)")
    collect.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Collect and say where it is."""
    from pathlib import Path

    from qedge.base.units import format_bytes
    from qedge.fleet.diagnostics.bundle import write_bundle
    from qedge.fleet.diagnostics.collection import gather, secrets_of, service_log

    looked = look(args)
    settings, report = looked.settings, looked.report
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(report.utc_ns // 10**9))
    target = Path(args.output or f"qedge-diag-{report.node or 'node'}-{stamp}.tar.gz")
    log = _read_log(Path(args.log)) if args.log else service_log()
    files = gather(settings, report, _told(looked.socket) if report.running else {}, log)
    summary = write_bundle(target, files, secrets_of(settings), report.utc_ns)
    if args.json:
        print_json(summary)
    else:
        print(f"{summary.path}: {format_bytes(summary.bytes)}, {_counted(summary)}")
        print("Look into it before you send it: `tar -tzf` lists it.")
    return 0


def _counted(summary: DiagnosticsSummary) -> str:
    files, taken = len(summary.files), summary.redactions
    return f"{files} files, {taken} value{'' if taken == 1 else 's'} taken out that may be secret"


def _read_log(path: object) -> str:
    from pathlib import Path

    from qedge.base.errors import QedgeError

    found = Path(str(path))
    try:
        with found.open("rb") as opened:
            opened.seek(max(0, found.stat().st_size - _MAX_LOG_BYTES))
            return opened.read(_MAX_LOG_BYTES).decode(errors="replace")
    except OSError as error:
        raise QedgeError(
            "diagnostics.unreadable",
            f"The log {found} cannot be read: {error.strerror}.",
            fix="Name the file that the daemon's standard error goes to, or leave --log out.",
            path=str(found),
        ) from error


def _told(socket: str) -> dict[str, str]:
    """Ask the daemon for everything that a bundle takes from it."""
    import asyncio

    import msgspec

    from qedge.base.errors import QedgeError
    from qedge.client.node import NodeClient

    async def ask() -> dict[str, str]:
        async with NodeClient(socket, timeout_s=_ASK_S) as client:
            return await _ask_all(client)

    try:
        return asyncio.run(ask())
    except QedgeError as error:
        return {"unanswered.txt": msgspec.json.encode(error.message).decode()}


async def _ask_all(client: NodeClient) -> dict[str, str]:
    import msgspec

    def pretty(value: object) -> str:
        return msgspec.json.format(msgspec.json.encode(value)).decode()

    # of jobs only how they went: programs and results are their owners'
    jobs = [
        {"id": job.id, "state": job.state, "attempts": job.attempts, "error": job.error}
        for job in await client.jobs(200)
    ]
    return {
        "status.json": pretty(await client.status()),
        "identity.json": pretty(await client.fleet.identity()),
        "peers.json": pretty(await client.peers()),
        "jobs.json": pretty(jobs),
        "metrics.txt": await client.metrics(),
    }
