"""`qedge jobs`: list, show, watch and cancel jobs."""

from __future__ import annotations

import argparse
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import ask, print_json
from qedge.cli.submit import result_lines
from qedge.cli.terminal import Terminal, clean, paint_state, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.wire.jobs import JobView

NAME: Final = "jobs"
SUMMARY: Final = "List, show, watch and cancel jobs."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the newest jobs")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="at most this many (default: 20)")
    show = actions.add_parser("show", help="show one job with its result")
    show.add_argument("id", metavar="ID", help="id of the job")
    cancel = actions.add_parser("cancel", help="cancel a job")
    cancel.add_argument("id", metavar="ID", help="id of the job")
    watch = actions.add_parser("watch", help="show each change of state as it comes")
    watch.add_argument("id", metavar="ID", nargs="?", default="", help="only this job, until it ends")
    for action in (listing, show, watch, cancel):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "list":
        return _list(args)
    if args.action == "watch":
        ask(args, lambda node: _watch(node, args.id, as_json=args.json))
        return 0
    job = ask(args, lambda node: node.job(args.id) if args.action == "show" else node.cancel(args.id))
    if args.json:
        print_json(job)
    elif args.action == "cancel":
        print(f"{job.id}: {job.state}")
    else:
        _show(job)
    return 0


def _list(args: argparse.Namespace) -> int:
    jobs = ask(args, lambda node: node.jobs(args.limit))
    if args.json:
        from qedge.wire.jobs import JobList

        print_json(JobList(jobs))
        return 0
    rows = [
        (
            job.id,
            job.state,
            str(job.shots),
            clean(" ".join(each for each in (job.node, job.qpu) if each) or "any"),
            _when(job.submitted_utc_ns),
            job.error.title if job.error else "",
        )
        for job in jobs
    ]
    header = ("ID", "STATE", "SHOTS", "QPU", "SUBMITTED", "ERROR")
    print("\n".join(table_lines(header, rows, terminal=terminal_of()) if rows else ["no jobs yet"]))
    return 0


async def _watch(node: NodeClient, job_id: str, *, as_json: bool) -> None:
    """Print changes as they come; those of one job until it ends."""
    from qedge.client.node import ENDED
    from qedge.wire.jobs import JobView

    terminal = terminal_of()
    async with contextlib.aclosing(node.events()) as events:
        opened = False
        async for event in events:
            job = event if isinstance(event, JobView) and event.id == (job_id or event.id) else None
            if job_id and not opened:
                # what changes from now on is told: nothing can fall between this look and the stream
                job = await node.job(job_id)
            opened = True
            if job is not None:
                _tell(job, terminal, as_json=as_json)
                if job_id and job.state in ENDED:
                    return


def _tell(job: JobView, terminal: Terminal, *, as_json: bool) -> None:
    if as_json:
        import msgspec

        # one line for each change, for programs that read them as they come
        print(msgspec.json.encode(job).decode(), flush=True)
        return
    place = f"  {job.queue_position} before it" if job.queue_position else ""
    why = f"  {clean(job.error.title)}" if job.error else ""
    print(f"{job.id}  {paint_state(str(job.state), terminal)}{place}{why}", flush=True)


def _show(job: JobView) -> None:
    terminal = terminal_of()
    print(f"{job.id}: {paint_state(str(job.state), terminal)}")
    print(f"submitted {_when(job.submitted_utc_ns)} by {clean(job.client)}, {job.shots} shots, attempts {job.attempts}")
    if job.error is not None:
        print(terminal.bad(f"{clean(job.error.title)} [{clean(job.error.code)}]"))
        if job.error.fix:
            print(f"fix: {clean(job.error.fix)}")
    if job.result is not None:
        print("\n".join(["", *result_lines(job, terminal)]))


def _when(utc_ns: int) -> str:
    if not utc_ns:
        return "-"
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
