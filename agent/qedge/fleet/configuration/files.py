"""The files of the fleet's configuration: the layer that the daemon reads, and the book of what became of it.

Both lie in the state folder of the node and are written as a whole or not at all.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from qedge.crypto.durable_file import write_durably
from qedge.fleet.configuration.model import ConfigurationBook, ConfigurationLayer

LAYER_FILE: Final = Path("conf.d") / "90-fleet.toml"
"""Below the state folder; read after all files of the operator of the box."""

_BOOK_FILE: Final = Path("fleet") / "configuration"
_BOOK: Final = msgspec.msgpack.Decoder(ConfigurationBook)
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class ConfigurationFiles:
    """Reads and writes them; every method blocks and raises `OSError`."""

    def __init__(self, state_dir: Path) -> None:
        self._layer = state_dir / LAYER_FILE
        self._book = state_dir / _BOOK_FILE

    def read(self) -> ConfigurationBook:
        """Read the book; a node without one begins a new one, and one that cannot be read is set aside."""
        try:
            return _BOOK.decode(self._book.read_bytes())
        except FileNotFoundError:
            return ConfigurationBook()
        except msgspec.DecodeError:
            self._book.replace(self._book.with_name(self._book.name + ".broken"))
            return ConfigurationBook()

    def write(self, book: ConfigurationBook) -> None:
        """Write the book; it is on the disk when this returns."""
        self._book.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._book, _ENCODE(book))

    def write_layer(self, layer: ConfigurationLayer | None) -> None:
        """Write the file of the layer, or remove it; a file that is right already is not touched."""
        if self.layer_sha256() == (layer.sha256 if layer is not None else ""):
            return
        if layer is not None:
            self._layer.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self._layer, layer.text.encode())
            return
        self._layer.unlink(missing_ok=True)
        self._settle()

    def layer_sha256(self) -> str:
        """Return the digest of the file of the layer; empty: there is none."""
        try:
            return sha256(self._layer.read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    def set_layer_aside(self) -> None:
        """Take the file of the layer out of the daemon's way, and keep it to look at."""
        self._layer.replace(self._layer.with_name(self._layer.name + ".refused"))
        self._settle()

    def _settle(self) -> None:
        folder = os.open(self._layer.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
