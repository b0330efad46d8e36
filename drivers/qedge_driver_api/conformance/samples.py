"""Settings to test by: values for what has no default, and values that a driver must refuse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from qedge_driver_api.driver import DriverInfo, SettingInfo


def sample_settings(info: DriverInfo, values: Mapping[str, object]) -> dict[str, object]:
    """Add to the given `values` one for each setting that must be given."""
    missing = {row.key: _some_value(row) for row in info.settings if row.default is None and row.key not in values}
    return {**missing, **values}


def _some_value(row: SettingInfo) -> object:
    if row.choices:
        return row.choices[0]
    if row.type.startswith("list["):
        return ()
    if row.type in ("int", "float"):
        number = row.minimum if row.minimum is not None else row.maximum if row.maximum is not None else 0.0
        return int(number) if row.type == "int" else float(number)
    return False if row.type == "bool" else ""


def refused_values(row: SettingInfo) -> Iterator[tuple[str, object]]:
    """Give (what is wrong, value) for values that break what the setting's own schema says."""
    listed = row.type.startswith("list[")
    kind = row.type[5:-1] if listed else row.type
    wrong: dict[str, object] = {"bool": "yes", "int": "many", "float": "much", "str": 7}
    faults: list[tuple[str, object]] = [("a value of another type", wrong[kind])]
    if kind in ("int", "float"):
        if row.minimum is not None:
            faults.append(("a value below the minimum", _number(kind, row.minimum, -1)))
        if row.maximum is not None:
            faults.append(("a value above the maximum", _number(kind, row.maximum, +1)))
        faults.append(("not a number", float("nan")))
        faults.append(("true for a number", True))
    if row.choices:
        faults.append(("a value that is no choice", _no_choice(row)))
    for what, value in faults:
        yield what, [value] if listed else value
    yield "a table", {"a": 1}
    if listed:
        yield "a single value for a list", wrong[kind]


def _number(kind: str, limit: float, sign: int) -> float | int:
    """Return the next value beyond a limit: the next whole number, or a millionth further."""
    if kind == "int":
        return math.floor(limit) + 1 if sign > 0 else math.ceil(limit) - 1
    return limit + sign * 1e-6 * max(1.0, abs(limit))


def _no_choice(row: SettingInfo) -> object:
    if all(isinstance(choice, str) for choice in row.choices):
        return "no such choice"
    numbers = [choice for choice in row.choices if isinstance(choice, (int, float))]
    return max(numbers, default=0) + 1


def extreme_values(row: SettingInfo) -> Iterator[object]:
    """Give values that the schema allows, at its very edges; a driver takes each or refuses it in good order."""
    listed = row.type.startswith("list[")
    kind = row.type[5:-1] if listed else row.type
    values: list[object] = list(row.choices)
    if not values:
        if kind == "bool":
            values = [False, True]
        elif kind == "str":
            values = ["", " ", "\0", "x" * 10_000, "/nonexistent/\N{SNOWMAN}"]
        elif kind == "int":
            values = [
                int(row.minimum) if row.minimum is not None else -(10**30),
                int(row.maximum) if row.maximum is not None else 10**30,
            ]
        else:
            values = [
                float(row.minimum) if row.minimum is not None else float("-inf"),
                float(row.maximum) if row.maximum is not None else float("inf"),
            ]
    for value in values:
        yield [value] if listed else value
    if listed:
        yield []
