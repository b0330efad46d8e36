"""Properties of `qedge.base.toml_lines`: it finds every key that tomli finds, on the line where it was written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tomli
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qedge.base.settings import KeyPath
from qedge.base.toml_lines import key_lines, nearest_line

BARE = st.text("abcXYZ019_-", min_size=1, max_size=4)
QUOTED = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=5)
TEXTS = st.sampled_from(
    [
        '"plain"',
        "'literal # no comment'",
        '"quote \\" and # and ] and }"',
        '"""one line"""',
        '"""\nfirst = 1\n[not.a.table]\n"""',
        "'''\nraw = \"\"\" \\\n'''",
        '"""two quotes "" inside"""',
        '"""ends with quotes"""""',
        "''''quoted''''",
        '""""""',
        '"""back\\\n   slash"""',
        '""',
        "''",
    ]
)
SCALARS = st.sampled_from(["1", "-2.5e3", "true", "1979-05-27 07:32:00Z", "nan", "0x1F", "1_000"]) | TEXTS


def _key(draw: st.DrawFn) -> tuple[str, str]:
    """Return a key and one way to write it."""
    if draw(st.booleans()):
        key = draw(BARE)
        return key, draw(st.sampled_from([key, f'"{key}"', f"'{key}'"]))
    key = draw(QUOTED)
    return key, '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Writer:
    """Writes a random document line by line and notes where it put each key."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def note(self, path: KeyPath) -> None:
        self.lines.setdefault(path, self.line)

    def gap(self) -> str:
        return self.draw(st.sampled_from(["", " ", "\t", "\n", " # comment ] } = \n", "\n\n  "]))

    def value(self, path: KeyPath, depth: int) -> None:
        kind = self.draw(st.sampled_from(["scalar", "array", "inline"] if depth < 3 else ["scalar"]))
        if kind == "scalar":
            self.text += self.draw(SCALARS)
        elif kind == "array":
            self.array(path, depth)
        else:
            self.inline(path, depth)

    def array(self, path: KeyPath, depth: int) -> None:
        self.text += "["
        size = self.draw(st.integers(0, 3))
        for index in range(size):
            self.text += self.gap()
            self.note((*path, index))
            self.value((*path, index), depth + 1)
            self.text += self.gap()
            if index < size - 1 or self.draw(st.booleans()):
                self.text += ","
        self.text += self.gap() + "]"

    def inline(self, path: KeyPath, depth: int) -> None:
        self.text += "{"
        names: set[str] = set()
        for index in range(self.draw(st.integers(0, 2))):
            key, written = _key(self.draw)
            if key in names:
                continue
            names.add(key)
            self.text += (", " if index and len(names) > 1 else " ") + written + " = "
            self.note((*path, key))
            self.value((*path, key), depth + 1)
        self.text += " }"

    def pairs(self, table: KeyPath) -> None:
        names: set[str] = set()
        for _ in range(self.draw(st.integers(0, 3))):
            written: list[str] = []
            path = table
            for part in range(self.draw(st.integers(1, 2))):
                key, form = _key(self.draw)
                if part == 0 and key in names:
                    break
                names.add(key)
                written.append(form)
                path = (*path, key)
                self.note(path)
            else:
                self.text += self.draw(st.sampled_from(["", "  "]))
                self.text += self.draw(st.sampled_from([".", " . "])).join(written) + " = "
                self.value(path, 0)
                self.text += self.draw(st.sampled_from(["\n", " # why\n", "\n# a = 1\n", "\n\n"]))

    def document(self) -> None:
        self.pairs(())
        arrays: dict[str, int] = {}
        names = {str(path[0]) for path in self.lines}
        for _ in range(self.draw(st.integers(0, 4))):
            key, written = _key(self.draw)
            if key in arrays or (key not in names and self.draw(st.booleans())):
                index = arrays.get(key, -1) + 1
                arrays[key] = index
                names.add(key)
                self.note((key,))
                self.note((key, index))
                self.text += f"[[{written}]]\n"
                self.pairs((key, index))
            elif key not in names:
                names.add(key)
                inner, inner_written = _key(self.draw)
                self.note((key,))
                self.note((key, inner))
                self.text += f"[ {written}.{inner_written} ] # header\n"
                self.pairs((key, inner))


def _paths(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    items: Iterator[tuple[str | int, object]] = iter(())
    if isinstance(value, dict):
        items = iter(value.items())
    elif isinstance(value, list):
        items = iter(enumerate(value))
    for key, inner in items:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_every_key_is_found_on_its_line(data: st.DataObject) -> None:
    writer = _Writer(data.draw)
    writer.document()
    try:
        values = tomli.loads(writer.text)
    except tomli.TOMLDecodeError:
        # A drawn dotted key may run into a table that was closed before; such a text never reaches the scanner.
        return
    found = key_lines(writer.text)
    assert set(found) == set(_paths(values))
    assert {path: writer.lines[path] for path in found} == found


@given(st.text(st.sampled_from("a.b=[]{}\"'#\n ,1\\"), max_size=40))
@example('a="""\\"""" \n')
@example("a=[[],[{}]]\n[b.c]\nd=1")
@settings(max_examples=500, deadline=None)
def test_any_text_that_tomli_accepts_gives_exactly_its_keys(text: str) -> None:
    try:
        values = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    assert set(key_lines(text)) == set(_paths(values))


def test_a_missing_key_stands_where_its_table_does() -> None:
    lines = key_lines("\n[a.b]\nc = 1\n")
    assert nearest_line(lines, ("a", "b", "missing")) == 2
    assert nearest_line(lines, ("z",)) == 0


@pytest.mark.parametrize("text", ["a = 1\r\nb = 2\r\n", "# only\n\nb=1\nb1=2", "a.b.c = 1\n"])
def test_line_ends_of_any_kind_count_once(text: str) -> None:
    lines = key_lines(text)
    assert max(lines.values()) == len(text.rstrip().splitlines())
