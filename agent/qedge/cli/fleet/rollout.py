"""`qedge fleet rollout`: a command in waves, with soaking, a stop condition and undoing; it goes on after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Final

from qedge.base.errors import Exit, QedgeError
from qedge.cli.asking import print_json
from qedge.cli.fleet.operator_desk import (
    add_operator_arguments,
    add_selection_arguments,
    open_tool,
    operator_folder,
    select,
)
from qedge.cli.fleet.order_of import add_order_arguments, arguments_of, read_file
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    import argparse

    from qedge.client.fleet_tool.rollout_file import RolloutFile
    from qedge.client.fleet_tool.rollout_plan import RolloutPlan, Word
    from qedge.client.fleet_tool.rollout_view import RolloutView
    from qedge.client.fleet_tool.tool import FleetTool

_WORDS: Final = {
    "pause": "send nothing more until it is resumed",
    "resume": "go on, also after this tool was killed",
    "abort": "go no further, and take back what nobody has begun",
    "undo": "go no further, and undo it at every node that has it",
}


def add_action(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the arguments."""
    rollout = actions.add_parser("rollout", help="send a command in waves that stop by themselves")
    steps = rollout.add_subparsers(dest="step", metavar="STEP", required=True)
    start = steps.add_parser("start", help="begin a roll-out, and carry it to its end")
    start.add_argument("kind", metavar="KIND", help="what nodes are to do")
    add_order_arguments(start)
    add_selection_arguments(start)
    start.add_argument("--first", action="append", default=[], metavar="NAME", help="a node of the first wave")
    start.add_argument("--waves", default="1,10%,50%,100%", metavar="N,P%,…", help="how many have it after each wave")
    start.add_argument("--soak", type=float, default=60.0, metavar="S", help="watch each wave for S seconds (60)")
    start.add_argument(
        "--max-failures", type=int, default=0, metavar="N", help="failures of a wave that do not stop it"
    )
    start.add_argument("--max-share", type=float, default=0.0, metavar="SHARE", help="the same as a share, 0 to 1")
    start.add_argument("--parallel", type=int, default=0, metavar="N", help="nodes at it at once (default: the wave)")
    start.add_argument("--expect-version", default="", metavar="V", help="version that nodes have to run afterwards")
    start.add_argument("--undo", default="", metavar="KIND", help="kind that undoes it where the roll-out stops")
    start.add_argument("--undo-with", action="append", default=[], metavar="KEY=VALUE", help="arguments of that kind")
    start.add_argument("--plan", action="store_true", help="show the waves and send nothing")
    add_operator_arguments(start)
    listing = steps.add_parser("list", help="list the roll-outs of this operator")
    show = steps.add_parser("show", help="show where a roll-out stands")
    show.add_argument("rollout_id", metavar="ROLLOUT", help="id of the roll-out")
    for step in (listing, show):
        add_operator_arguments(step, broker=False)
    for name, what in _WORDS.items():
        step = steps.add_parser(name, help=what)
        step.add_argument("rollout_id", metavar="ROLLOUT", help="id of the roll-out")
        add_operator_arguments(step)


def run(args: argparse.Namespace) -> int:
    """Do what `step` says."""
    if args.step == "start":
        return _start(args)
    if args.step == "list":
        return _list(args)
    if args.step == "show":
        return _show(args)
    return _say(args)


def _start(args: argparse.Namespace) -> int:
    tool = open_tool(args)

    async def go() -> int:
        from qedge.client.fleet_tool.rollout_file import RolloutFile
        from qedge.client.fleet_tool.trail import Act

        async with tool:
            plan = await _plan(tool, args)
            if args.plan:
                return _print_plan(plan, args)
            file = RolloutFile.create(tool.folder.rollout_path(plan.id), plan)
            tool.note_rollout(Act.ROLLOUT_BEGUN, plan.id, kind=plan.order.kind)
            print(f"roll-out {plan.id}", file=sys.stderr, flush=True)
            return await _carry(tool, file, args)

    return asyncio.run(go())


async def _plan(tool: FleetTool, args: argparse.Namespace) -> RolloutPlan:
    import secrets

    import msgspec

    from qedge.base.ids import uuid7
    from qedge.client.fleet_tool.kinds import encode_arguments
    from qedge.client.fleet_tool.rollout_plan import Order, RolloutPlan, cut_waves

    arguments = arguments_of(args)
    back = Order(args.undo, encode_arguments(args.undo, args.undo_with, read_file)) if args.undo else None
    names = [node.name for node in await select(tool, args)]
    strangers = sorted(set(args.first) - set(names))
    if strangers:
        raise QedgeError("client.usage", f"{strangers[0]} is not among the nodes.", fix="--first names some of them.")
    order = [*args.first, *(name for name in names if name not in args.first)]
    utc_ns = time.time_ns()
    plan = RolloutPlan(
        id=uuid7(utc_ns, secrets.token_bytes),
        fleet=tool.fleet,
        operator=tool.operator,
        order=Order(args.kind, arguments),
        waves=cut_waves(order, args.waves),
        made_utc_ns=utc_ns,
        soak_s=args.soak,
        expires_s=args.expires,
        time_limit_s=args.limit,
        max_failures=args.max_failures,
        max_share=args.max_share,
        parallel=args.parallel,
        expect_version=args.expect_version,
        back=back,
        note=args.note,
    )
    try:
        return msgspec.json.decode(msgspec.json.encode(plan), type=RolloutPlan)
    except msgspec.ValidationError as error:
        raise QedgeError("client.usage", f"The roll-out makes no sense: {error}.", fix="See --help.") from error


