"""Drawing in a terminal: colours only where somebody looks, tables and histograms that fit the width."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

MAX_WIDTH: Final = 100
DEFAULT_WIDTH: Final = 80
MAX_KEY: Final = 40

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class Terminal:
    """What the other end can show: `color` ANSI colours, `unicode` block characters, `width` in columns."""

    color: bool = False
    unicode: bool = True
    width: int = DEFAULT_WIDTH

    def bold(self, text: str) -> str:
        """Print heavier."""
        return self._paint("1", text)

    def dim(self, text: str) -> str:
        """Print fainter."""
        return self._paint("2", text)

    def good(self, text: str) -> str:
        """Print as something that works."""
        return self._paint("32", text)

    def warn(self, text: str) -> str:
        """Print as something to look at."""
        return self._paint("33", text)

    def bad(self, text: str) -> str:
        """Print as something broken."""
        return self._paint("31", text)

    def accent(self, text: str) -> str:
        """Print as data."""
        return self._paint("36", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and text else text


def terminal_of(stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> Terminal:
    """Look at an output stream; nothing is coloured in a pipe, with `NO_COLOR`, or on a dumb terminal."""
    stream = sys.stdout if stream is None else stream
    tty = stream.isatty()
    color = tty and not environ.get("NO_COLOR") and environ.get("TERM", "") != "dumb"
    unicode = (getattr(stream, "encoding", None) or "").lower().replace("-", "") in ("utf8", "utf16", "utf32")
    width = min(shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns, MAX_WIDTH) if tty else DEFAULT_WIDTH
    return Terminal(color=color, unicode=unicode, width=max(width, 30))


def clean(text: str) -> str:
    """Return text from elsewhere without control characters, so that it cannot steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of text longer than `limit` characters."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def histogram_lines(counts: Mapping[str, int], *, limit: int = 16, terminal: Terminal = Terminal()) -> list[str]:
    """Draw the most frequent outcomes, one line each; the rest is summed up in a last line."""
    total = sum(counts.values())
    if not total:
        return ["no outcomes"]
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = order[:limit], order[limit:]
    keys = [shorten(clean(key) or "(none)", MAX_KEY) for key, _ in shown]
    key_width, count_width = max(map(len, keys)), len(str(shown[0][1]))
    room = max(10, terminal.width - key_width - count_width - 12)
    lines = [
        f"{key:<{key_width}} {terminal.accent(bar(count / shown[0][1], room, terminal))} "
        f"{count:>{count_width}} {count / total:>7.2%}"
        for key, (_, count) in zip(keys, shown, strict=True)
    ]
    if rest:
        share = sum(count for _, count in rest)
        lines.append(terminal.dim(f"and {len(rest)} more outcomes with {share} shots ({share / total:.2%})"))
    return lines


def bar(share: float, room: int, terminal: Terminal) -> str:
    """Draw a share 0 … 1 as a bar of up to `room` columns."""
    if not terminal.unicode:
        return ("#" * max(1, round(share * room))).ljust(room)
    eighths = max(1, round(share * room * 8))
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).strip().ljust(room)


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]], *, terminal: Terminal = Terminal()) -> list[str]:
    """Draw a table; the last column gives way where the terminal is too narrow."""
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    widths[-1] = max(8, min(widths[-1], terminal.width - before))
    lines = [terminal.dim(_row(header, widths))]
    return lines + [paint_states(_row(row, widths), terminal) for row in cells]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(_fit(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _fit(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else f"{cell[: width - 1]}…"


_GOOD: Final = frozenset({"ready", "up", "done", "busy", "running", "healthy", "alive"})
_BAD: Final = frozenset({"down", "failed", "backoff", "expired", "dead", "revoked", "duplicate", "quarantined"})
_WARN: Final = frozenset(
    {"degraded", "locked", "starting", "queued", "stopped", "cancelled", "suspect", "contained", "draining"}
)


def paint_states(line: str, terminal: Terminal) -> str:
    """Colour the words of a line that are states."""
    if not terminal.color:
        return line
    return " ".join(paint_state(word, terminal) for word in line.split(" "))


def paint_state(word: str, terminal: Terminal) -> str:
    """Colour one word if it is a state."""
    word = clean(word)
    if word in _GOOD:
        return terminal.good(word)
    if word in _BAD:
        return terminal.bad(word)
    return terminal.warn(word) if word in _WARN else word
