"""The fleet's layer on top of the files of the box."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.layered_toml import Layer, LayeredToml, parse_layer, read_layer
from qedge.base.settings import Fault, KeyPath, document, show
from qedge.fleet.configuration.reach import Reach, bounded_settings, expectation, may_set, pattern_of

FOREIGN_KEYS: Final[frozenset[KeyPath]] = frozenset({("node", "state_dir"), ("node", "runtime_dir")})
"""What the fleet may not set in any case: where the layer itself is found, and where programs find the daemon."""

Sections = Mapping[str, type[msgspec.Struct]]
"""Types of sections by their dotted paths, with NAME for names."""


def with_fleet(text: LayeredToml, file: Path, given: str | None, sections: Sections) -> tuple[LayeredToml, str]:
    """Lay the fleet's layer on top; returns its digest too, which is empty where there is none.

    `given` stands for the text of the file (empty: without one); None: the file itself is read, if it is there. What
    the fleet may not say (`reach`) is a fault. A file that is in force already and says it, which an older version
    took, counts without that: to lose all the rest could cut the box off.
    """
    if given is None:
        try:
            data = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return text, ""  # a state folder that cannot be is told of when it is made
        except OSError:
            data = b""
        found = read_layer(file)
        if isinstance(found, Layer):
            for key in [fault.path for fault in _beyond(text, found, sections) if fault.path not in FOREIGN_KEYS]:
                found = _without(found, key)
    elif not given:
        return text, ""
    else:
        data = given.encode()
        found = parse_layer(str(file), given)
    if isinstance(found, Fault):
        return text.under(None, (found,)), sha256(data).hexdigest()
    return text.under(found, tuple(_beyond(text, found, sections))), sha256(data).hexdigest()


def _beyond(text: LayeredToml, found: Layer, sections: Sections) -> Iterator[Fault]:
    """Find what is not for the fleet to set, or to loosen."""
    for path, reach, value in bounded_settings(found.values):
        box = _at(text.values, path)
        box = _default(path, sections) if box is None else box
        if path in FOREIGN_KEYS or not may_set(path, reach, box, value):
            problem = "is not for the fleet to set" if reach is Reach.BOX else "is not for the fleet to loosen"
            expected = expectation(reach, show(str(path[-1]), box))
            yield Fault(path, problem, expected, found.file, found.lines.get(path, 0))


def _default(path: KeyPath, sections: Sections) -> object:
    """Return the default of a setting; None where it has none."""
    pattern = pattern_of(path)
    for length in range(len(pattern) - 1, 0, -1):
        section = sections.get(".".join(map(str, pattern[:length])))
        if section is not None:
            return next((row.default for row in document(section) if row.path == pattern[length:]), None)
    return None


def _at(values: Mapping[str, object], path: KeyPath) -> object:
    at: object = values
    for key in path:
        at = at.get(key) if isinstance(at, Mapping) else None
    return at


def _without(layer: Layer, path: KeyPath) -> Layer:
    """Return a layer as if it did not name a key, which it does, nor tables of nothing else."""
    lines = {key: line for key, line in layer.lines.items() if key != path}
    return Layer(layer.file, _less(layer.values, path), lines)


def _less(values: Mapping[str, object], path: KeyPath) -> dict[str, object]:
    name, deeper = str(path[0]), path[1:]
    inner = values.get(name)
    rest = {key: value for key, value in values.items() if key != name}
    left = _less(inner, deeper) if isinstance(inner, Mapping) and deeper else {}
    return rest | {name: left} if left else rest
