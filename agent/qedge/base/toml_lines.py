"""Where in a TOML text each key stands: for the line numbers in the faults of a configuration.

tomli gives values without positions. This reads a text that tomli has accepted once more, by the same grammar (TOML
1.0), and notes the line of every table, key and array item; it looks at no value closer than is needed to skip it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Final

from qedge.base.settings import Key, KeyPath

_BLANK: Final = re.compile(r"[ \t]*")
_GAP: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SKIP: Final = re.compile(r"[ \t]*(?:#[^\n]*)?\r?\n?")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRING: Final = re.compile(
    r'"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
)
_SCALAR: Final = re.compile(r"[^,\]}#\r\n]+")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|(.))")
_SHORT_ESCAPES: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (1 = first) of every key path in a text that is valid TOML; array items have index keys.

    A table opened in several places stands where it first appears.
    """
    return dict(_Scanner(text).scan())


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._line = 1
        self._counted = 0
        self._array_sizes: dict[KeyPath, int] = {}
        self._seen: set[KeyPath] = set()

    def scan(self) -> Iterator[tuple[KeyPath, int]]:
        table: KeyPath = ()
        while self._position < len(self._text):
            self._pass(_SKIP)
            if self._position >= len(self._text):
                return
            if self._text.startswith("[", self._position):
                table = yield from self._header()
            elif self._text[self._position] not in " \t\r\n#":
                yield from self._pair(table)

    def _header(self) -> Generator[tuple[KeyPath, int], None, KeyPath]:
        brackets = 2 if self._text.startswith("[[", self._position) else 1
        line = self._line_here()
        self._position += brackets
        keys = self._keys()
        self._position += brackets
        path: KeyPath = ()
        for index, key in enumerate(keys):
            path = (*path, key)
            yield from self._note(path, line)
            if brackets == 2 and index == len(keys) - 1:
                self._array_sizes[path] = self._array_sizes.get(path, 0) + 1
            if path in self._array_sizes:
                path = (*path, self._array_sizes[path] - 1)
                yield from self._note(path, line)
        return path

    def _pair(self, table: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        line = self._line_here()
        path = table
        for key in self._keys():
            path = (*path, key)
            yield from self._note(path, line)
        self._position += 1  # the equals sign
        self._pass(_BLANK)
        yield from self._value(path)

    def _value(self, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        start = self._text[self._position : self._position + 1]
        if start == "[":
            yield from self._array(path)
        elif start == "{":
            yield from self._inline_table(path)
        elif start in ('"', "'"):
            self._pass(_STRING)
        else:
            self._pass(_SCALAR)

    def _array(self, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        self._position += 1
        index = 0
        while not self._closes("]"):
            item = (*path, index)
            yield from self._note(item, self._line_here())
            yield from self._value(item)
            index += 1

    def _inline_table(self, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        self._position += 1
        while not self._closes("}"):
            yield from self._pair(path)

    def _closes(self, bracket: str) -> bool:
        """Pass commas, blanks and comments between items; say whether `bracket` closed the value."""
        self._pass(_GAP)
        if self._text.startswith(",", self._position):
            self._position += 1
            self._pass(_GAP)
        if self._text.startswith(bracket, self._position):
            self._position += 1
            return True
        if self._position >= len(self._text):
            raise ValueError("the text is not valid TOML")
        return False

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._pass(_BLANK)
            if self._text[self._position : self._position + 1] in ('"', "'"):
                keys.append(_unquote(self._pass(_STRING)))
            else:
                keys.append(self._pass(_BARE))
            self._pass(_BLANK)
            if not self._text.startswith(".", self._position):
                return keys
            self._position += 1

    def _note(self, path: KeyPath, line: int) -> Iterator[tuple[KeyPath, int]]:
        if path not in self._seen:
            self._seen.add(path)
            yield path, line

    def _pass(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._position)
        if match is None:
            raise ValueError("the text is not valid TOML")
        self._position = match.end()
        return match.group()

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._position)
        self._counted = self._position
        return self._line


def _unquote(token: str) -> str:
    if token.startswith("'"):
        return token[1:-1]
    return _ESCAPE.sub(_unescape, token[1:-1])


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1) or match.group(2) or match.group(3)
    return chr(int(code, 16)) if code else _SHORT_ESCAPES.get(match.group(4), match.group(4))


def nearest_line(lines: dict[KeyPath, int], path: tuple[Key, ...]) -> int:
    """Return the line of a path, or of the innermost table around it that stands in the text; 0 where none does."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 0
