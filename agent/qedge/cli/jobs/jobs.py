"""`qedge jobs`: list, show, watch and cancel jobs."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.base.ids import is_uuid
from qedge.cli.asking import ask, print_json
from qedge.cli.jobs.lines import JobFilter, change_line, list_lines, show_lines, since
from qedge.cli.jobs.submit import result_lines
from qedge.cli.terminal import Terminal, terminal_of

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.wire.jobs import JobView

NAME: Final = "jobs"
SUMMARY: Final = "List, show, watch and cancel jobs."
_STATES: Final = ("queued", "running", "done", "failed", "cancelled", "expired")
_LOOK_BACK: Final = 1000
"""Jobs that the node lists at most; filters and short ids look among them."""
_WIDE: Final = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the newest jobs")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="at most this many (default: 20)")
    listing.add_argument("--since", default="", metavar="SPAN", help="submitted within 90s, 10m, 2h, 1d, …")
    show = actions.add_parser("show", help="show one job: its course, where it ran, its result")
    show.add_argument("id", metavar="ID", help="id of the job, or its last characters")
    cancel = actions.add_parser("cancel", help="cancel a job")
    cancel.add_argument("id", metavar="ID", help="id of the job, or its last characters")
    watch = actions.add_parser("watch", help="show each change of state as it comes")
    watch.add_argument("id", metavar="ID", nargs="?", default="", help="only this job, until it ends")
    verify = actions.add_parser("verify", help="check what a runner signed, in the output of `jobs show --json`")
    verify.add_argument("file", metavar="FILE", help="that output; no daemon and no network is needed")
    verify.add_argument("--pin", default="", metavar="HEX", help="pin of the fleet that is to be believed")
    for action in (listing, watch):
        action.add_argument(
            "--state", action="append", default=[], choices=_STATES, help="only jobs in this state (several: again)"
        )
        action.add_argument("--client", default="", metavar="NAME", help="only those of this client, as in FROM")
        action.add_argument("--tag", default="", metavar="TAG", help="only those with this tag")
        action.add_argument("--node", default="", metavar="NODE", help="only those that run or ran on this node")
    for action in (listing, show, watch, cancel, verify):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "list":
        return _list(args)
    if args.action == "verify":
        from qedge.cli.jobs.receipt import verify

        return verify(args)
    if args.action == "watch":
        ask(args, lambda node: _watch(node, args))
        return 0
    job = ask(args, lambda node: _one(node, args.id, cancel=args.action == "cancel"))
    if args.json:
        print_json(job)
    elif args.action == "cancel":
        print(f"{job.id}: {job.state}")
    else:
        terminal = terminal_of()
        print("\n".join(show_lines(job, terminal, time.time_ns())))
        if job.result is not None:
            print("\n".join(["", *result_lines(job, terminal)]))
    return 0


async def _one(node: NodeClient, text: str, *, cancel: bool) -> JobView:
    job_id = await _whole_id(node, text)
    return await (node.cancel(job_id) if cancel else node.job(job_id))


async def _whole_id(node: NodeClient, text: str) -> str:
    """Return the id that ends with `text`, if it is one of the newest jobs and the only one."""
    if is_uuid(text) or not text:
        return text
    found = [job.id for job in await node.jobs(_LOOK_BACK) if job.id.endswith(text.lower())]
    if len(found) == 1:
        return found[0]
    raise QedgeError(
        "job.not_found",
        f"{'Several ids end' if found else 'No id of the newest jobs ends'} with {text}.",
        fix="Give more of the id; `qedge jobs list` shows them.",
    )


def filter_of(args: argparse.Namespace) -> JobFilter:
    """Make a filter of the arguments; raises `client.usage`."""
    start = since(getattr(args, "since", ""), time.time_ns())
    return JobFilter(frozenset(args.state), args.client, args.tag, args.node, start)


def _list(args: argparse.Namespace) -> int:
    wanted = filter_of(args)
    every = wanted == JobFilter(frozenset())

    async def question(node: NodeClient) -> tuple[JobView, ...]:
        if every:
            return await node.jobs(args.limit)
        own = (await node.status()).node if wanted.node else ""
        return tuple(job for job in await node.jobs(_LOOK_BACK) if wanted.wants(job, own))[: args.limit]

    jobs = ask(args, question)
    if args.json:
        from qedge.wire.jobs import JobList

        print_json(JobList(jobs))
        return 0
    if not jobs:
        print("no jobs yet" if every else f"none of the newest {_LOOK_BACK} jobs is like that")
        return 0
    terminal = terminal_of()
    short = sys.stdout.isatty() and terminal.width < _WIDE
    print("\n".join(list_lines(jobs, terminal, time.time_ns(), short=short)))
    return 0


async def _watch(node: NodeClient, args: argparse.Namespace) -> None:
    """Print changes as they come, also over restarts of the daemon; those of one job until it ends."""
    from qedge.client.news import Away, follow
    from qedge.client.node import ENDED
    from qedge.wire.jobs import JobView
    from qedge.wire.node import NodeStatus

    job_id = await _whole_id(node, args.id)
    terminal, wanted, own = terminal_of(), filter_of(args), ""
    told: JobView | None = None
    look = bool(job_id)
    if job_id:
        await node.job(job_id)  # one that is not known is refused, not waited for
    async with contextlib.aclosing(follow(node)) as stream:
        async for news in stream:
            job = news.what if not isinstance(news, Away) and isinstance(news.what, JobView) else None
            if isinstance(news, Away):
                print(f"qedge: {news.error.message} Asking again …", file=sys.stderr, flush=True)
                look = bool(job_id)
            elif isinstance(news.what, NodeStatus):
                own = news.what.node
                if look:
                    # what changes from now on is told: nothing can fall between this look and the stream
                    job, look = await node.job(job_id), False
            if job is None or (job_id and job.id != job_id) or not wanted.wants(job, own) or job == told:
                continue
            told = job
            _tell(job, terminal, as_json=args.json)
            if job_id and job.state in ENDED:
                return


def _tell(job: JobView, terminal: Terminal, *, as_json: bool) -> None:
    if as_json:
        print_json(job)  # one line for each change, for programs that read them as they come
    else:
        print(change_line(job, terminal), flush=True)
