"""The fleet's layer on top of the files of the box."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from qedge.base.layered_toml import Layer, LayeredToml, parse_layer, read_layer
from qedge.base.settings import Fault, KeyPath

FOREIGN_KEYS: Final[frozenset[KeyPath]] = frozenset({("node", "state_dir"), ("node", "runtime_dir")})
"""What the fleet may not set: where the layer itself is found, and where programs of the box find the daemon."""

_COMMANDS: Final[KeyPath] = ("fleet", "commands")
_TWO_PERSONS: Final[KeyPath] = (*_COMMANDS, "two_persons")
_KEPT_CLOCK: Final[KeyPath] = (*_COMMANDS, "synchronised_clock")


def with_fleet(text: LayeredToml, file: Path, given: str | None) -> tuple[LayeredToml, str]:
    """Lay the fleet's layer on top; returns its digest too, which is empty where there is none.

    `given` stands for the text of the file (empty: without one); None: the file itself is read, if it is there. What
    the fleet may not loosen is a fault. A file that is in force already and does without a kept clock, which an older
    version took, counts without that: to lose all the rest could cut the box off.
    """
    if given is None:
        try:
            data = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return text, ""  # a state folder that cannot be is told of when it is made
        except OSError:
            data = b""
        found = read_layer(file)
        if isinstance(found, Layer) and _without_clock(text, found):
            found = _without(found, _KEPT_CLOCK)
    elif not given:
        return text, ""
    else:
        data = given.encode()
        found = parse_layer(str(file), given)
    if isinstance(found, Fault):
        return text.under(None, (found,)), sha256(data).hexdigest()
    foreign = (
        Fault(key, "is not for the fleet to set", "this key in a file of the box", found.file, found.lines[key])
        for key in sorted(FOREIGN_KEYS)
        if key in found.lines
    )
    return text.under(found, (*foreign, *_loosened(text, found))), sha256(data).hexdigest()


def _loosened(text: LayeredToml, found: Layer) -> Iterator[Fault]:
    """Find what the fleet may only make stricter.

    Who needs a second person, or a clock that is kept, must not do away with that alone: layers take the role operator.
    """
    wanted, given = _words(text.values), _words(found.values)
    missing = sorted((wanted or set()) - (given or set()) - {"wipe"})  # which always takes two
    if given is not None and missing:
        yield Fault(
            _TWO_PERSONS,
            f"leaves out {', '.join(missing)}",
            "all kinds that a file of the box names, and perhaps more",
            found.file,
            found.lines.get(_TWO_PERSONS, 0),
        )
    if _without_clock(text, found):
        yield Fault(
            _KEPT_CLOCK,
            "is not for the fleet to switch off",
            "false in a file of the box, or a time service on it",
            found.file,
            found.lines.get(_KEPT_CLOCK, 0),
        )


def _without_clock(text: LayeredToml, found: Layer) -> bool:
    return _at(found.values, _KEPT_CLOCK) is False and _at(text.values, _KEPT_CLOCK) is not False


def _words(values: Mapping[str, object]) -> set[str] | None:
    at = _at(values, _TWO_PERSONS)
    return {str(each) for each in at} if isinstance(at, list) else None


def _at(values: Mapping[str, object], path: KeyPath) -> object:
    at: object = values
    for key in path:
        at = at.get(key) if isinstance(at, Mapping) else None
    return at


def _without(layer: Layer, path: KeyPath) -> Layer:
    """Return a layer as if it did not name a key, which it does."""
    lines = {key: line for key, line in layer.lines.items() if key != path}
    return Layer(layer.file, _less(layer.values, path), lines)


def _less(values: Mapping[str, object], path: KeyPath) -> dict[str, object]:
    name, deeper = str(path[0]), path[1:]
    inner = values.get(name)
    rest = {key: value for key, value in values.items() if key != name}
    return rest | {name: _less(inner, deeper)} if isinstance(inner, Mapping) and deeper else rest
