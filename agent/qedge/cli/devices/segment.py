"""`qedge segment`: segments of attached devices, their keys, what waits for the upstream, and commands to devices.

`add_command_arguments` and `run_command` are `qedge device command` as well.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import Exit, QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.wire.segments import AppReading, CommandView, OnwardView, SegmentDetail, SegmentList, SegmentView

NAME: Final = "segment"
SUMMARY: Final = "Look at segments of attached devices, change their keys, command devices."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list segments, and what waits for the upstream")
    show = actions.add_parser("show", help="show a segment and who reads it")
    rekey = actions.add_parser("rekey", help="give a segment a new key now")
    watch = actions.add_parser("watch", help="follow the readings of a segment until Ctrl-C")
    for action in (show, rekey, watch):
        action.add_argument("name", metavar="SEGMENT")
    watch.add_argument("--channel", action="append", default=[], metavar="CHANNEL", help="this one; repeatable")
    watch.add_argument("--app", default="operator", metavar="APP", help="who reads, to policy (default: operator)")
    watch.add_argument("--node", default="", metavar="NODE", help="of another node; needs --channel")
    watch.add_argument("--count", type=int, default=0, metavar="N", help="end after so many readings")
    command = actions.add_parser("command", help="command a device and wait for its answer")
    add_command_arguments(command)
    for action in (listing, show, rekey, watch):
        action.add_argument("--json", action="store_true", help="print JSON")
    key = actions.add_parser("upstream-key", help="make the pair of keys of who reads what goes upstream")
    key.add_argument("--out", required=True, metavar="DIR", help="folder for upstream.key (secret) and upstream.pub")


def add_command_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what a command to a device takes."""
    parser.add_argument("device", metavar="DEVICE")
    parser.add_argument("command_name", metavar="COMMAND")
    parser.add_argument("argument", nargs="?", default="", metavar="ARGUMENT", help="text that the device gets")
    parser.add_argument("--hex", action="store_true", help="ARGUMENT is hex")
    parser.add_argument("--key", default="", metavar="KEY", help="the same key again is the same command, done once")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="wait so long (default: 10)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "command":
        return run_command(args)
    if args.action == "upstream-key":
        return _make_key(args)
    if args.action == "watch":
        ask(args, lambda node: _watch(node, args))
        return 0
    if args.action == "show":
        detail = ask(args, lambda node: node.segments.segment(args.name))
        if args.json:
            print_json(detail)
        else:
            print("\n".join(detail_lines(detail)))
    elif args.action == "rekey":
        view = ask(args, lambda node: node.segments.rekey(args.name))
        if args.json:
            print_json(view)
        else:
            print(f"{view.name}: epoch {view.epoch}; {view.members} members get the new key")
    else:
        found = ask(args, lambda node: node.segments.segments())
        if args.json:
            print_json(found)
        else:
            print("\n".join(list_lines(found)))
    return 0


async def _watch(node: NodeClient, args: argparse.Namespace) -> None:
    """Print readings as they come."""
    from qedge.wire.segments import ReadingsLost

    left = args.count
    following = node.segments.follow(args.name, tuple(args.channel), app=args.app, node=args.node)
    async with contextlib.aclosing(following) as news:
        async for each in news:
            if args.json:
                print_json(each)
            elif isinstance(each, ReadingsLost):
                print(
                    f"{each.lost} readings were lost: they came faster than they were read", file=sys.stderr, flush=True
                )
            else:
                print(reading_line(each), flush=True)
            left -= not isinstance(each, ReadingsLost)
            if args.count and not left:
                return


def reading_line(reading: AppReading) -> str:
    """Describe one reading; a body that is no text is written in hex."""
    when = datetime.fromtimestamp(reading.utc_ns / 1e9, UTC).astimezone()
    try:
        text = reading.body.decode()
    except UnicodeDecodeError:
        text = ""
    body = text if text.isprintable() and text else f"0x{reading.body.hex()}"
    return f"{when:%H:%M:%S}.{when.microsecond // 1000:03}  {clean(reading.device)}  {clean(reading.channel)}  {body}"


