"""`qedge device import`: adds the devices of a file, and writes the lines that invite them."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json

if TYPE_CHECKING:
    from qedge.wire.gateway import DeviceDraft, DeviceInvited

_AT_ONCE: Final = 200
_HELP: Final = """Reads CSV (with a header: name, tier, class, segment, location, groups, posture, safety, root,
claim_code; other columns are attributes) or TOML (tables [[device]] with the same keys). Devices that are known stay
as they are, so an import that was interrupted is simply repeated."""


def add_arguments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the arguments."""
    parser = actions.add_parser("import", help="add the devices of a CSV or TOML file", description=_HELP)
    parser.add_argument("file", metavar="FILE", help="a file that ends in .csv or .toml")
    parser.add_argument("--out", default="", metavar="FILE", help="write the lines that invite them here (mode 0600)")
    parser.add_argument("--minutes", type=float, default=0.0, help="how long the lines are good (default: the node's)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Import."""
    drafts = _read(Path(args.file))
    if args.out and Path(args.out).exists():
        raise QedgeError("client.usage", f"{args.out} exists.", fix="Name a new file: the lines in it are secrets.")
    invited: list[DeviceInvited] = []
    known: list[str] = []
    for start in range(0, len(drafts), _AT_ONCE):
        added, there = _add(args, drafts[start : start + _AT_ONCE])
        invited += added
        known += there
        _progress(min(start + _AT_ONCE, len(drafts)), len(drafts))
        if args.out:
            _append(Path(args.out), added)
    if args.json:
        for each in invited if not args.out else ():
            print_json(each)
        print_json({"devices": len(drafts), "added": len(drafts) - len(known), "known": known})
        return 0
    if not args.out:
        for each in invited:
            print(f"{each.name} {each.line}")
    print(f"{len(drafts) - len(known)} devices added, {len(known)} were known", file=sys.stderr)
    return 0


def _read(path: Path) -> list[DeviceDraft]:
    from qedge.devices.registry.imports import read_csv, read_toml

    readers = {".csv": read_csv, ".toml": read_toml}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise QedgeError("client.usage", f"{path} is neither .csv nor .toml.", fix="Name it by what it is.")
    try:
        return reader(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise QedgeError("client.file", f"{path} cannot be read: {error}.", fix="Is it text in UTF-8?") from error


def _add(args: argparse.Namespace, drafts: list[DeviceDraft]) -> tuple[list[DeviceInvited], list[str]]:
    from qedge.wire.gateway import DeviceBatch

    batch = DeviceBatch(tuple(drafts), args.minutes * 60)
    added = ask(args, lambda node: node.devices.add_batch(batch))
    return list(added.invited), list(added.known)


def _append(path: Path, invited: list[DeviceInvited]) -> None:
    """Write what was added before the next are: what is in the node has its line in the file."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="ascii") as file:
        file.writelines(f"{each.name} {each.line}\n" for each in invited)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total} devices", end="\n" if done == total else "", file=sys.stderr, flush=True)
