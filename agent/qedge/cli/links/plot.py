"""Rate against distance in a terminal: dots of braille on a logarithmic scale, letters where there is no braille."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from qedge.cli.terminal import Terminal
    from qedge.qkd.planning.plan import PlanPoint

HEIGHT: Final = 14
MAX_DECADES: Final = 10

_LABEL: Final = 6
_UNITS: Final = {9: "1G", 8: "100M", 7: "10M", 6: "1M", 5: "100k", 4: "10k", 3: "1k", 2: "100", 1: "10", 0: "1"}
_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))

Cell = tuple[str, int]


def plot_lines(points: Sequence[PlanPoint], terminal: Terminal) -> list[str]:
    """Draw the secret rate and the PLOB bound of at least two distances."""
    secret = [(point.distance_km, point.secret_bits_per_s) for point in points]
    bound = [(point.distance_km, point.bound_bits_per_s) for point in points]
    top, bottom = _decades([rate for _, rate in (*secret, *bound)], [rate for _, rate in secret])
    width = max(20, min(terminal.width, 84) - _LABEL - 2)
    reach = points[0].distance_km, points[-1].distance_km
    canvas: list[list[Cell]] = [[(" ", 0)] * width for _ in range(HEIGHT)]
    for series, letter in ((bound, 1), (secret, 2)):
        _trace(canvas, series, reach, (bottom, top), letter, terminal)
    paints: tuple[Callable[[str], str], ...] = (str, terminal.dim, terminal.accent)
    lines = [_legend(terminal)]
    shown = ""
    for row, cells in enumerate(canvas):
        exponent = round(top - (row + 0.5) * (top - bottom) / HEIGHT)
        label = _UNITS.get(exponent, f"1e{exponent}")
        near = abs(top - (row + 0.5) * (top - bottom) / HEIGHT - exponent) <= (top - bottom) / HEIGHT / 2
        label, shown = (label, label) if near and label != shown else ("", shown)
        edge = "│" if terminal.unicode else "|"
        lines.append(f"{label:>{_LABEL}} {edge}" + "".join(paints[kind](text) for text, kind in cells).rstrip())
    corner, dash = ("└", "─") if terminal.unicode else ("+", "-")
    lines.append(f"{'':>{_LABEL}} {corner}{dash * width}")
    first, last = f"{reach[0]:g} km", f"{reach[1]:g} km"
    lines.append(f"{'':>{_LABEL + 2}}{first}{last:>{width - len(first)}}")
    return lines


def _legend(terminal: Terminal) -> str:
    secret, bound = ("⣿ secret key", "⠒ PLOB bound") if terminal.unicode else ("* secret key", ". PLOB bound")
    return f"{'bit/s':>{_LABEL}}   {terminal.accent(secret)}   {terminal.dim(bound)}"


def _decades(rates: Sequence[float], secret: Sequence[float]) -> tuple[int, int]:
    """Return the exponents at which the scale ends above and below."""
    some = [rate for rate in rates if 0 < rate < math.inf]
    if not some:
        return 1, 0
    top = math.ceil(math.log10(max(some)))
    least = min((rate for rate in secret if rate > 0), default=min(some))
    return top, max(min(math.floor(math.log10(least)), top - 1), top - MAX_DECADES)


def _trace(
    canvas: list[list[Cell]],
    series: Sequence[tuple[float, float]],
    reach: tuple[float, float],
    scale: tuple[int, int],
    kind: int,
    terminal: Terminal,
) -> None:
    """Draw one curve, straight between its points; nothing where the rate is 0, infinite, or off the scale."""
    width, (bottom, top) = len(canvas[0]), scale
    finite = [(km, math.log10(rate)) for km, rate in series if 0 < rate < math.inf]
    columns, rows = 2 * width, 4 * HEIGHT
    for column in range(columns):
        km = reach[0] + (reach[1] - reach[0]) * column / (columns - 1)
        value = _between(finite, km)
        if value is None or not bottom <= value <= top:
            continue
        if kind == 1 and column % 4 > 1:
            continue  # the bound is dotted, so that the two are told apart without colours
        row = min(rows - 1, int((top - value) / (top - bottom) * rows))
        _dot(canvas, column, row, kind, terminal)


def _dot(canvas: list[list[Cell]], column: int, row: int, kind: int, terminal: Terminal) -> None:
    line, cell = canvas[row // 4], column // 2
    text, before = line[cell]
    if not terminal.unicode:
        line[cell] = (".", 1) if kind == 1 and before != 2 else ("*", 2)
        return
    dots = (ord(text) - 0x2800 if text != " " else 0) | _DOTS[row % 4][column % 2]
    line[cell] = (chr(0x2800 + dots), max(before, kind))


def _between(series: Sequence[tuple[float, float]], km: float) -> float | None:
    for (left, low), (right, high) in pairwise(series):
        if left <= km <= right and right > left:
            return low + (high - low) * (km - left) / (right - left)
    return None
