"""`qedge check`: every fault of a configuration, with file, line, key path and what was expected."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from qedge.config import Schemas, Verdict

NAME: Final = "check"
SUMMARY: Final = "List every fault of the configuration."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", nargs="?", default="", metavar="PATH", help="file or folder (default: /etc/qedge)")
    parser.add_argument(
        "--state-dir", default="", metavar="DIR", help="state folder of the node, as `qedge run` has it"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--no-drivers", action="store_true", help="do not start drivers' workers to ask what settings they take"
    )


def run(args: argparse.Namespace) -> int:
    """Check; exit code 78 where there are faults."""
    from qedge.base.errors import Exit
    from qedge.config import check_config

    verdict = check_config(args.path, state_dir=args.state_dir, describe=None if args.no_drivers else describe)
    print(as_json(verdict) if args.json else as_text(verdict, args.path))
    return int(Exit.CONFIG if verdict.faults else Exit.OK)


def describe(names: Sequence[str]) -> Schemas:
    """Ask each driver in a worker of its own for its settings."""
    import asyncio
    import os

    import msgspec

    from qedge.base.errors import QedgeError
    from qedge.base.system_clock import SystemClock
    from qedge.workers.discovery import describe_drivers
    from qedge_driver_api import SettingInfo

    answers = asyncio.run(describe_drivers(names, clock=SystemClock(), random_bytes=os.urandom))
    return {
        name: answer if isinstance(answer, QedgeError) else msgspec.convert(answer["settings"], tuple[SettingInfo, ...])
        for name, answer in answers.items()
    }


def as_text(verdict: Verdict, path: str) -> str:
    """Write the verdict for a person: one fault a line, as compilers do."""
    if not verdict.faults:
        read = ", ".join(verdict.files) or f"no file at {path or '/etc/qedge'}: all defaults"
        return f"ok ({read})"
    number = len(verdict.faults)
    return "\n".join([*map(str, verdict.faults), f"{number} fault{'s' if number > 1 else ''}"])


def as_json(verdict: Verdict) -> str:
    """Write the verdict for a program."""
    import msgspec

    faults = [
        {
            "file": fault.file,
            "line": fault.line,
            "column": fault.column,
            "key": fault.key,
            "problem": fault.problem,
            "expected": fault.expected,
        }
        for fault in verdict.faults
    ]
    return msgspec.json.encode({"ok": not faults, "files": verdict.files, "faults": faults}).decode()
