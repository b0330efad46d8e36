"""Child processes that end with the process that started them, also where that one is killed with signal 9.

`python -m qedge.base.with_parent PARENT PROGRAM ARG…` becomes PROGRAM. The request to be killed with the parent
(prctl(2), PR_SET_PDEATHSIG) outlives exec, and asking for it here keeps Python code from running between fork and exec
of the daemon, which has threads. The kernel sends the signal when the *thread* ends that started the child, so children
are started by a thread that lives as long as the process does: the main thread, where the event loop runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def with_parent(*command: str) -> tuple[str, ...]:
    """Return the command that runs `command`, whose first word is a path, until this process ends."""
    return (sys.executable, "-m", "qedge.base.with_parent", str(os.getpid()), *command)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, process `parent`, ends; ends it now where that has happened.

    The number comes from the parent. Whoever asks for it here may already see the process that takes in orphans, which
    need not be number 1.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # looked at last: from here on the kernel sees to it
        os._exit(0)


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is the point; the parent chose the program