def run_command(args: argparse.Namespace) -> int:
    """Command a device; the exit code tells how that ended."""
    from qedge.wire.segments import DeviceCommand

    if not 0 < args.timeout <= 30:
        raise QedgeError("client.usage", "--timeout has to be more than 0 and at most 30 seconds.")
    order = DeviceCommand(args.command_name, _argument(args), args.key, args.timeout)
    view: CommandView = ask(args, lambda node: node.segments.command(args.device, order))
    if args.json:
        print_json(view)
    else:
        detail = f": {view.detail}" if view.detail else ""
        repeated = " (it was commanded before)" if view.repeated else ""
        print(f"{view.device} {view.command}: {view.outcome}{detail}, {view.took_ms:.1f} ms{repeated}")
    return int({"done": Exit.OK, "unknown": Exit.TEMPORARY}.get(view.outcome, Exit.FAILED))


def list_lines(found: SegmentList) -> list[str]:
    """Describe all segments and the way upstream."""
    rows = [_row(view) for view in found.segments]
    header = ("SEGMENT", "CHANNELS", "CLASS", "GOES TO", "MEMBERS", "EPOCH", "READINGS", "DROPPED")
    lines = table_lines(header, rows, terminal=terminal_of()) if rows else ["no segments; see [devices.segments.NAME]"]
    return lines + (onward_lines(found.onward) if found.onward is not None else [])


def onward_lines(view: OnwardView) -> list[str]:
    """Describe the way upstream."""
    state = "up" if view.up else "down"
    lines = [f"upstream: {state}, {view.sent} sent, {view.waiting} waiting ({view.waiting_bytes / 2**20:.1f} MiB)"]
    if view.waiting and view.oldest_s:
        lines[0] += f", the oldest for {view.oldest_s:.0f} s"
    if view.dropped:
        lines.append("dropped: " + ", ".join(f"{number} {what}" for what, number in sorted(view.dropped.items())))
    if view.problem:
        lines.append(f"problem: {view.problem}")
    return lines


def detail_lines(detail: SegmentDetail) -> list[str]:
    """Describe one segment and its members."""
    view = detail.segment
    lines = list(
        table_lines(
            ("SEGMENT", "CHANNELS", "CLASS", "GOES TO", "MEMBERS", "EPOCH", "READINGS", "DROPPED"), [_row(view)]
        )
    )
    begun = ", ".join(f"{number} {cause}" for cause, number in detail.epochs.items() if number)
    lines.append(f"key since {view.epoch_age_s:.0f} s; epochs begun: {begun or 'none'}")
    rows = [(member.kind, member.id, ", ".join(member.channels)) for member in detail.members]
    lines += table_lines(("KIND", "MEMBER", "READS"), rows, terminal=terminal_of()) if rows else ["nobody reads it"]
    if view.members > len(rows):
        lines.append(f"and {view.members - len(rows)} more")
    return lines


def _row(view: SegmentView) -> tuple[str, ...]:
    ways = [word for word, there in (("apps", view.feeds), ("bus", view.bus), ("upstream", view.upstream)) if there]
    return (
        view.name,
        ", ".join(view.channels),
        view.retention,
        ", ".join(ways) or "-",
        str(view.members),
        str(view.epoch) if view.epoch >= 0 else "none",
        str(view.readings),
        str(view.dropped),
    )


def _argument(args: argparse.Namespace) -> bytes:
    if not args.hex:
        return str(args.argument).encode()
    try:
        return bytes.fromhex(args.argument)
    except ValueError:
        raise QedgeError("client.usage", f"{args.argument!r} is no hex.") from None


def _make_key(args: argparse.Namespace) -> int:
    from qedge.crypto.durable_file import write_durably
    from qedge.devices.onward.sealing import new_recipient

    folder = Path(args.out)
    secret, public = new_recipient(os.urandom)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (folder / "upstream.key").exists():
            raise QedgeError("client.file", f"{folder / 'upstream.key'} is there already.", fix="Name another --out.")
        write_durably(folder / "upstream.key", secret.encode(), 0o600)
        write_durably(folder / "upstream.pub", public.encode(), 0o644)
    except OSError as error:
        raise QedgeError(
            "client.file", f"{folder} cannot be written: {error.strerror}.", fix="Name another --out."
        ) from error
    print(
        f"{folder / 'upstream.key'} stays with who reads; name {folder / 'upstream.pub'} in devices.onward.recipient."
    )
    return 0
