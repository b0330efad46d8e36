"""Whether inner loops are compiled: by numba where it is there and works, else they run as plain Python, slowly.

`NUMBA_DISABLE_JIT=1` is numba's own switch for the slow way. Compiled code is cached beside this package or, where that
folder is not writable, where `NUMBA_CACHE_DIR` says.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")


def prepare_cache(folder: str) -> None:
    """Give numba a place for compiled code before it is first imported; `folder` is one that may be written."""
    writable = os.access(os.path.dirname(os.path.abspath(__file__)), os.W_OK)
    if not writable and not os.environ.get("NUMBA_CACHE_DIR"):
        os.environ["NUMBA_CACHE_DIR"] = os.path.join(folder, "numba")


COMPILED: Final = importlib.util.find_spec("numba") is not None and os.environ.get("NUMBA_DISABLE_JIT", "0") in (
    "",
    "0",
)


def seen(array: NDArray[Any]) -> Any:  # what inner loops index; numba and the interpreter each infer the rest
    """Give an array in the form that inner loops take; interpreted ones do far better with Python's own numbers."""
    return array if COMPILED else array.data


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at the first call, without the interpreter's lock while it runs; the function itself without numba."""
    if not COMPILED:
        return function
    compiled: Callable[P, R] = importlib.import_module("numba").njit(
        function, cache=True, nogil=True, boundscheck=False, error_model="numpy"
    )
    return compiled
