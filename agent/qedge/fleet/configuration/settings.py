"""Effective settings as rows with their origin, and digests of what was set. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Final

import msgspec

from qedge.base.log import scrub
from qedge.base.settings import KeyPath, dotted, toml_value
from qedge.wire.configuration import SettingRow

Place = Callable[[KeyPath], tuple[str, int]]
"""Where a key path was set: file and line; an empty file: it is a default."""

_ENCODE: Final = msgspec.json.Encoder(order="deterministic").encode
_ROWS: Final = msgspec.msgpack.Decoder(list[SettingRow])


def setting_rows(values: Mapping[str, object], place: Place) -> tuple[SettingRow, ...]:
    """List settings in the order of their tables, without secrets; an array is one value, as layers replace it."""
    return tuple(_rows(scrub(values), (), place))


def section_digests(values: Mapping[str, object]) -> dict[str, str]:
    """Return SHA-256 of each top-level section, in hex.

    `values` are what the files say together, without defaults: a release that changes a default is no drift. Secrets
    are left out, so that nobody can try guesses of one against a digest; a changed secret is therefore not noticed.
    """
    return {name: sha256(_ENCODE(value)).hexdigest() for name, value in scrub(values).items()}


def settings_digest(sections: Mapping[str, str]) -> str:
    """Return one digest for all sections."""
    return sha256(_ENCODE(dict(sections))).hexdigest()


def drifted(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Name the sections in which two sets of digests differ."""
    return tuple(sorted(name for name in {*then, *now} if then.get(name) != now.get(name)))


def zip_rows(rows: tuple[SettingRow, ...]) -> bytes:
    """Pack rows for a report."""
    return zlib.compress(msgspec.msgpack.encode(rows), 9)


def unzip_rows(data: bytes, limit_bytes: int = 16 * 2**20) -> tuple[SettingRow, ...]:
    """Unpack the rows of a report; raises `ValueError` for what is none or grows beyond the limit."""
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(data, limit_bytes)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise ValueError("the settings are cut or too large")
        return tuple(_ROWS.decode(plain))
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"these are no settings: {error}") from error


def _rows(values: Mapping[str, object], path: KeyPath, place: Place) -> Iterator[SettingRow]:
    for key, value in values.items():
        here = (*path, key)
        if isinstance(value, Mapping) and value:
            yield from _rows(value, here, place)
        else:
            file, line = place(here)
            yield SettingRow(dotted(here), toml_value(value), file, line)
