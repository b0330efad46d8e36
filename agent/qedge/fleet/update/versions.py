"""Which of two versions is newer, and whether a bundle goes onto this box. Pure."""

from __future__ import annotations

import re
from typing import Final

from qedge.base.errors import QedgeError
from qedge.wire.update import Manifest

_VERSION: Final = re.compile(r"(?P<release>\d+(?:\.\d+)*)(?:(?P<pre>a|b|rc)(?P<number>\d+))?(?:\.dev(?P<dev>\d+))?")
_LAST: Final = 2**62
"""Stands for a part that is not there: a release comes after its candidates, those after their developments."""

Order = tuple[tuple[int, ...], tuple[str, int], int]


def order_of(version: str) -> Order:
    """Return what versions sort by, after PEP 440; raises `ValueError` for what is none.

    `1.0.dev3` < `1.0a1` < `1.0rc1` < `1.0` = `1.0.0`.
    """
    found = _VERSION.fullmatch(version)
    if found is None:
        raise ValueError(f"{version!r} is not a version")
    release = tuple(int(part) for part in found["release"].split("."))
    while len(release) > 1 and release[-1] == 0:
        release = release[:-1]
    dev = _LAST if found["dev"] is None else int(found["dev"])
    if found["pre"] is not None:
        return release, (found["pre"], int(found["number"])), dev
    return release, ("" if found["dev"] is not None else "~", 0), dev


def require_fit(manifest: Manifest, *, current: str, python: str, platform: str) -> None:
    """Raise `update.not_for_here` where the bundle does not go onto a box that runs `current` on this platform.

    An older version is refused: a bundle with good signatures and a known hole would otherwise be a way in.
    """
    wrong = ""
    if manifest.python != python:
        wrong = f"is for Python {manifest.python}, and this box has {python}"
    elif manifest.platform != platform:
        wrong = f"is for {manifest.platform}, and this box is {platform}"
    elif order_of(current) < order_of(manifest.minimum_previous):
        wrong = f"needs {manifest.minimum_previous} before it, and {current} runs here"
    elif order_of(manifest.version) < order_of(current):
        wrong = f"has version {manifest.version}, older than {current}, which runs here"
    if wrong:
        raise QedgeError(
            "update.not_for_here",
            f"The bundle {wrong}.",
            fix="Order another bundle; to go back to the version before, use `qedge update back` on the box.",
        )
