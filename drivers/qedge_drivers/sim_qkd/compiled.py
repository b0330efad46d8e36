"""Whether inner loops are compiled: by numba where the process has it ready, else they run as plain Python, slowly.

Loading numba takes a second and 130 MB, which a window of raw detections now and then is not worth. Hosts that distil
make it ready: they name a folder for compiled code in `NUMBA_CACHE_DIR` before a driver is loaded.
`NUMBA_DISABLE_JIT=1` is numba's own switch for the slow way.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")


COMPILED: Final = (
    importlib.util.find_spec("numba") is not None
    and os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
    and ("NUMBA_CACHE_DIR" in os.environ or "numba" in sys.modules)
)


def seen(array: NDArray[Any]) -> Any:  # what inner loops index; numba and the interpreter each infer the rest
    """Give an array in the form that inner loops take; interpreted ones do far better with Python's own numbers."""
    return array if COMPILED else array.data


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at the first call, without the interpreter's lock while it runs; the function itself without numba."""
    if not COMPILED:
        return function
    njit = importlib.import_module("numba").njit
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        compiled: Callable[P, R] = njit(function, cache=True, **options)
    except RuntimeError:  # no folder for the cache may be written
        compiled = njit(function, **options)
    return compiled
