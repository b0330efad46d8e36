"""`qedge submit`: run a program and show what came out."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import Terminal, clean, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.wire.jobs import JobEstimate, JobSubmission, JobView
    from qedge.wire.load import PlacementView

NAME: Final = "submit"
SUMMARY: Final = "Run a program and show its counts."
MAX_FILE_BYTES: Final = 16 * 2**20
_POLL_S: Final = 1.0
_RESTART_LIMIT_S: Final = 30.0
_RESTART_POLL_S: Final = 0.25
_QUIET_S: Final = 0.4
"""Progress is only shown for jobs that take longer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="",
        help="program in OpenQASM 2 or 3, or a circuit of cirq in JSON; - reads standard input",
    )
    parser.add_argument("--template", default="", metavar="HASH", help="run an uploaded program instead of FILE")
    parser.add_argument("--shots", type=int, default=1000, metavar="N", help="how often it runs (default: 1000)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="make a simulator repeat itself")
    parser.add_argument("--qpu", default="", metavar="NAME", help="run it on this driver (default: any)")
    parser.add_argument("--node", default="", metavar="NAME", help="run it on this node, or on `any` that can")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=NUMBER", help="value of an input of the program; repeatable"
    )
    parser.add_argument("--measure-all", action="store_true", help="measure all qubits of a program that measures none")
    parser.add_argument(
        "--sweep", action="append", default=[], metavar="NAME=FROM:TO:COUNT", help="run for many values; repeatable"
    )
    parser.add_argument(
        "--expect", action="append", default=[], metavar="SUM", help="value of a Pauli sum, as in 'Z0 Z1 - 0.5 X0'"
    )
    parser.add_argument("--task", default="", metavar="FILE", help="JSON of any task: see docs/reference/job-kinds.md")
    parser.add_argument("--method", default="", metavar="NAME", help="how a simulator runs it (default: as fits best)")
    parser.add_argument("--max-bond", type=int, default=None, metavar="N", help="largest bond of the method mps")
    parser.add_argument("--min-fidelity", type=float, default=None, metavar="F", help="least fidelity of mps")
    parser.add_argument("--fresh", action="store_true", help="run it even where the node has the answer")
    parser.add_argument("--once", action="store_true", help="never begin it a second time, whatever dies under it")
    parser.add_argument("--priority", type=int, default=4, metavar="N", help="0 to 9, higher runs first (default: 4)")
    parser.add_argument("--tag", action="append", default=[], metavar="TEXT", help="word to find it by; repeatable")
    parser.add_argument(
        "--key", default="", metavar="TEXT", help="submitted again with the same key, it is the same job"
    )
    parser.add_argument("--deadline", type=float, default=None, metavar="SECONDS", help="give up after this time")
    _add_placement(parser)
    parser.add_argument("--dry-run", action="store_true", help="only parse and estimate")
    parser.add_argument(
        "--parts", type=int, default=0, metavar="N", help="cut it into at most N parts that run on all nodes with room"
    )
    parser.add_argument("--no-wait", action="store_true", help="print the job's id and return at once")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_placement(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--class",
        dest="latency_class",
        default="interactive",
        choices=("critical", "interactive", "batch"),
        help="how urgent it is (default: interactive)",
    )
    parser.add_argument(
        "--placement",
        default=None,
        choices=("fastest", "balanced", "local-first", "pack", "pinned"),
        help="how the node that runs it is chosen (default: as this node is configured)",
    )
    parser.add_argument("--label", action="append", default=[], metavar="WORD", help="what that node has; repeatable")
    parser.add_argument(
        "--avoid", action="append", default=[], metavar="WORD", help="label or name that it must not have; repeatable"
    )
    parser.add_argument("--qkd-backed", action="store_true", help="only where a QKD key is in the session with it")
    parser.add_argument("--explain", action="store_true", help="only say where it would run, and why not elsewhere")


def run(args: argparse.Namespace) -> int:
    """Submit; raises the job's own error where it does not end well."""
    submission = make_submission(args, read_program(args.file) if args.file else "")
    if args.dry_run or args.explain:
        estimate = ask(args, lambda node: node.estimate(submission))
        _show_estimate(estimate, as_json=args.json, explained=args.explain)
        return 0
    job = ask(args, lambda node: _submit(node, submission, wait=not args.no_wait, quiet=args.json))
    if args.json:
        print_json(job)
    elif args.no_wait:
        print(job.id)
    if not args.no_wait:
        raise_unless_done(job)
        if not args.json:
            print("\n".join(result_lines(job, terminal_of())))
    return 0


