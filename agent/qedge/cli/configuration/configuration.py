"""`qedge config`: what is set and where, and configuration that the fleet gives, by hand."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qedge.client.node import NodeClient
    from qedge.wire.configuration import ConfigurationView, SettingList

NAME: Final = "config"
SUMMARY: Final = "Show effective settings and where each was set; stage, apply and roll back layers of the fleet."
_LOOK_S: Final = 0.3
_RESTART_LIMIT_S: Final = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="list effective settings; asks no daemon unless --running")
    show.add_argument("path", nargs="?", default="", metavar="PATH", help="file or folder (default: /etc/qedge)")
    show.add_argument("--state-dir", default="", metavar="DIR", help="state folder of the node, as `qedge run` has it")
    show.add_argument("--origin", action="store_true", help="tell the file and line that set each")
    show.add_argument("--set", action="store_true", dest="only_set", help="leave out what is a default")
    show.add_argument("--section", default="", metavar="NAME", help="only keys that begin with NAME")
    show.add_argument("--running", action="store_true", help="ask the daemon what it runs with")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    status = verbs.add_parser("status", help="tell which layer of the fleet is in force, and of a change under way")
    status.add_argument("--json", action="store_true", help="print JSON")
    stage = verbs.add_parser("stage", help="have a layer checked and kept")
    stage.add_argument("file", metavar="FILE", help="TOML file")
    stage.add_argument("--serial", type=int, default=0, metavar="N", help="its serial (default: the next one)")
    stage.add_argument("--json", action="store_true", help="print JSON")
    for name, words in (
        ("apply", "put the staged layer into force; undone by itself where the node is not well"),
        ("rollback", "put back the layer before the one in force"),
    ):
        verb = verbs.add_parser(name, help=words)
        verb.add_argument("--serial", type=int, default=0, metavar="N", help="the layer that is meant")
        verb.add_argument("--limit", type=float, default=0.0, metavar="S", help="seconds in which it has to be well")
        verb.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what the verb says; exit code 1 where a change was undone."""
    if args.verb == "show":
        return _show(args)
    if args.verb == "status":
        view = ask(args, lambda node: node.configuration.show())
    elif args.verb == "stage":
        return _stage(args)
    else:
        view = ask(args, _change(args))
    if args.json:
        print_json(view)
    else:
        print("\n".join(_view_lines(view)))
    return 1 if args.verb != "status" and view.last is not None and view.last.state != "good" else 0


def _show(args: argparse.Namespace) -> int:
    found = ask(args, lambda node: node.configuration.settings()) if args.running else _from_files(args)
    rows = [row for row in found.settings if row.key.startswith(args.section) and (row.file or not args.only_set)]
    if args.json:
        from qedge.wire.configuration import SettingList

        print_json(SettingList(found.files, tuple(rows), found.settings_sha256))
        return 0
    if args.origin:
        cells = [(row.key, f"{row.file}:{row.line}" if row.file else "default", row.value) for row in rows]
        print("\n".join(table_lines(("KEY", "SET BY", "VALUE"), cells, terminal=terminal_of())))
    else:
        print("\n".join(f"{row.key} = {clean(row.value)}" for row in rows))
    return 0


def _from_files(args: argparse.Namespace) -> SettingList:
    from qedge.config import load
    from qedge.daemon.fleet.configuration import rows_of
    from qedge.fleet.configuration.settings import section_digests, settings_digest
    from qedge.wire.configuration import SettingList

    loaded = load(args.path, state_dir=args.state_dir)
    return SettingList(loaded.files, rows_of(loaded), settings_digest(section_digests(loaded.text.values)))


def _stage(args: argparse.Namespace) -> int:
    from qedge.base.errors import QedgeError
    from qedge.cli.reading import read_file
    from qedge.wire.configuration import MAX_LAYER_BYTES, StagedConfiguration

    data = read_file(args.file, MAX_LAYER_BYTES + 1)
    if len(data) > MAX_LAYER_BYTES:
        raise QedgeError("client.data", f"{args.file} has more than {MAX_LAYER_BYTES} bytes.", fix="Send less at once.")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise QedgeError("client.data", f"{args.file} is not UTF-8.", fix="Save it as UTF-8.") from None

    async def stage(node: NodeClient) -> StagedConfiguration:
        serial = args.serial or (await node.configuration.show()).highest + 1
        return await node.configuration.stage(serial, text)

    staged = ask(args, stage)
    if args.json:
        print_json(staged)
        return 0
    changes = ", ".join(staged.changed) or "nothing"
    restart = f"; the daemon restarts for {', '.join(staged.restart)}" if staged.restart else ""
    print(f"serial {staged.serial} is staged: changes {changes}{restart}")
    return 0


def _change(args: argparse.Namespace) -> Callable[[NodeClient], Awaitable[ConfigurationView]]:
    from qedge.base.errors import QedgeError
    from qedge.wire.configuration import ConfigurationApply, ConfigurationRollback

    async def change(node: NodeClient) -> ConfigurationView:
        before = await node.configuration.show()
        if args.verb == "apply":
            serial = args.serial or before.staged
            if not serial:
                raise QedgeError(
                    "configuration.not_staged", "Nothing is staged.", fix="Stage a file: `qedge config stage FILE`."
                )
            await node.configuration.apply(ConfigurationApply(serial, health_limit_s=args.limit))
        else:
            serial = args.serial or before.serial
            if not serial:
                raise QedgeError("configuration.nothing_to_undo", "No layer of the fleet is in force.")
            await node.configuration.rollback(ConfigurationRollback(serial, health_limit_s=args.limit))
        return await _until_over(node)

    return change


async def _until_over(node: NodeClient) -> ConfigurationView:
    """Wait for the end of the change, over a restart of the daemon too."""
    from qedge.base.errors import QedgeError

    silent_s = 0.0
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            view = await node.configuration.show()
        except QedgeError:
            silent_s += _LOOK_S
            if silent_s > _RESTART_LIMIT_S:
                raise
            continue
        silent_s = 0.0
        if not view.state:
            return view


def _view_lines(view: ConfigurationView) -> list[str]:
    lines = [f"in force  {f'serial {view.serial}, {view.sha256[:16]}…' if view.serial else 'no layer of the fleet'}"]
    if view.staged:
        lines.append(f"staged    serial {view.staged}")
    if view.state:
        lines.append(f"changing  serial {view.changing}: {view.state}")
    lines.append(f"drift     {', '.join(view.drift) or 'none'}")
    if view.last is not None:
        why = f": {clean(view.last.reason)}" if view.last.reason else ""
        lines.append(f"last      serial {view.last.asked} {view.last.state}{why}")
    return lines
