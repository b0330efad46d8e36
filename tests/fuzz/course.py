"""One course of fuzzing, led by coverage: `python -m tests.fuzz.NAME [SECONDS]`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

_DEFAULT_S = 60


def run(check: Callable[[bytes], None], seeds: Callable[[Path], None], *, most_bytes: int, words: str = "") -> None:
    """Call `check` with inputs for as many seconds as the command line says; what it raises ends the course.

    `seeds` writes what to begin with into a folder; `words` are put into inputs as they stand.
    """
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else _DEFAULT_S
    with tempfile.TemporaryDirectory(prefix="qedge-fuzz-") as name:
        corpus, dictionary = Path(name) / "corpus", Path(name) / "words"
        corpus.mkdir()
        seeds(corpus)
        lines = [f'"{word}"\n' for word in words.split() if '"' not in word and "\\" not in word]
        dictionary.write_text("".join(lines), "utf-8")
        options = [f"-max_total_time={seconds}", f"-max_len={most_bytes}", "-timeout=5", "-rss_limit_mb=2048"]
        options += [f"-dict={dictionary}"] if words else []
        # the fuzzer leaves its process without a word, so somebody else has to tidy up
        child = os.fork()
        if not child:
            atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(corpus)], check)
            atheris.Fuzz()
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
