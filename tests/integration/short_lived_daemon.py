"""A launcher: `python short_lived_daemon.py WORDS LIFE PYTHON -m qedge …` runs a daemon that is killed as a parent.

It is killed with signal 9 right after it started the first child whose command has WORDS in it: the child exists, and
has not yet asked for anything. LIFE is the image in which this happens; those before become the next one (exec) once
they are ready, and abandon all services with their children.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from typing import Any

_LIFE = "QEDGE_TEST_LIFE"


def _die_after(words: str) -> None:
    start = asyncio.create_subprocess_exec

    async def start_and_die(*command: str, **named: Any) -> Process:
        process = await start(*command, **named)
        if words in " ".join(command):
            os.kill(os.getpid(), signal.SIGKILL)
        return process

    asyncio.create_subprocess_exec = start_and_die  # type: ignore[assign] # a moment that nothing outside can hit


def _begin_again_once_up() -> None:
    from qedge.daemon.lifecycle import Daemon
    from qedge.supervisor import Supervisor

    greet = Daemon._greet

    async def greet_and_begin_again(self: Daemon, parts: Any) -> None:
        await greet(self, parts)
        self._again.set()

    async def abandon(_self: Supervisor, _timeout_s: float) -> bool:
        return False

    Daemon._greet = greet_and_begin_again  # type: ignore[method-assign] # there is no fleet that could ask for it
    Supervisor.stop = abandon  # type: ignore[method-assign] # no service heeds its cancellation


if __name__ == "__main__":
    words, last, life = sys.argv[1], int(sys.argv[2]), int(os.environ.get(_LIFE, "0")) + 1
    os.environ[_LIFE] = str(life)
    if life < last:
        _begin_again_once_up()
    else:
        _die_after(words)
    from qedge.cli.main import main

    sys.argv = ["qedge", *sys.argv[6:]]
    sys.exit(main())
