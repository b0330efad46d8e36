"""Which vector instructions the kernels use: one path per process, chosen before numba is imported.

    avx512vbmi   AVX-512 with byte permutations
    avx512       AVX-512 F, BW and VL
    avx2         AVX2 and carry-less products
    none         no vector instruction of ours; every CPU, every architecture

An instruction that the target lacks ends the process inside LLVM, so that there is nothing to try: what the CPU has is
read first. `QEDGE_SIMD` chooses a lower path than the CPU allows. `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` (LLVM's
names, "+avx2,-avx512f,…") have numba compile for a lesser CPU; the path follows them.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qedge.base.errors import QedgeError

PATHS: Final = ("none", "avx2", "avx512", "avx512vbmi")
"""All paths, each able to do what those before it do."""
OVERRIDE: Final = "QEDGE_SIMD"
_NEEDS: Final = {
    "avx2": frozenset({"avx2", "ssse3", "pclmul"}),
    "avx512": frozenset({"avx2", "ssse3", "pclmul", "avx512f", "avx512bw", "avx512vl"}),
    "avx512vbmi": frozenset({"avx2", "ssse3", "pclmul", "avx512f", "avx512bw", "avx512vl", "avx512vbmi"}),
}
_KERNELS: Final = Path(__file__).parent.parent
_ROOM: Final = "qedge.qkd."


@dataclass(frozen=True, slots=True)
class Selection:
    """The path, and the widest carry-less product on it in bits: 512, 256, 128, or 0 where there is none."""

    path: str
    product_bits: int


def choose(features: frozenset[str], wanted: str = "") -> Selection:
    """Choose the best path for LLVM's features of a CPU, or the lower one that is wanted.

    Raises `config.invalid` for a path that does not exist or that these features do not allow.
    """
    best = max((path for path in PATHS if _NEEDS.get(path, frozenset()) <= features), key=PATHS.index)
    if wanted and wanted not in PATHS:
        raise QedgeError("config.invalid", f"{OVERRIDE}={wanted}: no such path; there are {', '.join(PATHS)}")
    if wanted and PATHS.index(wanted) > PATHS.index(best):
        missing = ", ".join(sorted(_NEEDS[wanted] - features))
        raise QedgeError("config.invalid", f"{OVERRIDE}={wanted}: this CPU lacks {missing}; it can do {best}")
    path = wanted or best
    if path == "none":
        return Selection(path, 0)
    if "vpclmulqdq" not in features:
        return Selection(path, 128)
    return Selection(path, 256 if path == "avx2" else 512)


def compiled_features(host: Mapping[str, bool], environ: Mapping[str, str]) -> frozenset[str]:
    """Return the features that numba compiles for and that the host has too."""
    has = frozenset(name for name, there in host.items() if there)
    wanted = environ.get("NUMBA_CPU_FEATURES")
    if wanted is None:
        return frozenset() if environ.get("NUMBA_CPU_NAME", "").lower() == "generic" else has
    return has & frozenset(name[1:] for name in wanted.split(",") if name.startswith("+"))


def restricted_features(host: Mapping[str, bool], path: str) -> str:
    """Return the host's features for numba without those above `path`, in LLVM's notation."""
    taken = {"none": ("avx", "vpclmulqdq"), "avx2": ("avx512", "avx10"), "avx512": ("avx512vbmi",)}[path]
    return ",".join(f"{'+' if there and not name.startswith(taken) else '-'}{name}" for name, there in host.items())


def host_features() -> dict[str, bool]:
    """Return LLVM's names of the features of this CPU, and which of them it has; empty where LLVM cannot tell."""
    from llvmlite import binding

    try:
        return dict(binding.get_host_cpu_features())
    except RuntimeError:
        return {}


@functools.cache
def selection() -> Selection:
    """Return what this process uses, the same for its whole life."""
    return choose(compiled_features(host_features(), os.environ), os.environ.get(OVERRIDE, ""))


def selected_path() -> str:
    """Return the path of this process, one of `PATHS`."""
    return selection().path


@functools.cache
def has_feature(name: str) -> bool:
    """Say whether code of this process may use a feature of the CPU, by LLVM's name of it; never on the path `none`."""
    return selected_path() != "none" and name in compiled_features(host_features(), os.environ)


def _imported(source: bytes) -> set[str]:
    """Return the names of all modules that a source may import, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def kernel_sources(folder: Path = _KERNELS) -> list[Path]:
    """Return the files that compiled code can consist of: those that import numba, and what of this room they import.

    Constants of other modules are frozen into compiled code, so whatever is imported counts, and what that imports.
    """
    imports = {file: _imported(file.read_bytes()) for file in sorted(folder.rglob("*.py"))}
    compilers = ("numba", "llvmlite")
    taken: set[Path] = set()
    new = [file for file, names in imports.items() if any(name.partition(".")[0] in compilers for name in names)]
    while new:
        file = new.pop()
        taken.add(file)
        inside = (name.removeprefix(_ROOM).replace(".", "/") for name in imports[file] if name.startswith(_ROOM))
        found = (path for name in inside for path in (folder / f"{name}.py", folder / name / "__init__.py"))
        new += [path for path in found if path in imports and path not in taken]
    return sorted(taken)


def source_digest(folder: Path = _KERNELS) -> str:
    """Return 16 hexadecimal digits that change with any source of the kernels.

    numba looks at the file of a function alone; a change of an intrinsic that it calls would leave old code in use.
    """
    digest = hashlib.sha256()
    for file in kernel_sources(folder):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def cache_directory(cache_root: Path, digest: str, chosen: Selection) -> Path:
    """Return where compiled kernels are kept: one folder per sources and path."""
    return cache_root / f"kernels-{digest}-{chosen.path}-{chosen.product_bits}"


def prepare_numba(cache_root: Path) -> Path:
    """Have numba compile for the path of this process and keep the code below `cache_root`; return the folder.

    To be called before numba is imported. A folder of the same name that `NUMBA_CACHE_DIR` names already, from a
    parent process, is used where it is. Folders of other sources are removed. Raises `start.no_permission` where the
    folder cannot be written, RuntimeError where numba was imported before.
    """
    chosen, digest = selection(), source_digest()
    folder = cache_directory(cache_root, digest, chosen)
    inherited = Path(os.environ.get("NUMBA_CACHE_DIR", ""))
    if inherited.name == folder.name and inherited.is_dir():
        return inherited
    if "numba" in sys.modules:
        raise RuntimeError("numba was imported before its cache was chosen")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # its files are code
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise QedgeError("start.no_permission", f"{folder}: compiled kernels cannot be kept here: {error}") from error
    for other in cache_root.glob("kernels-*"):
        if not other.name.startswith(f"kernels-{digest}-"):
            shutil.rmtree(other, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if os.environ.get(OVERRIDE) and "NUMBA_CPU_FEATURES" not in os.environ:
        host = host_features()
        if chosen != choose(frozenset(name for name, there in host.items() if there)):
            os.environ["NUMBA_CPU_FEATURES"] = restricted_features(host, chosen.path)
    return folder
