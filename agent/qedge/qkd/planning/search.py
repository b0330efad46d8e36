"""A small optimiser for a few bounded variables: the simplex of Nelder and Mead, clipped to a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

Point = tuple[float, ...]

_REFLECT: Final = 1.0
_EXPAND: Final = 2.0
_CONTRACT: Final = 0.5
_SHRINK: Final = 0.5


def maximise(
    function: Callable[[Point], float],
    start: Sequence[float],
    bounds: Sequence[tuple[float, float]],
    *,
    step: float = 0.1,
    tolerance: float = 1e-6,
    max_evaluations: int = 600,
) -> tuple[Point, float]:
    """Climb from `start` to a local maximum within `bounds`; returns the place and the value there.

    `step` is the size of the first simplex as a share of each bound's width. Ends when the values of the simplex
    differ by less than `tolerance` of the best, or after about `max_evaluations`. Deterministic.
    """
    simplex = [(function(corner), corner) for corner in _corners(start, bounds, step)]
    evaluations = len(simplex)
    while evaluations < max_evaluations:
        simplex.sort(key=lambda item: -item[0])
        (best, _), (worst, last) = simplex[0], simplex[-1]
        if abs(best - worst) <= tolerance * abs(best):
            break
        others = [corner for _, corner in simplex[:-1]]
        centre = tuple(sum(values) / len(others) for values in zip(*others, strict=True))
        tried = _try(function, centre, last, _REFLECT, bounds)
        evaluations += 1
        if tried[0] > best:
            further = _try(function, centre, last, _EXPAND, bounds)
            evaluations += 1
            simplex[-1] = max(tried, further)
        elif tried[0] > simplex[-2][0]:
            simplex[-1] = tried
        else:
            inner = _try(function, centre, last, -_CONTRACT if tried[0] <= worst else _CONTRACT, bounds)
            evaluations += 1
            if inner[0] > max(tried[0], worst):
                simplex[-1] = inner
            else:
                simplex = simplex[:1] + [_try(function, simplex[0][1], c, -_SHRINK, bounds) for _, c in simplex[1:]]
                evaluations += len(simplex) - 1
    value, place = max(simplex)
    return place, value


def _corners(start: Sequence[float], bounds: Sequence[tuple[float, float]], step: float) -> list[Point]:
    first = _clip(start, bounds)
    corners = [first]
    for axis, (low, high) in enumerate(bounds):
        away = step * (high - low)
        moved = first[axis] + away if first[axis] + away <= high else first[axis] - away
        corners.append((*first[:axis], moved, *first[axis + 1 :]))
    return corners


def _try(
    function: Callable[[Point], float],
    centre: Point,
    corner: Point,
    factor: float,
    bounds: Sequence[tuple[float, float]],
) -> tuple[float, Point]:
    """Evaluate at centre + factor (centre − corner)."""
    place = _clip([c + factor * (c - x) for c, x in zip(centre, corner, strict=True)], bounds)
    return function(place), place


def _clip(place: Sequence[float], bounds: Sequence[tuple[float, float]]) -> Point:
    return tuple(min(max(value, low), high) for value, (low, high) in zip(place, bounds, strict=True))
