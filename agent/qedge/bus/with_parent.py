"""`python -m qedge.bus.with_parent PROGRAM ARG…` becomes PROGRAM, which then ends when the daemon does.

The request to be killed with the parent (prctl(2), PR_SET_PDEATHSIG) outlives exec, and asking for it here keeps Python
code from running between fork and exec of the daemon, which has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is the point; the daemon chose the program
