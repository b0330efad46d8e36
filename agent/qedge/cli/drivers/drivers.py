"""`qedge drivers`: what drives the hardware of this box, configured and installed."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import Terminal, clean, paint_state, table_lines, terminal_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qedge.wire.assessment import Assessment
    from qedge.wire.node import DriverChange, DriverView, Fact

NAME: Final = "drivers"
SUMMARY: Final = "List, show, test, lock, unlock and set drivers."

Description = dict[str, object]
"""What a driver says of itself (`qedge.workers.discovery`), or `{"name", "error"}` where it cannot."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the node's drivers; without a daemon the installed ones")
    listing.add_argument("--installed", action="store_true", help="list the installed ones anyway")
    show = actions.add_parser("show", help="show a driver with its settings")
    test = actions.add_parser("test", help="run the conformance kit against an installed driver")
    lock = actions.add_parser("lock", help="give a driver no more work, also after a restart")
    unlock = actions.add_parser("unlock", help="give a locked driver work again")
    assess = actions.add_parser("assess", help="measure a QPU: how wide, how good, how fast")
    device = actions.add_parser("device", help="show a QPU: its qubits, operations, couplings and queue")
    change = actions.add_parser("set", help="change settings until the next start of the daemon")
    for action in (show, test, lock, unlock, assess, device, change):
        action.add_argument("name", metavar="NAME", help="name of the driver")
    change.add_argument("settings", metavar="KEY=VALUE", nargs="+", help="settings, written as in the configuration")
    test.add_argument("options", nargs=argparse.REMAINDER, metavar="OPTION", help="passed on to the conformance kit")
    for action in (listing, show, lock, unlock, assess, device, change):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "test":
        return _test(args)
    if args.action == "list":
        return _list(args)
    if args.action == "show":
        return _show(args)
    if args.action == "assess":
        return _assess(args)
    if args.action == "device":
        return _device(args)
    from qedge.wire.node import DriverChange

    if args.action == "set":
        change = DriverChange(settings=parse_settings(args.settings))
    else:
        change = DriverChange(admin_state=f"{args.action}ed")
    return _change(args, change)


