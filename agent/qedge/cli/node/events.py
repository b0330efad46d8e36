"""`qedge events`: what happens at the node, as it happens."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask
from qedge.cli.terminal import Terminal, clean, terminal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from qedge.client.news import Told
    from qedge.client.node import NodeClient
    from qedge.wire.events import NodeEvent
    from qedge.wire.jobs import JobView

    Paint = Callable[[str], str]

NAME: Final = "events"
SUMMARY: Final = "Show what happened at the node, and go on as it happens."
_LEVELS: Final = ("info", "warning", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--follow", action="store_true", help="go on until Ctrl-C, also over restarts of the daemon")
    parser.add_argument(
        "--kind", action="append", default=[], metavar="KIND", help="only peer, job, qkd, session, … (several: again)"
    )
    parser.add_argument("--level", choices=_LEVELS, default="info", help="only this and worse (default: info)")
    parser.add_argument("--after", default="", metavar="ID", help="only what came after this id, as --json shows it")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Print what the node still has, and with --follow what comes."""
    ask(args, lambda node: _print(node, args))
    return 0


async def _print(node: NodeClient, args: argparse.Namespace) -> None:
    from qedge.client.news import FROM_START, Away, follow
    from qedge.wire.node import NodeStatus

    terminal, kinds = terminal_of(), kinds_of(args.kind)
    after = args.after or FROM_START
    async with contextlib.aclosing(follow(node, after) if args.follow else node.news(after)) as stream:
        async for news in stream:
            if isinstance(news, Away):
                print(f"qedge: {news.error.message} Asking again …", file=sys.stderr, flush=True)
            elif isinstance(news.what, NodeStatus):
                if not args.follow:
                    return
            elif wanted(news.what, kinds, args.level):
                print(json_line(news.what, news.id) if args.json else event_line(news.what, terminal), flush=True)


def kinds_of(words: Collection[str]) -> frozenset[str]:
    """Return the kinds that were asked for, also those in one word with commas; raises `client.usage`."""
    from qedge.base.events import EVENTS

    known = {name.partition(".")[0] for name in EVENTS}
    kinds = frozenset(kind for word in words for kind in word.split(",") if kind)
    unknown = sorted(kinds - known)
    if unknown:
        raise QedgeError(
            "client.usage",
            f"There are no events of the kind {unknown[0]}.",
            fix=f"Kinds are {', '.join(sorted(known))}.",
        )
    return kinds


def wanted(what: Told, kinds: Collection[str], level: str) -> bool:
    """Say whether an event is to be shown; gaps always are."""
    from qedge.wire.events import NodeEvent
    from qedge.wire.jobs import JobState, JobView

    if isinstance(what, JobView):
        worse = what.state in (JobState.FAILED, JobState.EXPIRED)
        return (not kinds or "job" in kinds) and (level == "info" or (level == "warning" and worse))
    if isinstance(what, NodeEvent):
        rank = _LEVELS.index(what.level) if what.level in _LEVELS else len(_LEVELS) - 1
        return (not kinds or what.kind in kinds) and rank >= _LEVELS.index(level)
    return True


def event_line(what: Told, terminal: Terminal, *, width: int = 0) -> str:
    """Write an event as one line, cut to `width` columns where that is not 0."""
    from qedge.wire.events import NodeEvent
    from qedge.wire.jobs import JobView

    if isinstance(what, NodeEvent):
        paint = {"warning": terminal.warn, "error": terminal.bad}.get(what.level, terminal.accent)
        return _line(what.utc_ns, what.name, _fields(what), terminal, paint, width)
    if isinstance(what, JobView):
        paint = terminal.bad if what.error else terminal.accent
        return _line(_changed_ns(what), f"job.{what.state}", _job(what), terminal, paint, width)
    missed = getattr(what, "missed", 0)
    text = "the node was started anew" if missed < 0 else f"{missed} events are no longer kept"
    return terminal.dim(f"… {text}")


def _line(utc_ns: int, name: str, text: str, terminal: Terminal, paint: Paint, width: int) -> str:
    when = datetime.fromtimestamp(utc_ns / 1e9, UTC).astimezone().strftime("%H:%M:%S")
    name, text = clean(name), clean(text)
    if width:
        text = text[: max(0, width - len(when) - max(26, len(name)) - 4)]
    return f"{terminal.dim(when)}  {paint(f'{name:<26}')}  {text}".rstrip()


def _fields(event: NodeEvent) -> str:
    return " ".join(f"{name}={value}" for name, value in event.fields.items() if value not in ("", None))


def _job(job: JobView) -> str:
    parts = [f"job={job.id}", f"client={job.client}"]
    if job.node:
        parts.append(f"node={job.node}")
    if job.attempts > 1:
        parts.append(f"attempt={job.attempts}")
    if job.error is not None:
        parts.append(f"code={job.error.code}")
    return " ".join(parts)


def _changed_ns(job: JobView) -> int:
    return job.ended_utc_ns or job.started_utc_ns or job.submitted_utc_ns or time.time_ns()


def json_line(what: Told, event_id: str) -> str:
    """Write an event as one line of JSON, with its id."""
    import msgspec

    return msgspec.json.encode({"event_id": event_id, **msgspec.to_builtins(what)}).decode()
