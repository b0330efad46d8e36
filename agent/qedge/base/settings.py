"""What a configuration may say, read off msgspec structs: check plain values against them, and document every key.

`check` finds all faults of a plain dict (as TOML gives it), not only the first, each with its key path and what was
expected there. `document` lists the same keys with default, unit, range and sentence, so that error messages, the full
configuration file and the reference page have one source.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec
from msgspec import inspect

from qedge.base.log import scrub

Key = str | int
KeyPath = tuple[Key, ...]

UNITS: Final[tuple[tuple[str, str], ...]] = (
    ("_bytes", "bytes"),
    ("_mib", "MiB"),
    ("_ms", "milliseconds"),
    ("_us", "microseconds"),
    ("_ns", "nanoseconds"),
    ("_s", "seconds"),
    ("_hz", "hertz"),
    ("_km", "kilometres"),
    ("_celsius", "degrees Celsius"),
    ("_watts", "watts"),
    ("_ratio", "as a share, 0 to 1"),
)
"""Endings of key names and the unit each stands for."""

MAX_FAULTS: Final = 1000
"""A hostile file can hold a fault in every few bytes; nobody reads more than these."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN_CHARACTERS: Final = 48


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a configuration: where it is, what is wrong, what was expected.

    `path` is the key path (empty: the file as a whole). `file`, `line` and `column` (1 = first; 0: unknown) are filled
    in by whoever knows the text that the values came from.
    """

    path: KeyPath
    problem: str
    expected: str
    file: str = ""
    line: int = 0
    column: int = 0

    @property
    def key(self) -> str:
        """Return the key path as TOML writes it."""
        return dotted(self.path)

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        told = f"{self.problem}; expected {self.expected}" if self.expected else self.problem
        return ": ".join(part for part in (place, self.key, told) if part)


@dataclass(frozen=True, slots=True)
class Row:
    """Documentation of one key: `default` is None where the key must be given; `range` and `unit` may be empty."""

    path: KeyPath
    type: str
    default: object
    required: bool
    unit: str
    range: str
    description: str


def dotted(path: Sequence[Key]) -> str:
    """Write a key path as TOML does: `drivers.qpu.settings`, quoted where needed, items of arrays in brackets."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            shown = key if _BARE_KEY.fullmatch(key) else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{shown}" if text else shown
    return text


def unit_of(key: str) -> str:
    """Return the unit that a key's name ends in, empty for pure numbers and texts."""
    return next((unit for ending, unit in UNITS if key.endswith(ending)), "")


def check(section: type[msgspec.Struct], values: Mapping[str, object], path: KeyPath = ()) -> list[Fault]:
    """Return all faults of `values` (at most `MAX_FAULTS`) against a struct type.

    None means that `msgspec.convert` accepts them.
    """
    return list(islice(_check_struct(_struct_info(section), values, path), MAX_FAULTS))


def unknown_key(path: KeyPath, known: Sequence[str]) -> Fault:
    """Make the fault of a key that nobody reads, with the nearest known one as a hint."""
    key = str(path[-1])
    import difflib  # which only mistakes need

    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return Fault(path, "unknown key", f"{near[0]!r}, the nearest known key")
    return Fault(path, "unknown key", f"one of {', '.join(sorted(known))}" if known else "no key here")


