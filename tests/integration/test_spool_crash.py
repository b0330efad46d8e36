"""The way upstream is killed at random instants; what was accepted arrives, in order, under numbers of its own."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.integration.spool_process import DEVICES

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "tests.integration.spool_process"


def start(folder: Path, *, quiet: bool, program: str = PROGRAM) -> subprocess.Popen[bytes]:
    (folder / "up").unlink(missing_ok=True)
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    process = subprocess.Popen(
        [sys.executable, "-m", program, str(folder), "1" if quiet else "0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    limit = time.monotonic() + 60
    while not (folder / "up").exists():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    return process


def crash(folder: Path, times: int, chance: random.Random, program: str = PROGRAM) -> None:
    for _ in range(times):
        process = start(folder, quiet=False, program=program)
        try:
            time.sleep(chance.uniform(0.05, 0.8))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
    last = start(folder, quiet=True, program=program)
    try:
        limit = time.monotonic() + 60
        while not (folder / "empty").exists():
            assert time.monotonic() < limit
            time.sleep(0.02)
    finally:
        last.kill()
        last.wait()


def lines(file: Path) -> list[list[str]]:
    """Read a log; the last line may have been cut off when the process died."""
    text = file.read_text()
    return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]


def check(folder: Path) -> None:
    accepted: defaultdict[str, list[int]] = defaultdict(list)
    for device, number in lines(folder / "accepted"):
        accepted[device].append(int(number))
    assert len(accepted) == DEVICES
    got: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for device, sequence, number in lines(folder / "got"):
        # what comes twice is the same under the same number
        assert got[device].setdefault(int(sequence), int(number)) == int(number)
        assert int(sequence) <= len(got[device]), "a number was left out"
    for device, numbers in accepted.items():
        assert set(numbers) <= set(got[device].values()), "an accepted reading is lost"
        in_order = [got[device][sequence] for sequence in sorted(got[device])]
        assert in_order == sorted(in_order), "readings of a device changed places"
        assert len(set(in_order)) == len(in_order), "a reading came under two numbers"
        first_seen = list(got[device])
        assert first_seen == sorted(first_seen), "a later reading came before an earlier one"


def test_nothing_accepted_is_lost_when_the_node_is_killed(tmp_path: Path) -> None:
    crash(tmp_path, 3, random.Random(1))
    check(tmp_path)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_nothing_accepted_is_lost_over_many_kills(tmp_path: Path) -> None:
    crash(tmp_path, 25, random.Random())
    check(tmp_path)
