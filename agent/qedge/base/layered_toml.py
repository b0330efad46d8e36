"""Several TOML files as one: read in order, later values win, tables merge; and each key remembers where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tomli

from qedge.base.settings import Fault, KeyPath
from qedge.base.toml_lines import key_lines
from qedge.base.units import format_bytes

MAX_FILE_BYTES: Final = 2**20
MAX_FILES: Final = 256
MAX_DEPTH: Final = 32
"""Levels of tables and arrays; nothing that qedge reads goes deeper than six."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The place of a key: `line` 1 is the first."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Layer:
    """One file: its values, and the line of every key in it."""

    file: str
    values: dict[str, object]
    lines: Mapping[KeyPath, int]


@dataclass(frozen=True, slots=True)
class LayeredToml:
    """What all files say together; `faults` are those of files that could not be read at all."""

    layers: tuple[Layer, ...]
    values: dict[str, object]
    faults: tuple[Fault, ...]

    def origin(self, path: KeyPath) -> Origin | None:
        """Return where the value at `path` was given: the last file that names it. None: nowhere, it is a default."""
        for layer in reversed(self.layers):
            if path in layer.lines:
                return Origin(layer.file, layer.lines[path])
        return None

    def under(self, layer: Layer | None, faults: tuple[Fault, ...] = ()) -> LayeredToml:
        """Return what all files say with one more on top, and further faults."""
        above = (layer,) if layer is not None else ()
        values = merge(self.values, layer.values) if layer is not None else self.values
        return LayeredToml((*self.layers, *above), values, (*self.faults, *faults))

    def nearest_origin(self, path: KeyPath) -> Origin | None:
        """Return where `path` or the innermost table around it was given."""
        for length in range(len(path), 0, -1):
            origin = self.origin(path[:length])
            if origin is not None:
                return origin
        return None


def read_layers(files: Sequence[Path]) -> LayeredToml:
    """Read files in order of rising precedence; a file that cannot be read is a fault, the others still count."""
    layers: list[Layer] = []
    faults: list[Fault] = []
    for file in files[:MAX_FILES]:
        found = read_layer(file)
        if isinstance(found, Fault):
            faults.append(found)
        else:
            layers.append(found)
    if len(files) > MAX_FILES:
        faults.append(
            Fault((), f"{len(files)} files", f"at most {MAX_FILES} files in one folder", str(files[MAX_FILES]))
        )
    values: dict[str, object] = {}
    for layer in layers:
        values = merge(values, layer.values)
    return LayeredToml(tuple(layers), values, tuple(faults))


def read_layer(file: Path) -> Layer | Fault:
    """Read one file, within limits."""
    name = str(file)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return Fault((), f"cannot be read ({error.strerror})", "a file that this user may read", name)
    if len(data) > MAX_FILE_BYTES:
        return Fault((), "is too large", f"a file of at most {format_bytes(MAX_FILE_BYTES)}", name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Fault((), "is not UTF-8", "text in UTF-8", name, data.count(b"\n", 0, error.start) + 1)
    return parse_layer(name, text)


def parse_layer(name: str, text: str) -> Layer | Fault:
    """Parse the text of one file."""
    too_deep = Fault((), "is nested too deeply", f"at most {MAX_DEPTH} levels of tables and arrays", name)
    try:
        values = tomli.loads(text)
        if _deeper_than(values, MAX_DEPTH):
            return too_deep
        lines = key_lines(text)
    except tomli.TOMLDecodeError as error:
        problem = f"is not valid TOML ({error.msg})"
        return Fault((), problem, "TOML 1.0", name, error.lineno, error.colno)
    except RecursionError:
        return too_deep
    except ValueError as error:  # a number of more digits than Python converts
        return Fault((), f"holds a value that cannot be read ({error})", "TOML 1.0", name)
    return Layer(name, values, lines)


def merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """Return `base` with `over` laid on top: tables merge, everything else (arrays too) is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _deeper_than(value: object, levels: int) -> bool:
    inner: list[object] = [value]
    for _ in range(levels):
        tables = [item for item in inner if isinstance(item, (dict, list))]
        inner = [part for item in tables for part in (item.values() if isinstance(item, dict) else item)]
        if not inner:
            return False
    return any(isinstance(item, (dict, list)) for item in inner)
