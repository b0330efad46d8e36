"""Child processes end with the process that started them, whenever that ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from qedge.base.with_parent import with_parent

LIMIT_S = 20


def test_a_program_started_with_its_parent_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "import subprocess, sys, time; from qedge.base.with_parent import with_parent; "
        f"subprocess.Popen(with_parent(sys.executable, '-c', {child!r})); "
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    deadline = time.monotonic() + LIMIT_S
    while not (note.exists() and note.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid = int(note.read_text())
    process.kill()
    process.wait()
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_program_whose_parent_ended_before_it_could_ask_is_never_begun(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    command = with_parent("/bin/sh", "-c", f": > {begun}")
    orphaned = [_ended() if word == str(os.getpid()) else word for word in command]
    assert subprocess.run(orphaned, check=True, capture_output=True, timeout=LIMIT_S).stderr == b""
    assert not begun.exists()
    subprocess.run(command, check=True, timeout=LIMIT_S)
    assert begun.exists()


def test_a_worker_whose_daemon_ended_before_it_could_ask_ends_at_once() -> None:
    command = [sys.executable, "-m", "qedge.workers.host", _ended(), "no socket", "no memory", "no:target"]
    ended = subprocess.run(command, check=False, capture_output=True, timeout=LIMIT_S)
    assert (ended.returncode, ended.stderr) == (0, b"")


def _ended() -> str:
    """Return the number of a process that has ended."""
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    return str(process.pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
