"""Bundles that somebody has put on the box for tools that may start an update but cannot say where from.

Whoever installs one installs what was signed by a release key, whatever tool asked for it: the updater checks the
signatures. Here a bundle is only looked at.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qedge.base.errors import QedgeError
from qedge.fleet.update.bundle import open_bundle
from qedge.fleet.update.versions import order_of, require_fit
from qedge.wire.update import SoftwareUpdate

_MOST: Final = 16
_Stamp = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Offer:
    """One bundle that goes onto this box and is newer than what runs."""

    version: str
    path: Path
    size: int


class Offers:
    """The bundles (`*.qup`) of a folder. All calls block."""

    def __init__(self, folder: Path, *, current: str, python: str, platform: str) -> None:
        self._folder = folder
        self._current = current
        self._python = python
        self._platform = platform
        self._seen: dict[_Stamp, Offer | None] = {}

    def all(self) -> list[Offer]:
        """Return what is offered, oldest version first; bundles that do not fit or cannot be read are passed over."""
        seen: dict[_Stamp, Offer | None] = {}
        try:
            paths = sorted(self._folder.glob("*.qup"))[:_MOST]
        except OSError:
            return []
        for path in paths:
            try:
                found = path.stat()
            except OSError:
                continue
            stamp = (path.name, found.st_mtime_ns, found.st_size)
            seen[stamp] = self._seen[stamp] if stamp in self._seen else self._look(path, found.st_size)
        self._seen = seen
        return sorted((each for each in seen.values() if each is not None), key=lambda each: order_of(each.version))

    def order(self, version: str = "") -> SoftwareUpdate:
        """Return the order of what is offered under a version (empty: the newest); raises `update.not_offered`."""
        found = [each for each in self.all() if not version or order_of(each.version) == order_of(version)]
        if not found:
            raise QedgeError(
                "update.not_offered",
                f"No bundle of version {version} is offered on this box." if version else "No newer bundle is offered.",
                fix=f"Put a signed bundle into {self._folder}.",
            )
        offer, digest = found[-1], hashlib.sha256()
        try:
            with offer.path.open("rb") as file:
                while piece := file.read(2**20):
                    digest.update(piece)
        except OSError as error:
            raise QedgeError(
                "update.not_offered", f"{offer.path} cannot be read.", fix="See that the service may read it."
            ) from error
        return SoftwareUpdate(offer.version, str(offer.path.absolute()), digest.hexdigest(), offer.size)

    def _look(self, path: Path, size: int) -> Offer | None:
        try:
            with path.open("rb") as file:
                manifest = open_bundle(file).manifest
            require_fit(manifest, current=self._current, python=self._python, platform=self._platform)
        except (QedgeError, OSError):
            return None
        newer = order_of(manifest.version) > order_of(self._current)
        return Offer(manifest.version, path, size) if newer else None