def parse_settings(pairs: Iterable[str]) -> dict[str, Fact | list[Fact]]:
    """Read `key=value` pairs with values as in TOML; a value that is no TOML is taken as text."""
    settings: dict[str, Fact | list[Fact]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise QedgeError("client.usage", f"{pair!r} is not KEY=VALUE.", fix="For instance: eve_fraction=0.5")
        try:
            document = tomllib.loads(f"value = {text}")
        except tomllib.TOMLDecodeError:
            document = {}
        value = document.get("value") if len(document) == 1 else None
        settings[key] = value if isinstance(value, (str, int, float, bool)) else _list_of(value, text)
    return settings


def _list_of(value: object, text: str) -> Fact | list[Fact]:
    if isinstance(value, list) and all(isinstance(item, (str, int, float, bool)) for item in value):
        return value
    return text


def _assess(args: argparse.Namespace) -> int:
    if not args.json and sys.stderr.isatty():
        print("measuring, which takes some seconds …", file=sys.stderr)
    found = ask(args, lambda node: node.assess(args.name))
    if args.json:
        print_json(found)
    else:
        print("\n".join(assessment_lines(found)))
    return 0


def _device(args: argparse.Namespace) -> int:
    from qedge.cli.drivers.qpu_lines import device_lines

    found = ask(args, lambda node: node.device(args.name))
    if args.json:
        print_json(found)
    else:
        print("\n".join(device_lines(found, terminal_of())))
    return 0


def assessment_lines(found: Assessment) -> list[str]:
    """Draw what a node found out about a QPU."""
    terminal = terminal_of()
    what = "simulated" if found.simulated else "hardware"
    fidelity = f"{found.cycle_fidelity:.5f} ± {found.cycle_fidelity_error:.5f}" if found.cycle_fidelity else "-"
    more = " or more" if found.log2_volume == found.volume_limit else ""
    volume = f"2^{found.log2_volume}{more}" if found.log2_volume else "-"
    rows = [
        ("qubits with a full state" if found.simulated else "qubits", str(found.state_qubits or "-"), ""),
        ("quantum volume", volume, f"{found.volume_circuits} circuits a width, heavy outputs {found.heavy_output:.3f}"),
        ("layers a second", f"{found.clops:,.0f}" if found.clops else "-", "parametrised circuits, 100 shots each"),
        ("fidelity of a cycle", fidelity, "two single-qubit gates and a CZ, by cross-entropy"),
        (
            "decoding a window",
            f"{found.decode_p50_us:.1f} µs" if found.decode_p50_us else "-",
            f"99 %: {found.decode_p99_us:.1f} µs; surface code, distance 5",
        ),
    ]
    lines = [
        f"{terminal.bold(clean(found.qpu))} ({what}), measured in {found.took_s:.1f} s",
        terminal.dim(
            f"{clean(found.cpu_model) or 'unknown processor'}, qedge {clean(found.version)}, load {found.load:.2f}"
        ),
        *table_lines(("FIGURE", "VALUE", "HOW"), rows, terminal=terminal),
    ]
    lines += [terminal.bad(f"worse than at its best: {clean(reason)}") for reason in found.degraded]
    return lines + [terminal.dim(clean(note)) for note in found.notes]


def _change(args: argparse.Namespace, change: DriverChange) -> int:
    view = ask(args, lambda node: node.change_driver(args.name, change))
    if args.json:
        print_json(view)
    else:
        state = paint_state(view.operating_state, terminal_of())
        print(f"{view.name}: {view.admin_state}, {state}{': ' if view.reason else ''}{clean(view.reason)}")
    return 0


def _list(args: argparse.Namespace) -> int:
    views = None if args.installed else _ask_daemon(args)
    if views is None:
        descriptions = describe(None)
        if args.json:
            print_json({"installed": descriptions})
        else:
            print("\n".join(installed_lines(descriptions)))
        return 0
    if args.json:
        from qedge.wire.node import DriverList

        print_json(DriverList(views))
        return 0
    rows = [
        (
            view.name,
            view.driver,
            view.kind,
            view.admin_state if view.admin_state == "locked" else view.operating_state,
            f"{sum(worker.state in ('ready', 'busy') for worker in view.workers)}/{len(view.workers)}",
            "simulated" if view.simulated else "hardware",
            view.reason,
        )
        for view in views
    ]
    header = ("NAME", "DRIVER", "KIND", "STATE", "WORKERS", "WHAT IT IS", "REASON")
    print("\n".join(table_lines(header, rows, terminal=terminal_of()) if rows else ["no drivers are configured"]))
    return 0


def _ask_daemon(args: argparse.Namespace) -> tuple[DriverView, ...] | None:
    """Return the daemon's drivers; None where no daemon runs and none was named."""
    try:
        return ask(args, lambda node: node.drivers())
    except QedgeError as error:
        if error.code != "client.no_daemon" or args.socket:
            raise
        return None


def describe(names: Sequence[str] | None) -> list[Description]:
    """Describe installed drivers (None: all), each in a process of its own that ends at once."""
    import asyncio

    from qedge.base.system_clock import SystemClock
    from qedge.workers.discovery import describe_drivers, installed

    found = asyncio.run(
        describe_drivers(installed() if names is None else names, clock=SystemClock(), random_bytes=os.urandom)
    )
    return [
        {"name": name, "error": answer.message, "code": answer.code}
        if isinstance(answer, QedgeError)
        else {**answer, "name": name}
        for name, answer in found.items()
    ]


def installed_lines(descriptions: Sequence[Description]) -> list[str]:
    """Draw the table of installed drivers."""
    rows = [
        (
            str(one["name"]),
            str(one.get("kind", "-")),
            str(one.get("version", "-")),
            "simulated" if one.get("simulated") else "hardware" if "kind" in one else "-",
            str(one.get("summary", one.get("error", ""))),
        )
        for one in descriptions
    ]
    header = ("INSTALLED", "KIND", "VERSION", "WHAT IT IS", "SUMMARY")
    return table_lines(header, rows, terminal=terminal_of()) if rows else ["no drivers are installed"]


def _show(args: argparse.Namespace) -> int:
    from qedge.workers.discovery import installed

    views = _ask_daemon(args) or ()
    view = next((view for view in views if view.name == args.name), None)
    driver = view.driver if view is not None else args.name
    if view is None and driver not in installed():
        raise QedgeError(
            "driver.not_found", f"No driver is called {clean(args.name)}.", fix="`qedge drivers list` names them."
        )
    description = describe([driver])[0] if driver in installed() else {"name": driver, "error": "not installed here"}
    if args.json:
        print_json({"configured": view, "installed": description})
        return 0
    if view is not None:
        print("\n".join(view_lines(view)))
        print()
    print("\n".join(description_lines(description)))
    return 0


def view_lines(view: DriverView) -> list[str]:
    """Draw a configured driver."""
    terminal = terminal_of()
    state = paint_state(view.operating_state, terminal)
    lines = [f"{terminal.bold(clean(view.name))}: {clean(view.admin_state)}, {state}"]
    if view.reason:
        lines.append(terminal.bad(clean(view.reason)))
    for worker in view.workers:
        spare = ", spare" if worker.spare else ""
        state = paint_state(worker.state, terminal)
        lines.append(f"  {clean(worker.name)}: {state}, process {worker.pid or '-'}, {worker.restarts} restarts{spare}")
    lines += [f"  {clean(key)} = {clean(str(value))}" for key, value in sorted(view.properties.items())]
    return lines


def description_lines(description: Mapping[str, object]) -> list[str]:
    """Draw an installed driver with its settings."""
    terminal = terminal_of()
    if "error" in description:
        return [f"driver {clean(str(description['name']))}: {terminal.bad(clean(str(description['error'])))}"]
    what = "simulated" if description.get("simulated") else "hardware"
    lines = [
        f"driver {terminal.bold(clean(str(description['name'])))} {description.get('version')}: "
        f"{description.get('kind')}, {what}, contract {description.get('api_version')}",
        clean(str(description.get("summary", ""))),
    ]
    settings = description.get("settings")
    for row in settings if isinstance(settings, list) else []:
        if isinstance(row, dict):
            lines += _setting_lines(row, terminal)
    return lines


def _setting_lines(row: Mapping[str, object], terminal: Terminal) -> list[str]:
    low, high, choices = row.get("minimum"), row.get("maximum"), row.get("choices")
    span = "" if low is None and high is None else f"{'' if low is None else low} … {'' if high is None else high}"
    if isinstance(choices, list) and choices:
        span = "one of " + ", ".join(str(choice) for choice in choices)
    unit = str(row.get("unit") or "")
    default = "required" if row.get("default") is None else f"default {row['default']} {unit}".rstrip()
    facts = ", ".join(
        part for part in (str(row.get("type")), default, f"{span} {unit}".strip() if span else "") if part
    )
    return [
        f"  {terminal.accent(clean(str(row.get('key'))))}  {terminal.dim(clean(facts))}",
        f"      {clean(str(row.get('description', '')))}",
    ]


def _test(args: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "qedge_driver_api.conformance", args.name, *args.options]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - our own interpreter, a module of ours
