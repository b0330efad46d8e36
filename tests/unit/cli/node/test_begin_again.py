"""What a daemon that becomes a new one in the same process leaves to it."""

from __future__ import annotations

import os
import subprocess
import sys

LIMIT_S = 30
BEGINS_AGAIN = """
import os, psutil, subprocess
from qedge.cli.node.run import begin_again
if "BEGUN_BEFORE" in os.environ:
    print(os.getpid(), [(child.name(), child.status()) for child in psutil.Process().children()])
else:
    os.environ["BEGUN_BEFORE"] = "yes"
    print(os.getpid(), flush=True)
    for command in (["sleep", "60"], ["true"]):
        subprocess.Popen(command)
    begin_again()
"""


def test_a_daemon_that_begins_again_has_no_children_of_the_one_before_not_even_dead_ones() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "BEGUN_BEFORE"}
    ran = subprocess.run([sys.executable, "-c", BEGINS_AGAIN], capture_output=True, timeout=LIMIT_S, env=environ)
    assert ran.returncode == 0, ran.stderr
    before, after = ran.stdout.decode().splitlines()
    assert after == f"{before} []"
