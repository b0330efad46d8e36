"""Folders of probes and of the conformance kit go away, those of programs that were killed with the next one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qedge.cli.keys import qkd
from qedge_driver_api.conformance import kit
from qedge_driver_api.held_folder import HeldFolder

KILL = "import os, signal\ndef kill(*_):\n    os.kill(os.getpid(), 9)\n"
PROBE = "import asyncio\nfrom qedge.cli.keys import qkd\nqkd.make_stand = kill\nasyncio.run(qkd._probe(None, None))\n"
KIT = "from qedge_driver_api.conformance import kit\nclass Lethal:\n    describe = kill\nkit.run(Lethal)\n"


@pytest.mark.parametrize(("program", "prefix"), [(PROBE, qkd.PREFIX), (KIT, kit.PREFIX)], ids=("probe", "kit"))
def test_what_a_killed_program_left_goes_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, prefix: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ran = subprocess.run(
        [sys.executable, "-c", KILL + program], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False
    )
    assert ran.returncode == -9
    (left,) = tmp_path.glob(f"{prefix}*")
    (left / "foreign.key").touch()
    with HeldFolder(prefix) as first, HeldFolder(prefix) as second:
        assert set(tmp_path.iterdir()) == {first, second}
    assert list(tmp_path.iterdir()) == []