def read_program(file: str) -> str:
    """Read the program; raises `client.file`."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise QedgeError("circuit.too_large", f"{file} is larger than 16 MiB.")
        return data.decode()
    except OSError as error:
        raise QedgeError(
            "client.file", f"{file} cannot be read: {error.strerror or error}.", fix="Name a readable file."
        ) from error
    except UnicodeDecodeError as error:
        raise QedgeError("circuit.syntax", f"{file} is not UTF-8 text.", fix="Name a file with a program.") from error


def make_submission(args: argparse.Namespace, program: str) -> JobSubmission:
    """Check the arguments as the node will; raises `client.usage`."""
    import msgspec

    from qedge.cli.jobs.task_of import task_of
    from qedge.wire.jobs import JobSubmission
    from qedge.wire.tasks import QaoaTask, QecTask

    task = task_of(args)
    if not (program or args.template) and (task is None or not isinstance(task, (QaoaTask, QecTask))):
        raise QedgeError("client.usage", "There is no program.", fix="Name a FILE or a --template.")
    fields = {"program": program, "shots": args.shots, "seed": args.seed, "qpu": args.qpu, "deadline_s": args.deadline}
    fields |= {"task": task, "template": args.template, "method": args.method, "fresh": args.fresh, "once": args.once}
    fields |= {"priority": args.priority, "tags": args.tag, "client_key": args.key}
    fields |= {"max_bond": args.max_bond, "min_fidelity": args.min_fidelity}
    fields |= {"latency_class": args.latency_class, "placement": args.placement, "qkd_backed": args.qkd_backed}
    fields |= {"labels": args.label, "avoid": args.avoid}
    fields |= {
        "parts": args.parts,
        "node": args.node,
        "measure_all": args.measure_all,
        "parameters": parse_parameters(args.set),
    }
    try:
        return msgspec.convert(fields, JobSubmission)
    except msgspec.ValidationError as error:
        raise QedgeError("client.usage", f"{error}.", fix="See `qedge submit --help`.") from error


def parse_parameters(given: list[str]) -> dict[str, float]:
    """Read `NAME=NUMBER` each; raises `client.usage`."""
    values: dict[str, float] = {}
    for text in given:
        name, equals, number = text.partition("=")
        try:
            if not (name and equals) or name in values:
                raise ValueError(text)
            values[name] = float(number)
            if not math.isfinite(values[name]):
                raise ValueError(text)
        except ValueError:
            raise QedgeError(
                "client.usage", f"--set {text!r} is not NAME=NUMBER, each name once.", fix="Write --set theta=0.5"
            ) from None
    return values


async def _submit(node: NodeClient, submission: JobSubmission, *, wait: bool, quiet: bool) -> JobView:
    from qedge.client.node import ENDED

    job = await node.submit(submission, wait_s=_QUIET_S if wait else 0.0)
    if not wait:
        return job
    progress = Progress(terminal_of(sys.stderr), shown=sys.stderr.isatty() and not quiet)
    try:
        while job.state not in ENDED:
            progress.show(job)
            job = await _look(node, job, _POLL_S)
    finally:
        progress.clear()
        if job.state not in ENDED:
            print(f"The job goes on. Look: qedge jobs show {job.id}", file=sys.stderr)
    return job


async def _look(node: NodeClient, job: JobView, wait_s: float) -> JobView:
    """Ask for the job; a daemon that is being restarted still has it, so its absence is waited out for a while."""
    deadline = time.monotonic() + _RESTART_LIMIT_S
    while True:
        try:
            return await node.job(job.id, wait_s=wait_s)
        except QedgeError as error:
            if error.code not in ("client.no_daemon", "internal.stopping") or time.monotonic() > deadline:
                raise
        await asyncio.sleep(_RESTART_POLL_S)


class Progress:
    """One line on standard error while a job waits and runs."""

    def __init__(self, terminal: Terminal, *, shown: bool) -> None:
        self._terminal = terminal
        self._shown = shown
        self._started = time.monotonic()
        self._drawn = False

    def show(self, job: JobView) -> None:
        """Draw the line anew."""
        from qedge.client.node import ENDED

        if self._shown and job.state not in ENDED:
            place = f", {job.queue_position} before it" if job.queue_position else ""
            again = f", attempt {job.attempts}" if job.attempts > 1 else ""
            where = f" on {clean(job.node)}" if job.node else ""
            where = f", {job.parts_done} of {job.parts} parts done" if job.parts else where
            text = f"{job.state}{where}{place}{again}, {time.monotonic() - self._started:.0f} s"
            print(f"\r\x1b[K{self._terminal.dim(text)}", end="", file=sys.stderr, flush=True)
            self._drawn = True

    def clear(self) -> None:
        """Remove the line."""
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def raise_unless_done(job: JobView) -> None:
    """Raise the error with which a job ended."""
    from qedge.wire.jobs import JobState
    from qedge.wire.problem import error_of

    if job.error is not None:
        raise error_of(job.error)
    if job.state is JobState.CANCELLED:
        raise QedgeError("job.cancelled", "The job was cancelled.")
    if job.state is JobState.EXPIRED:
        raise QedgeError("job.deadline_exceeded", "The deadline of the job passed before it ended.")
    if job.state is JobState.FAILED:
        raise QedgeError("internal.unexpected", "The job failed without a reason.")


def result_lines(job: JobView, terminal: Terminal) -> list[str]:
    """Draw the result of a job."""
    from qedge.base.units import format_duration
    from qedge.cli.jobs.task_lines import task_lines

    if job.result is None:
        return [f"{job.id}: no result"]
    result = job.result
    lines = task_lines(result, terminal)
    registers = " ".join(f"{clean(register.name)}[{register.size}]" for register in reversed(result.registers))
    times = ", ".join(f"{clean(stage)} {format_duration(value)}" for stage, value in result.timings_s.items())
    facts = [clean(str(result.metadata[key])) for key in ("driver", "method") if key in result.metadata]
    if result.metadata.get("simulated"):
        facts.append("simulated")
    if result.metadata.get("cached"):
        facts.append("an answer that was at hand")
    if result.parts:
        shares = Counter(part.node for part in result.parts)
        facts.append("in parts on " + ", ".join(f"{clean(node)} ({number})" for node, number in sorted(shares.items())))
    elif job.node:
        facts.append(f"on node {clean(job.node)}")
    drawn = f"{result.shots} shots, seed {result.seed}, bits {registers}, {result.bit_order}"
    lines += ["", *([terminal.dim(drawn)] if result.counts else [])]
    lines.append(terminal.dim(f"{', '.join(facts)}{': ' if facts else ''}{times}"))
    lines.append(terminal.dim(f"job {job.id}"))
    return lines


def _show_estimate(estimate: JobEstimate, *, as_json: bool, explained: bool) -> None:
    from qedge.base.units import format_bytes, format_duration

    if as_json:
        print_json(estimate)
        return
    if explained and estimate.placement is not None:
        print("\n".join(placement_lines(estimate.placement, terminal_of())))
    if not estimate.method:
        return  # nobody here could estimate it
    print(f"{estimate.qubits} qubits, {estimate.clbits} bits, {estimate.operations} operations, {estimate.shots} shots")
    print(
        f"about {format_duration(estimate.time_s)}, {format_bytes(estimate.memory_bytes)} of memory, "
        f"result at most {format_bytes(estimate.result_bytes)}, method {clean(estimate.method)}"
    )


def placement_lines(placement: PlacementView, terminal: Terminal) -> list[str]:
    """Draw where a job would run, and all nodes that were considered."""
    from qedge.base.units import format_duration

    head = f"by {placement.policy} it would run on {clean(placement.node)}" if placement.node else "nobody can run it"
    rows = [
        (
            clean(each.node) + (" *" if each.node == placement.node else ""),
            format_duration(each.predicted_s) if each.predicted_s or not each.why_not else "-",
            "-" if each.why_not else f"{each.score:.4g}",
            clean(each.why_not) or "can run it",
        )
        for each in placement.considered
    ]
    return [head, *table_lines(("NODE", "RESULT IN", "SCORE", "WHY"), rows, terminal=terminal)]
