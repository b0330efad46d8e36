"""Writes the generated pages: `docs/reference/*.md` and `configs/agent.full.toml`, from the tables in the code.

`python docs/generate.py` writes them; with `--check` it writes nothing, shows what differs and exits with 1.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import importlib
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import msgspec

from qedge.base.driver_settings import setting_range
from qedge.base.errors import ERROR_CODES
from qedge.base.events import EVENTS
from qedge.base.machine import StateTable
from qedge.base.metrics import METRICS
from qedge.base.settings import KeyPath, Row, document, dotted, toml_value
from qedge.cli.main import make_parser
from qedge.config import DEFAULT_DRIVERS, DEFAULT_LINKS, SECTIONS
from qedge.daemon.fleet.executors import KINDS
from qedge.fleet.commands.cancelling import Cancel
from qedge.fleet.commands.rules import ALWAYS_TWO
from qedge.fleet.configuration.reach import REACHES, Reach, is_free
from qedge.wire import tasks
from qedge.wire.topics import ROOT as TOPIC_ROOT
from qedge.wire.topics import TOPICS
from qedge_driver_api import DriverInfo

ROOT: Final = Path(__file__).resolve().parents[1]
NOTE: Final = "<!-- Written by docs/generate.py; do not edit. -->\n"


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Draw a table in Markdown."""
    names = list(headings)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def page(title: str, *parts: str) -> str:
    """Put a page together."""
    return "\n".join([f"# {title}\n", NOTE, *parts])


def code(text: object) -> str:
    """Set in typewriter letters; nothing for nothing."""
    return f"`{text}`" if str(text) else ""


def wrapped(text: str, width: int = 118) -> Iterator[str]:
    """Break a comment into lines that start with `# `."""
    line = "#"
    for word in text.split():
        if len(line) + 1 + len(word) > width:
            yield line
            line = "#"
        line += " " + word
    yield line


def sentence(section: type[Any]) -> str:
    """Return the docstring of a section struct without its own name at the front."""
    text = inspect.getdoc(section) or ""
    text = text.partition("`: ")[2] or text
    return text[:1].upper() + text[1:]


def limits(row: Row) -> str:
    """Write unit, range and type of a key."""
    if row.type == "choice":
        return f"one of {row.range}"
    return ", ".join(part for part in (row.type, row.unit, row.range) if part)


