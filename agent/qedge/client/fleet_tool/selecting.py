"""Which nodes are meant: a small language over what nodes say of themselves. Pure.

`label=edge and name=rack-* and version>=1.2 and not state=lost`; `and` binds closer than `or`, `not` closest, round
brackets group; `all` means every node. Keys:

- `name`, `label`, `state`, `capability` (kind, driver or name of one that is up): `=` and `!=`, with `*`, `?`, `[…]`;
- `version`: `=` and `!=` with the same patterns, and `<`, `<=`, `>`, `>=` by PEP 440's order of releases;
- `policy`, `config`, `epoch`: whole numbers, all six comparisons.

A value with blanks or brackets stands in double quotes. A node without labels has no label that equals anything.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from qedge.base.errors import QedgeError
from qedge.client.fleet_tool.model import FleetNode

MAX_LENGTH: Final = 2000
MAX_DEPTH: Final = 50

Test = Callable[[FleetNode], bool]

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<bracket>[()])|(?P<key>[a-z]+)\s*(?P<op><=|>=|!=|=|<|>)\s*"
    r"(?:\"(?P<quoted>[^\"]*)\"|(?P<value>[^\s()\"]+))|(?P<word>[a-z]+)(?=[\s()]|$))"
)
_ORDERS: Final[dict[str, Callable[[object, object], bool]]] = {
    "<": operator.lt,  # type: ignore[dict-item] # both sides are of one type, which orders
    "<=": operator.le,  # type: ignore[dict-item] # as above
    ">": operator.gt,  # type: ignore[dict-item] # as above
    ">=": operator.ge,  # type: ignore[dict-item] # as above
}
_NUMBERS: Final[dict[str, Callable[[FleetNode], int]]] = {
    "policy": lambda node: node.policy_serial,
    "config": lambda node: node.config_serial,
    "epoch": lambda node: node.epoch,
}
_TEXTS: Final[dict[str, Callable[[FleetNode], Iterable[str]]]] = {
    "name": lambda node: (node.name,),
    "label": lambda node: node.labels,
    "state": lambda node: (node.state.value,),
    "version": lambda node: (node.version,),
    "capability": lambda node: {each for one in node.capabilities for each in (one.kind, one.driver, one.name)},
}
_VERSION: Final = re.compile(r"v?(\d+(?:\.\d+)*)(?:[-_.]?(a|alpha|b|beta|c|rc|pre|post|dev)[-_.]?(\d*))?(?:\+\S*)?")
_STAGES: Final = {"dev": -4, "a": -3, "alpha": -3, "b": -2, "beta": -2, "c": -1, "rc": -1, "pre": -1, "post": 1}

VersionKey = tuple[tuple[int, ...], int, int]


@dataclass(frozen=True, slots=True)
class Selection:
    """An expression that was read."""

    text: str
    test: Test

    def pick(self, nodes: Iterable[FleetNode]) -> tuple[FleetNode, ...]:
        """Return the nodes that are meant, in the order of their names."""
        return tuple(sorted((node for node in nodes if self.test(node)), key=lambda node: node.name))


def parse_selection(text: str) -> Selection:
    """Read an expression; raises `fleet.bad_selection`, which says where."""
    if len(text) > MAX_LENGTH:
        raise _bad(text[:40] + "…", f"it is longer than {MAX_LENGTH} characters")
    reader = _Reader(text)
    test = reader.either(0)
    if reader.at < len(text.rstrip()):
        raise _bad(text, f"nothing may stand at {text[reader.at :][:20]!r}")
    return Selection(text, test)


def version_key(text: str) -> VersionKey | None:
    """Return what versions are ordered by: release without trailing zeros, stage, its number; None for no version."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    release = [int(part) for part in match[1].split(".")]
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    return tuple(release), _STAGES.get(match[2], 0), int(match[3] or 0)


class _Reader:
    """Recursive descent over the text; `at` is where it stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def either(self, depth: int) -> Test:
        """Read terms joined by `or`."""
        tests = [self._both(depth)]
        while self._takes("or"):
            tests.append(self._both(depth))
        return tests[0] if len(tests) == 1 else lambda node: any(test(node) for test in tests)

    def _both(self, depth: int) -> Test:
        tests = [self._one(depth)]
        while self._takes("and"):
            tests.append(self._one(depth))
        return tests[0] if len(tests) == 1 else lambda node: all(test(node) for test in tests)

    def _one(self, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise _bad(self._text, "it is nested too deeply")
        match = _TOKEN.match(self._text, self.at)
        if match is None:
            rest = self._text[self.at :].strip()
            raise _bad(self._text, f"{rest[:20]!r} is no condition" if rest else "a condition is missing at its end")
        self.at = match.end()
        if match["word"] == "not":
            inner = self._one(depth + 1)
            return lambda node: not inner(node)
        if match["word"] == "all":
            return lambda node: True
        if match["bracket"] == "(":
            test = self.either(depth + 1)
            closing = _TOKEN.match(self._text, self.at)
            if closing is None or closing["bracket"] != ")":
                raise _bad(self._text, "a bracket is not closed")
            self.at = closing.end()
            return test
        if match["key"]:
            value = match["value"] if match["quoted"] is None else match["quoted"]
            return _condition(self._text, match["key"], match["op"], value)
        raise _bad(self._text, f"{match[0].strip()!r} may not stand there")

    def _takes(self, word: str) -> bool:
        match = _TOKEN.match(self._text, self.at)
        if match is None or match["word"] != word:
            return False
        self.at = match.end()
        return True


def _condition(text: str, key: str, op: str, value: str) -> Test:
    if key in _NUMBERS:
        return _number(text, key, op, value)
    if key not in _TEXTS:
        raise _bad(text, f"nodes have no {key!r}; there are {', '.join(sorted({*_NUMBERS, *_TEXTS}))}")
    read = _TEXTS[key]
    if op in ("=", "!="):
        wanted = op == "="
        return lambda node: any(fnmatchcase(each, value) for each in read(node)) is wanted
    bound = version_key(value) if key == "version" else None
    if bound is None:
        raise _bad(text, f"{value!r} is no version" if key == "version" else f"{key} has no order")
    order = _ORDERS[op]

    def compare(node: FleetNode) -> bool:
        # a node whose version cannot be read is neither older nor newer than any
        found = version_key(node.version)
        return found is not None and order(found, bound)

    return compare


def _number(text: str, key: str, op: str, value: str) -> Test:
    if not value.isdecimal() or len(value) > 19:
        raise _bad(text, f"{key} is compared with a whole number, not with {value!r}")
    read, bound = _NUMBERS[key], int(value)
    if op in ("=", "!="):
        wanted = op == "="
        return lambda node: (read(node) == bound) is wanted
    order = _ORDERS[op]
    return lambda node: order(read(node), bound)


def _bad(text: str, why: str) -> QedgeError:
    return QedgeError(
        "fleet.bad_selection",
        f"The selection {text!r} cannot be read: {why}.",
        fix="For example: label=edge and name=rack-* and version<1.3; `all` means every node.",
    )
