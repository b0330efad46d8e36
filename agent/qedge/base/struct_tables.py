"""Has msgspec build what it knows of structs before threads decode them.

msgspec 0.22 builds the table of a struct at its first use, in Python code that may give way to another thread; a thread
that meets a half-built table ends the process. So whoever starts threads builds all tables first. Pure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec


def build_struct_tables(package: str = "qedge") -> int:
    """Build the tables of all structs of `package` that are loaded; returns how many there are."""
    number = 0
    for struct in set(_below(msgspec.Struct)):
        if struct.__module__.partition(".")[0] == package:
            # what is generic or no message at all has no table of its own
            with contextlib.suppress(TypeError, NameError):
                msgspec.msgpack.Decoder(struct)
                number += 1
    return number


def _below(struct: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for each in struct.__subclasses__():
        yield each
        yield from _below(each)
