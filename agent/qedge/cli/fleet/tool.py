"""`qedge fleet inventory | send | watch | pending | cancel | approve | audit`: a tool for small fleets, any broker."""

from __future__ import annotations

import asyncio
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
from qedge.cli.fleet.order_of import add_order_arguments, arguments_of
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from qedge.client.fleet_tool.model import SentCommand
    from qedge.client.fleet_tool.tool import FleetTool

ACTIONS: Final = ("inventory", "send", "watch", "pending", "cancel", "approve", "audit")
_STANDING: Final = "\nWhat has not ended goes on without this program: `qedge fleet watch` shows it, `cancel` ends it."
_LINE: Final = "\r\x1b[K"


def add_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the actions of the tool beside those of the authority."""
    inventory = actions.add_parser("inventory", help="list the nodes of a fleet as they introduce themselves")
    inventory.add_argument("--to", default="", metavar="EXPR", help="only nodes by an expression: label=edge")
    inventory.add_argument("--node", action="append", default=[], metavar="NAME", help="only this node; several times")
    add_operator_arguments(inventory)
    send = actions.add_parser("send", help="send a command to nodes, and watch how it ends")
    send.add_argument("kind", metavar="KIND", help="what they are to do; `inventory --json` tells what each can")
    add_order_arguments(send)
    add_selection_arguments(send)
    send.add_argument("--no-wait", action="store_true", help="return once the broker has the requests")
    add_waiting_arguments(send)
    add_operator_arguments(send)
    watch = actions.add_parser("watch", help="watch commands that were sent and have not ended")
    watch.add_argument("command_ids", nargs="*", metavar="COMMAND", help="only these")
    add_waiting_arguments(watch)
    add_operator_arguments(watch)
    pending = actions.add_parser("pending", help="list requests that stand with the broker, also of others")
    add_operator_arguments(pending)
    for name, what in (("cancel", "end a command, begun or not"), ("approve", "approve the request of somebody else")):
        action = actions.add_parser(name, help=what)
        action.add_argument("node", metavar="NODE", help="the node that it was sent to")
        action.add_argument("command_id", metavar="COMMAND", help="id of the command")
        if name == "cancel":
            add_waiting_arguments(action)
        else:
            action.add_argument(
                "--digest", default="", metavar="HEX", help="approve no other request than this (`pending --json`)"
            )
        add_operator_arguments(action)
    audit = actions.add_parser("audit", help="show who sent what to whom, and check that nothing was altered")
    audit.add_argument("--last", type=int, default=50, metavar="N", help="how many lines (default: 50; 0: all)")
    add_operator_arguments(audit, broker=False)


def add_waiting_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how long to watch."""
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="S", help="watch for S seconds (default: to the end)"
    )
    parser.add_argument("--keep", action="store_true", help="leave requests that have ended with the broker")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "audit":
        return _audit(args)
    work: dict[str, Callable[[FleetTool, argparse.Namespace], object]] = {
        "inventory": _inventory,
        "send": _send,
        "watch": _watch_sent,
        "pending": _pending,
        "cancel": _cancel,
        "approve": _approve,
    }
    tool = open_tool(args)

    async def go() -> int:
        async with tool:
            code = work[args.action](tool, args)
            return await code if asyncio.iscoroutine(code) else 0

    return asyncio.run(go())


async def _inventory(tool: FleetTool, args: argparse.Namespace) -> int:
    from qedge.cli.fleet.lines import inventory_lines

    nodes = await (select(tool, args) if args.node or args.to else tool.nodes())
    if args.json:
        print_json({"fleet": tool.fleet, "nodes": nodes})
    else:
        print("\n".join(inventory_lines(nodes, time.time_ns(), terminal_of())))
    return 0


async def _send(tool: FleetTool, args: argparse.Namespace) -> int:
    from qedge.client.fleet_tool.rollout_plan import Order

    order = Order(args.kind, arguments_of(args))
    nodes = await select(tool, args)
    unable = [node.name for node in nodes if node.kinds and args.kind not in node.kinds]
    if unable:
        can = next(node.kinds for node in nodes if node.name == unable[0])
        raise QedgeError(
            "fleet.nobody",
            f"{', '.join(unable[:5])}{' …' if len(unable) > 5 else ''} cannot do {args.kind!r}.",
            fix=f"{unable[0]} can do: {', '.join(can)}.",
        )
    sent = await tool.send(
        order, [node.name for node in nodes], expires_s=args.expires, time_limit_s=args.limit, note=args.note
    )
    if args.no_wait:
        if args.json:
            print_json({"commands": [told(view) for view in sent]})
        else:
            print("\n".join(f"{view.node} {view.id}" for view in sent))
            print("Next: `qedge fleet watch`.", file=sys.stderr)
        return 0
    return await show(tool, args)


