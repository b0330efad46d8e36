"""The fleet's layer on top of the files of the box."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

from qedge.base.layered_toml import LayeredToml, parse_layer, read_layer
from qedge.base.settings import Fault, KeyPath

FOREIGN_KEYS: Final[frozenset[KeyPath]] = frozenset({("node", "state_dir"), ("node", "runtime_dir")})
"""What the fleet may not set: where the layer itself is found, and where programs of the box find the daemon."""


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
    return text.under(found, tuple(foreign)), sha256(data).hexdigest()
