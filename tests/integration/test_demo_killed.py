"""A demo that is killed takes its nodes with it, and the next one removes the folder that it left."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.descendants import Descendants

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(180)]

LIMIT_S = 90


@pytest.fixture
def short_path() -> Iterator[Path]:
    # sockets have short paths, and those of tests may be long
    with tempfile.TemporaryDirectory(prefix="q", ignore_cleanup_errors=True) as name:
        yield Path(name)


def test_the_nodes_of_a_demo_that_is_killed_end_with_it(short_path: Path, descendants: Descendants) -> None:
    environ = {**os.environ, **descendants.environ, "TMPDIR": str(short_path)}
    demo = subprocess.Popen(
        [sys.executable, "-m", "qedge", "demo", "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environ,
    )
    try:
        deadline = time.monotonic() + LIMIT_S
        while len(list(short_path.glob("qedge-demo-*/*/run/qedge.sock"))) < 3:  # by then each has its broker, or nearly
            assert demo.poll() is None, demo.communicate()[1]
            assert time.monotonic() < deadline, descendants.alive()
            time.sleep(0.05)
        assert len(descendants.alive()) > 4
    finally:
        demo.kill()
        demo.communicate()
    descendants.wait_none()
