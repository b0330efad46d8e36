"""Tokens of OpenQASM 2 and 3, one at a time, with the position of each; errors carry line and column."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

from qedge.base.errors import Detail, QedgeError

# One match is what separates tokens, and the token. Every alternative starts with characters no other one starts with,
# and repeats are possessive: linear time.
_TOKEN_2: Final = re.compile(
    r"(?:[ \t\r\n]++|//[^\n]*+)*+(?:"
    r"([A-Za-z_][A-Za-z0-9_]*+)"
    r"|((?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)"
    r'|("[^"\n]*+")'
    r"|(->|==|[()\[\]{},;+\-*/^])"
    r")?+"
)
_TOKEN_3: Final = re.compile(
    r"(?:[ \t\r\n]++|//[^\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/)*+(?:"
    r"([A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*+)"
    r"|(0[xX][0-9a-fA-F_]++|0[bB][01_]++|0[oO][0-7_]++"
    r"|(?:[0-9][0-9_]*+(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)"
    r'|("[^"\n]*+")'
    r"|(->|\*\*|\+\+|\|\||&&|==|!=|<=|>=|<<|>>|[()\[\]{},;:+\-*/^%&|~!<>=@#])"
    r"|(\$[0-9]++)"
    r")?+"
)
_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*+"
_BIT: Final = _NAME + r"\[[0-9]{1,9}\]"
NAMES: Final = re.compile(rf"{_NAME}(?:[ \t]*+,[ \t]*+{_NAME})*+(?=[ \t]*+;)")
"""A list of names, as most programs write one."""
BITS: Final = re.compile(rf"{_BIT}(?:[ \t]*+,[ \t]*+{_BIT})*+(?=[ \t]*+;)")
"""A list of single bits of registers."""
_KINDS: Final = ("", "name", "number", "string", "symbol", "physical")
_NUMBER: Final = 2
_EXCERPT_CHARS: Final = 40

END: Final = "end of the program"
_NEW: Final = tuple.__new__


class Token(NamedTuple):
    """`kind` is `name`, `number`, `string`, `symbol` or `END`; `at` and `end` are offsets into the text."""

    kind: str
    text: str
    at: int
    end: int

    def __str__(self) -> str:
        if self.kind == END:
            return END
        return f"'{self.text[:_EXCERPT_CHARS]}'"


def fault(text: str, at: int, code: str, message: str, *, fix: str = "", **details: Detail) -> QedgeError:
    """Make the error `code` for offset `at` of `text`, with line and column (both from 1) in words and as details."""
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return QedgeError(code, f"line {line}, column {column}: {message}", fix=fix, line=line, column=column, **details)


class Lexer:
    """A cursor over a program text with one token of look-ahead."""

    pattern: ClassVar[re.Pattern[str]] = _TOKEN_2

    def __init__(self, text: str, at: int = 0, *, max_number_chars: int = 400) -> None:
        self.text = text
        self._max_number_chars = max_number_chars
        self._match = self.pattern.match
        self.token = self._scan(at)

    def _scan(self, at: int) -> Token:
        match = self._match(self.text, at)
        index = match.lastindex if match is not None else None
        if match is None or index is None:
            return self._no_token(match.end() if match is not None else at)
        start, end = match.span(index)
        if index == _NUMBER and end - start > self._max_number_chars:
            limit = self._max_number_chars
            raise self.fault(
                start, "circuit.bad_number", f"expected a number of at most {limit} characters", limit=limit
            )
        # as Token(…) does, without the call of a function in Python for every token
        return _NEW(Token, (_KINDS[index], match.group(index), start, end))

    def _no_token(self, at: int) -> Token:
        text = self.text
        if at >= len(text):
            return Token(END, "", at, at)
        shown = text[at] if text[at].isprintable() else f"character {ord(text[at]):#x}"
        raise self.fault(at, "circuit.syntax", f"expected a statement of OpenQASM, found {shown!r}")

    def take_list(self, pattern: re.Pattern[str], places: Mapping[str, int], most: int) -> tuple[int, ...]:
        """Return the places of the items of a list, and move behind it; empty, and nothing read, where it takes more.

        That is so where the list is not simply written, has more than `most` items or one that `places` does not know.
        """
        match = pattern.match(self.text, self.token.at)
        if match is None:
            return ()
        found = tuple([places.get(item.strip(" \t"), -1) for item in match[0].split(",")])
        if min(found) < 0 or len(found) > most:
            return ()
        self.token = self._scan(match.end())
        return found

    def move(self, at: int) -> None:
        """Go to an offset, for example back to the start of a loop's body."""
        self.token = self._scan(at)

    def next(self) -> Token:
        """Return the current token and move behind it."""
        token = self.token
        self.token = self._scan(token.end)
        return token

    def accept(self, symbol: str) -> bool:
        """Move behind `symbol` if it is the current token."""
        if self.token.text == symbol and self.token.kind == "symbol":
            self.token = self._scan(self.token.end)
            return True
        return False

    def expect(self, symbol: str) -> Token:
        """Move behind `symbol` or raise."""
        if self.token.text != symbol or self.token.kind != "symbol":
            raise self.unexpected(f"'{symbol}'")
        return self.next()

    def expect_kind(self, kind: str, what: str) -> Token:
        """Move behind a token of `kind`, described by `what` in the error."""
        if self.token.kind != kind:
            raise self.unexpected(what)
        return self.next()

    def expect_int(self, what: str) -> int:
        """Read a whole number without sign."""
        token = self.expect_kind("number", what)
        if not token.text.isdigit():
            raise self.fault(token.at, "circuit.bad_number", f"expected {what}, found {token}")
        return int(token.text)

    def unexpected(self, expected: str) -> QedgeError:
        """Make the error for a current token that is not what was `expected`."""
        return self.fault(self.token.at, "circuit.syntax", f"expected {expected}, found {self.token}")

    def fault(self, at: int, code: str, message: str, *, fix: str = "", **details: Detail) -> QedgeError:
        """Make an error at offset `at`."""
        return fault(self.text, at, code, message, fix=fix, **details)


class Lexer3(Lexer):
    """Tokens of OpenQASM 3; `physical` is a kind more."""

    pattern: ClassVar[re.Pattern[str]] = _TOKEN_3

    def names(self, name: str, start: int) -> bool:
        """Say whether a name stands between an offset and the current token; one in a comment counts too."""
        return re.search(rf"\b{re.escape(name)}\b", self.text[start : self.token.at]) is not None