def described_drivers() -> list[DriverInfo]:
    """Ask every built-in driver what it is, in the order of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    infos = []
    for target in project["entry-points"]["qedge.drivers"].values():
        module, _, name = target.partition(":")
        infos.append(getattr(importlib.import_module(module), name).describe())
    return infos


def full_toml() -> str:
    """Write the configuration file that says every default aloud."""
    lines = [
        "# Every key of qedge with its default, unit and range. Written by docs/generate.py; do not edit.",
        "# It says what an empty configuration means; configs/agent.toml is the short file to start from.",
    ]
    for name, section in SECTIONS.items():
        if not name.endswith(".NAME"):
            lines += ["", *wrapped(sentence(section)), f"[{name}]"]
            for row in own_rows(name, section):
                lines += key_lines(row, row.default)
    lines += ["", *wrapped(sentence(SECTIONS["drivers.NAME"]))]
    infos = {info.name: info for info in described_drivers()}
    for name, driver in DEFAULT_DRIVERS.items():
        lines += table_lines(f"drivers.{name}", driver, without="settings")
        lines += ["", f"[drivers.{name}.settings]", *setting_lines(infos[driver.driver], driver.settings)]
    lines += ["", *wrapped(sentence(SECTIONS["qkd.links.NAME"]))]
    for name, link in DEFAULT_LINKS.items():
        lines += table_lines(f"qkd.links.{name}", link)
    return "\n".join(lines) + "\n"


def own_rows(name: str, section: type[msgspec.Struct]) -> Iterator[Row]:
    """Return the keys of a section but those of tables in it that have a section of their own."""
    for row in document(section):
        inner = f"{name}.{row.path[0]}"
        if inner not in SECTIONS and f"{inner}.NAME" not in SECTIONS:
            yield row


def table_lines(name: str, entry: msgspec.Struct, without: str = "") -> Iterator[str]:
    """Write one named table with all keys of its struct."""
    yield from ("", f"[{name}]")
    for row in document(type(entry)):
        if row.path != (without,):
            yield from key_lines(row, functools.reduce(getattr, map(str, row.path), entry))


def key_lines(row: Row, value: object) -> Iterator[str]:
    """Write one key with its comment."""
    yield from wrapped(f"{row.description} ({limits(row)})")
    yield f"{dotted(row.path)} = {toml_value(value)}"


def setting_lines(info: DriverInfo, values: Mapping[str, object]) -> Iterator[str]:
    """Write the settings of a driver; those that are not set stand as comments."""
    for setting in info.settings:
        words = ", ".join(part for part in (setting.type, setting.unit, setting_range(setting)) if part)
        yield from wrapped(f"{setting.description} ({words})")
        if setting.key in values:
            yield f"{setting.key} = {toml_value(values[setting.key])}"
        else:
            yield f"# {setting.key} = {toml_value(setting.default if setting.default is not None else '…')}"


def configuration_page() -> str:
    """Write the reference of all keys."""
    parts = [
        "qedge reads `/etc/qedge/agent.toml`, then `/etc/qedge/conf.d/*.toml` in the order of their names; later "
        "values win, tables merge. `--config PATH` names another file or folder. `qedge check` lists every fault. All "
        "keys have defaults; [agent.full.toml](../../configs/agent.full.toml) says them aloud.\n",
        "*fleet*: whether a [configuration of the fleet](../guides/configure-from-afar.md) may set it: *yes*, *no* "
        "(only a file of the box), or *stricter* than the box does.\n",
    ]
    for name, section in SECTIONS.items():
        rows = (
            [
                code(dotted(row.path)),
                row.description,
                "must be given" if row.required else code(toml_value(row.default)),
                limits(row),
                from_the_fleet((*name.split("."), *row.path)),
            ]
            for row in own_rows(name, section)
        )
        heads = ("key", "meaning", "default", "expected", "fleet")
        parts += [f"## `[{name}]`\n", sentence(section) + "\n", table(heads, rows)]
    return page("Configuration", *parts)


def from_the_fleet(path: KeyPath) -> str:
    """Say whether the fleet may set a key."""
    reach = Reach.FREE if is_free(path) else REACHES[path]
    return {Reach.FREE: "yes", Reach.BOX: "no"}.get(reach, "stricter")


def errors_page() -> str:
    """Write the reference of error codes."""
    rows = (
        [code(name), spec.meaning, str(spec.side), str(spec.http_status), f"{int(spec.exit_code)}"]
        for name, spec in ERROR_CODES.items()
    )
    head = (
        "Every error has a stable code. *Side*: who has to change something, this node or whoever sent the request.\n"
    )
    return page("Errors", head, table(("code", "meaning", "side", "HTTP status", "exit code"), rows))


def events_page() -> str:
    """Write the reference of log events."""
    head = "Names of log lines; data is in fields.\n"
    return page("Log events", head, table(("event", "meaning"), ([code(name), text] for name, text in EVENTS.items())))


def metrics_page() -> str:
    """Write the reference of metrics."""
    rows = (
        [code(name), str(spec.kind.value), ", ".join(code(label) for label in spec.labels), spec.help]
        for name, spec in METRICS.items()
    )
    head = "`GET /metrics` on the loopback address answers in Prometheus text format, in base units.\n"
    return page("Metrics", head, table(("name", "kind", "labels", "meaning"), rows))


def topics_page() -> str:
    """Write the reference of the topic map and of the messages on it."""
    rows = (
        [
            code(f"{TOPIC_ROOT}/{{fleet}}/{{node}}/{row.place}"),
            code(row.message.__struct_config__.tag) if row.message is not None else "bytes",
            str(row.qos),
            "yes" if row.retain else "no",
            str(row.publisher),
            row.readers,
            row.seal.name.lower() if row.seal is not None else "frame",
            row.proof,
            row.meaning,
        ]
        for row in TOPICS
    )
    headings = (
        "topic",
        "message",
        "QoS",
        "retained",
        "published by",
        "read by",
        "seal",
        "believed because of",
        "meaning",
    )
    parts = [
        "Messages are MessagePack inside an envelope; what is sealed as a `frame` has none. Names on the wire are at "
        "most 36 letters, digits, `-` and `_`.\n",
        table(headings, rows),
    ]
    for row in TOPICS:
        if row.message is None:
            continue
        fields = ([code(name), code(type_name(kind))] for name, kind in get_type_hints(row.message).items())
        tag = row.message.__struct_config__.tag
        parts += [f"## `{tag}`\n", (inspect.getdoc(row.message) or "") + "\n", table(("field", "type"), fields)]
    return page("Topics", *parts)


def fleet_wire_page() -> str:
    """Write the reference of commands on the wire, for programs in other languages."""
    wire_page = importlib.import_module("wire_page")  # beside this file
    return page("Commands on the wire", *wire_page.parts(table, type_name))


def job_kinds_page() -> str:
    """Write the reference of the kinds of tasks and of their results."""
    parts = [
        "A job is a program and a task; without a task its outcomes are counted. Tasks go into `qedge submit --task` "
        "as a file of JSON, into the field `task` of a submission over HTTP, and into `JobSubmission.task` in "
        "Python. The field `kind` tells which one it is. Results are `result.data` of the job; counts, where there are "
        "any, are `result.counts`.\n",
        inspect.cleandoc(tasks.__doc__ or "").partition("\n\n")[2] + "\n",
    ]
    results = {each.__struct_config__.tag: each for each in get_args(tasks.TaskResult)}
    for task in get_args(tasks.Task):
        tag = task.__struct_config__.tag
        parts += [f"## `{tag}`\n", (inspect.getdoc(task) or "") + "\n", task_fields(task)]
        parts += ["Result:\n", (inspect.getdoc(results[tag]) or "") + "\n", task_fields(results[tag])]
    return page("Kinds of jobs", *parts)


def task_fields(struct: type[msgspec.Struct]) -> str:
    """Draw the fields of a task or a result."""
    rows = (
        (
            code(field.name),
            code(json_type(msgspec.inspect.type_info(field.type))),
            "" if field.required else "none" if field.default is msgspec.NODEFAULT else code(default_of(field.default)),
        )
        for field in msgspec.structs.fields(struct)
    )
    return table(("field", "type", "default"), rows)


def default_of(value: object) -> str:
    """Write a default as it looks in JSON."""
    return json.dumps("" if value == b"" else value)


def json_type(info: msgspec.inspect.Type) -> str:
    """Write a type as it looks in JSON."""
    kinds = msgspec.inspect
    if isinstance(info, kinds.Metadata):
        return json_type(info.type)
    if isinstance(info, kinds.VarTupleType):
        return f"[{json_type(info.item_type)}, …]"
    if isinstance(info, kinds.TupleType):
        return f"[{', '.join(json_type(each) for each in info.item_types)}]"
    if isinstance(info, kinds.DictType):
        return f"{{name: {json_type(info.value_type)}}}"
    if isinstance(info, kinds.LiteralType):
        return " | ".join(map(str, info.values))
    names = {kinds.IntType: "int", kinds.FloatType: "number", kinds.StrType: "text", kinds.BoolType: "bool"}
    return names.get(type(info), "base64" if isinstance(info, kinds.BytesType) else "object")


def type_name(annotation: object) -> str:
    """Write a type without the modules it comes from."""
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)


def fleet_commands_page() -> str:
    """Write the reference of the kinds of commands that fleet operators send."""
    rows, parts = [], []
    for kind in sorted((*KINDS, Cancel), key=lambda each: each.kind):
        takes, answers = getattr(kind, "arguments", None), getattr(kind, "answers", None)
        rows.append(
            [
                code(kind.kind),
                (inspect.getdoc(kind) or "").partition(": ")[2].partition("\n")[0],
                code(kind.role),
                code(kind.lane),
                "always" if kind.kind in ALWAYS_TWO else "may be asked" if kind.two_persons else "",
                kind.after_crash.value,
                f"{kind.time_limit_s:g}",
                code(takes.__struct_config__.tag) if takes else "",
                code(answers.__struct_config__.tag) if answers else "",
            ]
        )
        parts += [each for each in (takes, answers) if each is not None]
    headings = ("kind", "what it does", "role", "lane", "second person", "after a crash", "s", "arguments", "result")
    text = [
        "Commands stand signed on `cmd/{command}` ([topics](topics.md)); arguments and results are these structs in "
        "MessagePack. One command of a lane runs at a time. After a crash a command is begun anew (`rerun`), its "
        "executor looks how it ended (`check`), or it has failed (`fail`). The time limit in seconds counts where the "
        "request names none.\n",
        table(headings, rows),
    ]
    for struct in dict.fromkeys(parts):
        fields = ([code(name), code(type_name(kind))] for name, kind in get_type_hints(struct).items())
        tag = struct.__struct_config__.tag
        text += [f"## `{tag}`\n", (inspect.getdoc(struct) or "") + "\n", table(("field", "type"), fields)]
    return page("Kinds of commands of fleet operators", *text)


def states_page() -> str:
    """Draw every state table of the code."""
    parts = ["State machines are tables in the code; these diagrams are drawn from them.\n"]
    for table_ in state_tables():
        parts += [f"## {table_.name}\n", f"```mermaid\n{table_.mermaid()}\n```\n"]
    return page("State machines", *parts)


def state_tables() -> list[StateTable[Any, Any]]:
    """Find all state tables of the daemon."""
    found: dict[str, StateTable[Any, Any]] = {}
    for file in sorted((ROOT / "agent" / "qedge").rglob("*.py")):
        if "StateTable(" in file.read_text("utf-8"):
            module = importlib.import_module(".".join(file.relative_to(ROOT / "agent").with_suffix("").parts))
            found |= {value.name: value for value in vars(module).values() if isinstance(value, StateTable)}
    return [found[name] for name in sorted(found)]


def drivers_page() -> str:
    """Write the reference of the built-in drivers."""
    parts = ["Settings go into `[drivers.NAME.settings]`. `qedge drivers show NAME` prints the same for any driver.\n"]
    for info in described_drivers():
        kind = f"Kind: {info.kind}. " + ("Simulated. " if info.simulated else "")
        abilities = f"Abilities: {', '.join(info.abilities)}." if info.abilities else ""
        rows = (
            [
                code(setting.key),
                setting.description,
                "must be given" if setting.default is None else code(toml_value(setting.default)),
                ", ".join(part for part in (setting.type, setting.unit, setting_range(setting)) if part),
            ]
            for setting in info.settings
        )
        parts += [f"## `{info.name}`\n", f"{info.summary} {kind}{abilities}".strip() + "\n"]
        parts.append(table(("setting", "meaning", "default", "expected"), rows))
    return page("Built-in drivers", *parts)


def commands_page() -> str:
    """Write the reference of the command line."""
    parser = make_parser()
    parts = [str(parser.description) + "\n", arguments(parser)]
    for action in parser._actions:
        if action.dest == "command" and isinstance(action.choices, Mapping):
            for name, command in action.choices.items():
                parts += command_parts(f"qedge {name}", command)
    return page("Commands", *parts)


def command_parts(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Write one command and those inside it."""
    yield f"## `{name}`\n"
    yield f"{parser.description or ''}\n"
    if listed := arguments(parser):
        yield listed
    for action in parser._actions:
        if isinstance(action.choices, Mapping):
            for inner, command in action.choices.items():
                yield from command_parts(f"{name} {inner}", command)