def show(key: str, value: object) -> str:
    """Write a value the way TOML does, short, and without what must stay secret."""
    clean = scrub({key: value})[key]
    text = toml_value(clean)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def toml_value(value: object) -> str:
    """Write a plain value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(_escape(character) for character in value)
        return f'"{escaped}"'
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{dotted((str(key),))} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return str(value)


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    code = ord(character)
    return f"\\u{code:04X}" if code < 0x20 or code == 0x7F else character


def document(section: type[msgspec.Struct], path: KeyPath = ()) -> Iterator[Row]:
    """List every key of a struct type in its order, tables inside it included.

    The `title` of a field's `Meta`, where it has one, says in words what a pattern means.
    """
    yield from _document_struct(_struct_info(section), path, None)


@functools.cache
def _struct_info(section: type[msgspec.Struct]) -> inspect.StructType:
    info = inspect.type_info(section)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{section} is not a struct type")
    return info


def _document_struct(info: inspect.StructType, path: KeyPath, whole: object) -> Iterator[Row]:
    """`whole` is the default of the table itself, which may differ from the defaults of its keys."""
    for field in info.fields:
        inner, description = _unwrap(field.type)
        key = field.encode_name
        default = _default(field) if whole is None else getattr(whole, field.name)
        if isinstance(inner, inspect.StructType):
            yield from _document_struct(inner, (*path, key), default)
            continue
        yield Row(
            path=(*path, key),
            type=_type_word(inner),
            default=default,
            required=field.required,
            unit=unit_of(key),
            range=_limits(field.type),
            description=description,
        )


def _default(field: inspect.Field) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def _unwrap(kind: inspect.Type) -> tuple[inspect.Type, str]:
    """Take the sentence off an annotated type."""
    description = ""
    while isinstance(kind, inspect.Metadata):
        description = description or str((kind.extra_json_schema or {}).get("description", ""))
        kind = kind.type
    return kind, description


def _check_struct(info: inspect.StructType, values: Mapping[str, object], path: KeyPath) -> Iterator[Fault]:
    fields = {field.encode_name: field for field in info.fields}
    clean = True
    for key, value in values.items():
        field = fields.get(key)
        inner = (*path, key)
        for fault in (unknown_key(inner, list(fields)),) if field is None else _check(field.type, value, inner):
            clean = False
            yield fault
    for key, field in fields.items():
        if field.required and key not in values:
            clean = False
            yield Fault((*path, key), "missing key", expectation(field.type, key))
    if clean:
        try:
            msgspec.convert(values, info.cls)
        except msgspec.ValidationError as error:
            # Only a rule over several keys (`__post_init__`) is left to fail here.
            yield Fault(path, str(error).split(" - at `$")[0], "")


def _check(kind: inspect.Type, value: object, path: KeyPath) -> Iterator[Fault]:
    wanted, (kind, _) = kind, _unwrap(kind)
    key = next((str(part) for part in reversed(path) if isinstance(part, str)), "")
    if isinstance(kind, inspect.StructType):
        if isinstance(value, Mapping):
            yield from _check_struct(kind, value, path)
            return
    elif isinstance(kind, inspect.DictType):
        if isinstance(value, Mapping):
            yield from _check_mapping(kind, value, path)
            return
    elif isinstance(kind, inspect.CollectionType):
        if isinstance(value, (list, tuple)):
            yield from _check_items(kind, value, path)
            return
    elif isinstance(kind, inspect.UnionType):
        if any(next(_check(arm, value, path), None) is None for arm in kind.types):
            return
    elif _fits(kind, value):
        return
    yield Fault(path, f"is {show(key, value)}", expectation(wanted, key))


def _check_mapping(kind: inspect.DictType, value: Mapping[str, object], path: KeyPath) -> Iterator[Fault]:
    for key, inner in value.items():
        key_type, _ = _unwrap(kind.key_type)
        if not _fits(key_type, key):
            yield Fault((*path, key), "is no legal name", expectation(kind.key_type, ""))
        yield from _check(kind.value_type, inner, (*path, key))
    if not _length_fits(value, kind.min_length, kind.max_length):
        yield Fault(path, f"has {len(value)} entries", expectation(kind, ""))


def _check_items(kind: inspect.CollectionType, value: Sequence[object], path: KeyPath) -> Iterator[Fault]:
    for index, item in enumerate(value):
        yield from _check(kind.item_type, item, (*path, index))
    if not _length_fits(value, kind.min_length, kind.max_length):
        yield Fault(path, f"has {len(value)} items", expectation(kind, str(path[-1]) if path else ""))


def _length_fits(value: Sequence[object] | Mapping[str, object], low: int | None, high: int | None) -> bool:
    return (low is None or len(value) >= low) and (high is None or len(value) <= high)


def _fits(kind: inspect.Type, value: object) -> bool:
    """Check one scalar by its own kind: TOML knows no null, and a whole number may stand for a float."""
    if isinstance(kind, inspect.AnyType):
        return True
    if isinstance(kind, inspect.BoolType):
        return isinstance(value, bool)
    if isinstance(value, bool):
        return isinstance(kind, inspect.LiteralType) and any(value is choice for choice in kind.values)
    if isinstance(kind, inspect.IntType):
        return isinstance(value, int) and -(2**63) <= value < 2**64 and _in_range(kind, value)
    if isinstance(kind, inspect.FloatType):
        if isinstance(value, int):
            return abs(value) < 2**63 and _in_range(kind, value)
        return isinstance(value, float) and math.isfinite(value) and _in_range(kind, value)
    if isinstance(kind, inspect.StrType):
        if not isinstance(value, str) or not _length_fits(value, kind.min_length, kind.max_length):
            return False
        return kind.pattern is None or re.search(kind.pattern, value) is not None
    if isinstance(kind, inspect.LiteralType):
        return value in kind.values
    if isinstance(kind, inspect.EnumType):
        return value in [member.value for member in kind.cls]  # not a set: a table has no hash
    raise TypeError(f"settings cannot be of type {kind}")


def _in_range(kind: inspect.IntType | inspect.FloatType, value: float) -> bool:
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
        and (kind.multiple_of is None or value % kind.multiple_of == 0)
    )


def _limits(kind: inspect.Type) -> str:
    """Write the limits of a type, in the words of its `title` where it has one."""
    if isinstance(kind, inspect.Metadata) and (title := (kind.extra_json_schema or {}).get("title")):
        return str(title)
    return _range(_unwrap(kind)[0])


def expectation(kind: inspect.Type, key: str) -> str:
    """Say in words what a key wants: type, unit and range or choices."""
    limits = _limits(kind)
    kind, _ = _unwrap(kind)
    if isinstance(kind, (inspect.LiteralType, inspect.EnumType)):
        return f"one of {limits}"
    unit = unit_of(key)
    words = _type_word(kind)
    if isinstance(kind, inspect.CollectionType):
        words = f"{words} ({inner})" if (inner := _range(_unwrap(kind.item_type)[0])) else words
    article = "an" if words.startswith("a") and not words.startswith("a ") else "a"
    text = words if words in ("true or false", "text") else f"{article} {words}"
    if unit:
        text += f" {unit}" if unit.startswith("as ") else f" ({unit})"
    return f"{text}, {limits}" if limits else text


def _type_word(kind: inspect.Type) -> str:
    kind, _ = _unwrap(kind)
    if isinstance(kind, inspect.UnionType):
        return " or ".join(_type_word(arm) for arm in kind.types)
    if isinstance(kind, inspect.CollectionType):
        return f"list of {_PLURALS.get(type(_unwrap(kind.item_type)[0]), 'values')}"
    return next((word for known, word in _WORDS if isinstance(kind, known)), "value")


_WORDS: Final[tuple[tuple[type[inspect.Type], str], ...]] = (
    (inspect.BoolType, "true or false"),
    (inspect.IntType, "whole number"),
    (inspect.FloatType, "number"),
    (inspect.StrType, "text"),
    (inspect.LiteralType, "choice"),
    (inspect.EnumType, "choice"),
    (inspect.DictType, "table"),
    (inspect.StructType, "table"),
)
_PLURALS: Final[Mapping[type[inspect.Type], str]] = {
    inspect.IntType: "whole numbers",
    inspect.FloatType: "numbers",
    inspect.StrType: "texts",
    inspect.LiteralType: "choices",
    inspect.EnumType: "choices",
    inspect.StructType: "tables",
    inspect.DictType: "tables",
}


def _range(kind: inspect.Type) -> str:
    """Write the limits of a type: numbers, lengths, patterns or choices."""
    if isinstance(kind, inspect.LiteralType):
        return ", ".join(toml_value(value) for value in kind.values)
    if isinstance(kind, inspect.EnumType):
        return ", ".join(toml_value(member.value) for member in kind.cls)
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        return _number_range(kind)
    if isinstance(kind, inspect.StrType):
        parts = [_length_words(kind.min_length, kind.max_length, "characters")]
        parts.append(f"matching {kind.pattern}" if kind.pattern else "")
        return ", ".join(part for part in parts if part)
    if isinstance(kind, inspect.CollectionType):
        return _length_words(kind.min_length, kind.max_length, "items")
    if isinstance(kind, inspect.DictType):
        return _length_words(kind.min_length, kind.max_length, "entries")
    return ""


def _number_range(kind: inspect.IntType | inspect.FloatType) -> str:
    low = f"at least {kind.ge}" if kind.ge is not None else f"more than {kind.gt}" if kind.gt is not None else ""
    high = f"at most {kind.le}" if kind.le is not None else f"less than {kind.lt}" if kind.lt is not None else ""
    step = f"a multiple of {kind.multiple_of}" if kind.multiple_of is not None else ""
    if kind.ge is not None and kind.le is not None:
        low, high = f"{kind.ge} to {kind.le}", ""
    return ", ".join(part for part in (low, high, step) if part)


def _length_words(low: int | None, high: int | None, what: str) -> str:
    if low is not None and high is not None:
        return f"{low} {what}" if low == high else f"{low} to {high} {what}"
    if high is not None:
        return f"at most {high} {what}"
    return f"at least {low} {what}" if low else ""
