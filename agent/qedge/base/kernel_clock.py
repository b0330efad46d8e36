"""Asks the kernel whether something synchronises its clock, as adjtimex(2) tells without changing anything."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Final

_STA_UNSYNC: Final = 0x40
_TIMEX_BYTES: Final = 256
"""More than `struct timex` has on any architecture."""

_STATUS_OFFSET: Final = 5 * ctypes.sizeof(ctypes.c_long)
"""`status` stands behind `modes` (an int, padded) and four longs: offset, freq, maxerror, esterror."""


def is_synchronised() -> bool | None:
    """Say whether the clock is kept right; None where the kernel does not tell."""
    adjtimex = _adjtimex()
    if adjtimex is None:
        return None
    buffer = (ctypes.c_char * _TIMEX_BYTES)()  # modes 0: only reads
    if adjtimex(ctypes.byref(buffer)) < 0:
        return None
    status = ctypes.c_int.from_buffer(buffer, _STATUS_OFFSET).value
    return not status & _STA_UNSYNC


@functools.cache
def _adjtimex() -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    return found