async def _watch_sent(tool: FleetTool, args: argparse.Namespace) -> int:
    wanted = set(args.command_ids)
    requests = [each for each in tool.unfinished() if not wanted or each.id in wanted]
    missing = wanted - {each.id for each in requests}
    if missing:
        raise QedgeError(
            "fleet.no_command",
            f"{min(missing)} is no command of yours that has not ended.",
            fix="`qedge fleet audit` shows how commands ended.",
        )
    for request in requests:
        tool.follow(request, tool.operator)
    if not requests and not args.json:
        print("nothing is under way")
        return 0
    return await show(tool, args)


async def _pending(tool: FleetTool, args: argparse.Namespace) -> int:
    from qedge.client.fleet_tool.standing import digest_of

    standing = await tool.standing()
    if args.json:
        rows = [
            {
                "id": request.id,
                "digest": digest_of(order),
                "node": request.node,
                "kind": request.kind,
                "operator": order_author(order.signed),
                "approvals": [each.operator for each in order.approvals],
                "expires_utc_ns": request.expires_utc_ns,
                "note": request.note,
            }
            for request, order in standing
        ]
        print_json({"fleet": tool.fleet, "requests": rows})
        return 0
    lines = [
        (
            request.node,
            request.kind,
            order_author(order.signed),
            ", ".join(each.operator for each in order.approvals) or "-",
            request.id,
            request.note,
        )
        for request, order in standing
    ]
    header = ("NODE", "KIND", "FROM", "APPROVED BY", "COMMAND", "NOTE")
    print("\n".join(table_lines(header, lines, terminal=terminal_of())) if lines else "no requests stand")
    return 0


def order_author(signed: bytes) -> str:
    """Return who signed a request that was verified before."""
    from qedge.wire.envelope import take_apart

    return take_apart(signed).header.sender


async def _cancel(tool: FleetTool, args: argparse.Namespace) -> int:
    await tool.cancel(args.node, args.command_id)
    return await show(tool, args)


async def _approve(tool: FleetTool, args: argparse.Namespace) -> int:
    request = await tool.approve(args.node, args.command_id, digest=args.digest)
    if args.json:
        print_json({"approved": request.id, "node": request.node, "kind": request.kind, "by": tool.operator})
    else:
        print(f"{clean(request.kind)} for {request.node} is approved by {tool.operator}")
    return 0


async def show(tool: FleetTool, args: argparse.Namespace) -> int:
    """Watch until all have ended or the time is over; exit code 0 if all are well, 1 if one is not, 75 if some wait."""
    from qedge.cli.fleet.lines import command_line, command_lines, progress_line

    terminal = terminal_of(sys.stderr)
    live = sys.stderr.isatty() and not args.json
    with_limit = args.wait if args.wait > 0 else None
    try:
        async with asyncio.timeout(with_limit):
            async for view in tool.watch():
                if live:
                    print(_LINE + progress_line(tool.commands.views(), terminal), end="", file=sys.stderr, flush=True)
                elif view.ended and not args.json:
                    print(command_line(view), file=sys.stderr, flush=True)
    except TimeoutError:
        print(_STANDING, file=sys.stderr)
    except asyncio.CancelledError:  # Ctrl-C
        print(_STANDING, file=sys.stderr)
        raise
    if live:
        print(file=sys.stderr)
    views = list(tool.commands.views())
    if not args.keep:
        await tool.clear(views)
    if args.json:
        print_json({"commands": [told(view) for view in views]})
    else:
        print("\n".join(command_lines(views, terminal_of())))
        for view in views:
            if view.result:
                print(f"{clean(view.node)}: {clean(str(told(view)['result']))}")
    return exit_code(views)


def told(view: SentCommand) -> dict[str, object]:
    """Write a command for JSON, with its result as a table."""
    import msgspec

    from qedge.client.fleet_tool.kinds import read_result

    return {**msgspec.structs.asdict(view), "result": read_result(view.result)}


def exit_code(views: list[SentCommand]) -> int:
    """Return how a script learns how commands ended."""
    from qedge.client.fleet_tool.model import Ending

    if any(view.ended and view.ending is not Ending.SUCCESSFUL for view in views):
        return int(Exit.FAILED)
    return int(Exit.TEMPORARY) if any(not view.ended for view in views) else 0


def _audit(args: argparse.Namespace) -> int:
    from qedge.cli.fleet.lines import trail_lines

    lines, fault = operator_folder(args).trail()
    shown = lines[-args.last :] if args.last > 0 else lines
    if args.json:
        print_json({"whole": not fault, "fault": fault, "lines": shown})
    else:
        print("\n".join(trail_lines(shown, terminal_of())) if lines else "nothing was sent yet")
        print(f"{len(lines)} lines, last hash {lines[-1].hash if lines else '-'}", file=sys.stderr)
    if fault:
        raise QedgeError("fleet.trail_damaged", f"The trail was altered: {fault}.", fix="Compare it with a copy.")
    return 0