def arguments(parser: argparse.ArgumentParser) -> str:
    """Write the table of a command's own arguments."""
    rows = []
    for action in parser._actions:
        if action.dest in ("help", "version") or isinstance(action.choices, Mapping):
            continue
        value = str(action.metavar or (action.dest.upper() if action.option_strings else action.dest))
        takes = f" {value}" if action.option_strings and action.nargs != 0 else ""
        shown = ", ".join(option + takes for option in action.option_strings) or value
        rows.append([code(shown), (action.help or "").replace("%(default)s", str(action.default))])
    return table(("argument", "meaning"), rows) if rows else ""


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "configs/agent.full.toml": full_toml,
    "docs/reference/configuration.md": configuration_page,
    "docs/reference/errors.md": errors_page,
    "docs/reference/events.md": events_page,
    "docs/reference/metrics.md": metrics_page,
    "docs/reference/topics.md": topics_page,
    "docs/reference/fleet-wire.md": fleet_wire_page,
    "docs/reference/job-kinds.md": job_kinds_page,
    "docs/reference/fleet-commands.md": fleet_commands_page,
    "docs/reference/states.md": states_page,
    "docs/reference/drivers.md": drivers_page,
    "docs/reference/commands.md": commands_page,
}


def main() -> int:
    """Write all pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is stale")
    check = parser.parse_args().check
    stale = 0
    for name, make in PAGES.items():
        file, text = ROOT / name, make()
        found = file.read_text("utf-8") if file.exists() else ""
        if text == found:
            continue
        stale += 1
        if check:
            sys.stdout.writelines(
                difflib.unified_diff(found.splitlines(True), text.splitlines(True), name, "generated", n=1)
            )
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            print(f"wrote {name}")
    if check and stale:
        print(f"{stale} generated pages are stale; `make docs` writes them", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
