"""`python -m qedge_driver_api.conformance NAME [KEY=VALUE …] [--json]`: check an installed driver, or `module:Class`.

Exit codes: 0 all good, 1 a check failed, 64 bad usage, 70 the driver cannot be imported or holds the interpreter.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import os
import sys
import tomllib
from importlib import metadata
from typing import Any, Final, NoReturn

from qedge_driver_api.conformance.kit import CYCLES, LIMIT_S, run
from qedge_driver_api.driver import ENTRY_POINT_GROUP

_FAILED: Final = 1
_USAGE: Final = 64
_SOFTWARE: Final = 70
_MAX_CHECKS: Final = 40
"""More than any kind of driver has; bounds the time of a whole run."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(_USAGE, f"{self.prog}: {message}\n")


def load(name: str) -> type[Any]:
    """Import a driver class by entry point name or as `module:Class`; raises `LookupError` where there is none."""
    if ":" in name:
        module, _, path = name.partition(":")
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
        return found  # type: ignore[no-any-return] # what stands there is what the kit checks
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP, name=name):
        return entry.load()  # type: ignore[no-any-return] # as above
    installed = ", ".join(sorted({entry.name for entry in metadata.entry_points(group=ENTRY_POINT_GROUP)}))
    raise LookupError(f"no driver named {name!r} is installed; there are: {installed}")


def read_settings(pairs: list[str]) -> dict[str, object]:
    """Read `KEY=VALUE` pairs with values as in TOML; what is no TOML is taken as text. Raises `ValueError`."""
    settings: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"{pair!r} is not KEY=VALUE")
        try:
            document = tomllib.loads(f"value = {text}")
        except tomllib.TOMLDecodeError:
            document = {}
        settings[key] = document["value"] if set(document) == {"value"} else text
    return settings


def main(argv: list[str] | None = None) -> int:
    """Run the kit and print its report."""
    parser = _Parser(prog="python -m qedge_driver_api.conformance", description="Check a driver against the contract.")
    parser.add_argument("name", metavar="NAME", help="entry point of an installed driver, or module:Class")
    parser.add_argument("settings", metavar="KEY=VALUE", nargs="*", help="settings to test by, as in the configuration")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="SECONDS", help="time limit of each check")
    parser.add_argument("--cycles", type=int, default=CYCLES, metavar="N", help="times to open and close for leaks")
    args = parser.parse_args(argv)
    # Drivers and their libraries may print; the report alone belongs on standard output.
    report_to = os.dup(1)
    os.dup2(2, 1)
    # Ends the process also where a driver holds the interpreter, which no thread of Python could.
    faulthandler.dump_traceback_later(args.limit * _MAX_CHECKS, exit=True)
    try:
        settings = read_settings(args.settings)
        driver = load(args.name)
    except (LookupError, ValueError) as error:
        print(f"qedge driver kit: {error}", file=sys.stderr)
        return _USAGE
    except Exception as error:  # noqa: BLE001 - importing a foreign driver may raise anything
        print(f"qedge driver kit: {args.name} cannot be imported: {type(error).__name__}: {error}", file=sys.stderr)
        return _SOFTWARE
    report = run(driver, settings, limit_s=args.limit, cycles=args.cycles)
    faulthandler.cancel_dump_traceback_later()
    text = json.dumps(report.as_dict(), indent=2, ensure_ascii=False) if args.json else report.text()
    with os.fdopen(report_to, "w", encoding="utf-8") as out:
        out.write(text + "\n")
    return 0 if report.ok else _FAILED


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a check that hangs has a thread of its own, which would keep the interpreter from ending
