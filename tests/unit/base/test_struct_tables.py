"""Threads that decode the same struct for the first time at once do not end the process."""

from __future__ import annotations

import subprocess
import sys

from qedge.base.struct_tables import build_struct_tables

# Eight threads meet a struct that none has seen; without the tables most of such runs end with a segmentation fault.
RACE = """
import sys, threading
import msgspec
from qedge.base.struct_tables import build_struct_tables
from qedge.wire.mesh import Birth
from qedge.wire.node import NodeStatus
sys.setswitchinterval(1e-6)
assert build_struct_tables() > 10
data = msgspec.msgpack.encode(Birth("f", "n", "1", "b", 1, 1, False, "up"))
together = threading.Barrier(8)
def decode():
    together.wait()
    for _ in range(3):
        msgspec.msgpack.decode(data, type=Birth)
threads = [threading.Thread(target=decode) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
"""


def test_threads_may_decode_a_struct_for_the_first_time_at_once() -> None:
    for _ in range(5):
        ran = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, (ran.returncode, ran.stderr)


def test_every_struct_that_is_loaded_has_its_table_built() -> None:
    import qedge.wire.topics  # noqa: F401 # so that many are loaded

    assert build_struct_tables() > 100
