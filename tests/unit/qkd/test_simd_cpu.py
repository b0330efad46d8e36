"""The choice of vector instructions, and where compiled kernels are kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.qkd.simd.cpu import (
    Selection,
    cache_directory,
    choose,
    compiled_features,
    kernel_sources,
    restricted_features,
    selected_path,
    source_digest,
)

AVX2 = frozenset({"ssse3", "pclmul", "avx2"})
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512vl"}
EVERYTHING = AVX512 | {"avx512vbmi", "vpclmulqdq"}


@pytest.mark.parametrize(
    ("features", "wanted", "chosen"),
    [
        (frozenset(), "", Selection("none", 0)),
        (AVX2, "", Selection("avx2", 128)),
        (AVX2 | {"vpclmulqdq"}, "", Selection("avx2", 256)),
        (AVX512, "", Selection("avx512", 128)),
        (AVX512 | {"vpclmulqdq"}, "", Selection("avx512", 512)),
        (EVERYTHING, "", Selection("avx512vbmi", 512)),
        (EVERYTHING, "avx512", Selection("avx512", 512)),
        (EVERYTHING, "avx2", Selection("avx2", 256)),
        (EVERYTHING, "none", Selection("none", 0)),
        (EVERYTHING - {"pclmul"}, "", Selection("none", 0)),
    ],
)
def test_the_best_path_is_taken_or_the_lower_one_that_is_wanted(
    features: frozenset[str], wanted: str, chosen: Selection
) -> None:
    assert choose(features, wanted) == chosen


def test_more_than_the_cpu_has_is_a_clear_error() -> None:
    with pytest.raises(
        QedgeError, match="QEDGE_SIMD=avx512: this CPU lacks avx512bw, avx512f, avx512vl; it can do avx2"
    ):
        choose(AVX2, "avx512")
    with pytest.raises(QedgeError, match="no such path; there are none, avx2"):
        choose(AVX2, "sse9")


def test_the_path_follows_what_numba_compiles_for_and_never_exceeds_the_host() -> None:
    host = {"avx2": True, "pclmul": True, "avx512f": False}
    assert compiled_features(host, {}) == {"avx2", "pclmul"}
    assert compiled_features(host, {"NUMBA_CPU_FEATURES": "+avx2,-pclmul,+avx512f"}) == {"avx2"}
    assert compiled_features(host, {"NUMBA_CPU_NAME": "generic"}) == set()
    assert compiled_features(host, {"NUMBA_CPU_NAME": "haswell"}) == {"avx2", "pclmul"}


def test_a_lower_path_has_numba_compile_for_a_lesser_cpu() -> None:
    host = dict.fromkeys(sorted(EVERYTHING), True) | {"avx512fp16": False}
    text = restricted_features(host, "avx2")
    assert choose(compiled_features(host, {"NUMBA_CPU_FEATURES": text})) == Selection("avx2", 256)
    assert "-avx512fp16" in text.split(",")
    assert choose(compiled_features(host, {"NUMBA_CPU_FEATURES": restricted_features(host, "avx512")})).path == "avx512"
    assert choose(compiled_features(host, {"NUMBA_CPU_FEATURES": restricted_features(host, "none")})).path == "none"


def test_compiled_code_of_other_sources_is_never_used(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    kernel, constants, more = (tmp_path / "deep" / name for name in ("kernel.py", "constants.py", "more.py"))
    kernel.write_text("from numba import njit\nfrom qedge.qkd.deep.constants import ONE\n")
    constants.write_text("def one():\n    from qedge.qkd.deep import more\n")
    more.write_text("TWO = 2\n")
    digests = [source_digest(tmp_path)]
    for source in (kernel, constants, more):
        source.write_text(source.read_text() + "THREE = 3\n")
        digests.append(source_digest(tmp_path))
    assert len(set(digests)) == len(digests)
    one, other = (cache_directory(tmp_path, each, Selection("avx2", 128)) for each in digests[:2])
    assert one != other
    assert cache_directory(tmp_path, digests[1], Selection("avx2", 256)) != other


def test_sources_that_no_kernel_is_made_of_do_not_have_kernels_compiled_anew(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text("import numba\n")
    before = source_digest(tmp_path)
    (tmp_path / "engine.py").write_text("from qedge.qkd import kernel\n")
    assert source_digest(tmp_path) == before


def test_kernels_consist_of_nothing_from_outside_their_room() -> None:
    """Else a constant from there would be frozen into compiled code, and no digest would see it change."""
    sources = kernel_sources()
    assert {"lanes.py", "words.py", "bits.py", "check_node.py"} <= {file.name for file in sources}
    for file in sources:
        if file.name != "cpu.py":  # what it takes from elsewhere is the class of its errors
            assert not re.findall(r"(?m)^\s*(?:from|import) qedge\.(?!qkd\.)", file.read_text())


PREPARE = (
    "import sys, pathlib; from qedge.qkd.simd.cpu import prepare_numba; print(prepare_numba(pathlib.Path(sys.argv[1])))"
)


def prepare(root: Path, before: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    plain = {each: value for each, value in os.environ.items() if not each.startswith(("NUMBA_", "QEDGE_SIMD"))}
    return subprocess.run(
        [sys.executable, "-c", before + PREPARE, str(root)],
        env=plain | settings | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_folders_of_other_sources_are_removed_and_those_of_other_paths_kept(tmp_path: Path) -> None:
    stale, sibling = tmp_path / "kernels-0123-avx2-128", tmp_path / f"kernels-{source_digest()}-none-0"
    for folder in (stale, sibling, tmp_path / "mine"):
        folder.mkdir()
    done = prepare(tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).name.startswith(f"kernels-{source_digest()}-{selected_path()}-")
    assert {each.name for each in tmp_path.iterdir()} == {sibling.name, "mine", Path(done.stdout.strip()).name}


def test_a_folder_that_cannot_be_written_and_a_numba_that_is_there_already_are_clear_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = prepare(tmp_path / "file")
    assert "compiled kernels cannot be kept here" in done.stderr
    done = prepare(tmp_path, before="import sys; sys.modules['numba'] = sys; ")
    assert "numba was imported before its cache was chosen" in done.stderr
