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


_TWO_PERSONS: Final[KeyPath] = ("fleet", "commands", "two_persons")


def with_fleet(text: LayeredToml, file: Path, given: str | None) -> tuple[LayeredToml, str]:
    """Lay the fleet's layer on top; returns its digest too, which is empty where there is none.

    `given` stands for the text of the file (empty: without one); None: the file itself is read, if it is there.
    """
    if given is None:
        try:
            data = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return text, ""  # a state folder that cannot be is told of when it is made
        except OSError:
            data = b""
        found = read_layer(file)
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
    """Find what the fleet may only make stricter: who needs a second person must not do away with that alone."""
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


def _words(values: Mapping[str, object]) -> set[str] | None:
    at: object = values
    for key in _TWO_PERSONS:
        at = at.get(key) if isinstance(at, Mapping) else None
    return {str(each) for each in at} if isinstance(at, list) else None