def _print_plan(plan: RolloutPlan, args: argparse.Namespace) -> int:
    if args.json:
        print_json(plan)
        return 0
    for number, wave in enumerate(plan.waves, 1):
        shown = ", ".join(wave[:8]) + (f" and {len(wave) - 8} more" if len(wave) > 8 else "")
        print(f"wave {number}: {len(wave)} nodes, {plan.tolerance(len(wave))} may fail: {shown}")
    return 0


async def _carry(tool: FleetTool, file: RolloutFile, args: argparse.Namespace) -> int:
    """Carry a roll-out on, showing it; exit code 0 if it is done, 1 if it stopped."""
    from qedge.cli.fleet.lines import rollout_lines
    from qedge.client.fleet_tool.rollout_model import Phase
    from qedge.client.fleet_tool.rollout_run import RolloutRun
    from qedge.client.fleet_tool.rollout_view import view_of

    run_ = RolloutRun(tool, file)
    picture = _Picture()
    try:
        async with contextlib.aclosing(run_.run()) as views:
            async for view in views:
                if args.json:
                    print_json(view)
                else:
                    picture.draw(rollout_lines(view, terminal_of(sys.stderr)), view)
        await run_.clear()
    finally:
        file.close()
    last = view_of(file.rollout)
    if not args.json:
        print("\n".join(rollout_lines(last, terminal_of())))
    return 0 if last.phase is Phase.DONE else int(Exit.FAILED)


class _Picture:
    """Draws over its last picture in a terminal; elsewhere a line whenever the phase changes."""

    def __init__(self) -> None:
        self._height = 0
        self._said = ""

    def draw(self, lines: list[str], view: RolloutView) -> None:
        """Draw."""
        if sys.stderr.isatty():
            up = f"\x1b[{self._height}F" if self._height else ""
            print(up + "\x1b[J" + "\n".join(lines), file=sys.stderr, flush=True)
            self._height = len(lines)
            return
        said = f"wave {view.wave} {view.phase}{' paused' if view.paused else ''}"
        if said != self._said:
            print(f"{said}: {view.reached} of {view.nodes} nodes reached", file=sys.stderr, flush=True)
            self._said = said


def _say(args: argparse.Namespace) -> int:
    """Say a word to the program that carries a roll-out, or, where none does, write it down and carry on oneself."""
    from qedge.client.fleet_tool.rollout_file import RolloutFile
    from qedge.client.fleet_tool.rollout_plan import Said, Word

    words: dict[str, Word] = {
        "pause": Word.PAUSE,
        "resume": Word.RESUME,
        "abort": Word.ABORT,
        "undo": Word.BACK,
    }
    folder = operator_folder(args)
    said = Said(time.time_ns(), words[args.step], args.operator or folder.path.name)
    try:
        file = RolloutFile.open(folder.rollout_path(args.rollout_id))
    except QedgeError as error:
        if error.code != "fleet.busy":
            raise
        folder.leave_word(args.rollout_id, said)
        print(f"told the program that carries {args.rollout_id}: {args.step}", file=sys.stderr)
        return 0
    left = folder.take_word(args.rollout_id)  # said to a program that ended before it looked
    file.take([left, said] if left is not None else [said])
    if args.step == "pause":
        file.close()
        print(f"{args.rollout_id} is paused; nobody carries it on.", file=sys.stderr)
        return 0
    tool = open_tool(args)

    async def go() -> int:
        async with tool:
            return await _carry(tool, file, args)

    return asyncio.run(go())


def _list(args: argparse.Namespace) -> int:
    from qedge.client.fleet_tool.rollout_file import read_rollout
    from qedge.client.fleet_tool.rollout_view import view_of

    folder = operator_folder(args)
    views = [view_of(read_rollout(folder.rollout_path(each))) for each in folder.rollouts()]
    if args.json:
        print_json({"rollouts": views})
        return 0
    rows = [
        (
            view.id,
            view.kind,
            f"{view.phase}{' paused' if view.paused else ''}",
            f"{view.reached}/{view.nodes}",
            view.note,
        )
        for view in views
    ]
    header = ("ROLLOUT", "KIND", "PHASE", "REACHED", "NOTE")
    print("\n".join(table_lines(header, rows, terminal=terminal_of())) if rows else "no roll-outs")
    return 0


def _show(args: argparse.Namespace) -> int:
    from qedge.cli.fleet.lines import rollout_lines
    from qedge.client.fleet_tool.rollout_file import read_rollout
    from qedge.client.fleet_tool.rollout_view import view_of

    view = view_of(read_rollout(operator_folder(args).rollout_path(clean(args.rollout_id))))
    if args.json:
        print_json(view)
    else:
        print("\n".join(rollout_lines(view, terminal_of())))
    return 0
