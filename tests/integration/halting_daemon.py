"""Runs `qedge` in this process and stops it (SIGSTOP) at the instant that a file names, for a test to strike there.

`halting_daemon.py FOLDER PYTHON -m qedge WORDS...`: the file `FOLDER/halt` holds the name of an instant and the id of a
command; the process removes it and stops. The test then kills the process, or the broker, and nothing moves meanwhile.
What the box is besides is below `FOLDER` as well: its boot id (`boot_id`) and its environments for updates (`opt`).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

HALT = "halt"
BOOT_ID = "boot_id"
OPT = "opt"
_KERNELS_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Halts:
    """Stops this process where the file says so."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / HALT

    def at(self, instant: str, command: str | None) -> None:
        """Stop here if this is the instant; `command` None: whichever it is."""
        try:
            wanted = self._file.read_text().split("\n")
        except FileNotFoundError:
            return
        if wanted[0] == instant and command in (None, wanted[1]):
            self._file.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)


class WatchedExecutor:
    """An executor that tells when it has done its work, or has found it done."""

    def __init__(self, inner: Any, halts: Halts) -> None:
        self._inner = inner
        self._halts = halts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def run(self, request: Any, progress: Any) -> Any:
        """Do it, and halt before anything is said of it."""
        try:
            return await self._inner.run(request, progress)
        finally:
            self._halts.at("done", request.id)

    async def recover(self, request: Any) -> Any:
        """Look, and halt where nothing is left to do."""
        found = await self._inner.recover(request)
        if not found.go_on:
            self._halts.at("done", request.id)
        return found


def watch_commands(halts: Halts) -> None:
    """Halt at each state of the journal, and at what lies between them."""
    from qedge.fleet.commands.journal import Journal
    from qedge.fleet.commands.model import Entry, Phase
    from qedge.fleet.commands.running import Runner
    from qedge.fleet.commands.telling import Teller

    add, change, told = Journal.add, Journal.change, Journal.told
    announce, executor, execv = Teller.announce, Runner.executor, os.execv

    async def added(self: Journal, entry: Entry) -> None:
        halts.at("received", entry.id)
        await add(self, entry)
        halts.at("waiting", entry.id)

    async def changed(self: Journal, entry: Entry) -> None:
        await change(self, entry)
        name = "ended" if entry.ended else str(entry.phase)
        if entry.phase is Phase.RUNNING:
            name = f"step {entry.step}" if entry.step else "begun"
        halts.at(name, entry.id)

    async def has_told(self: Journal, command: str, revision: int) -> None:
        await told(self, command, revision)
        halts.at("told", command)

    async def announced(self: Teller, entry: Entry) -> None:
        await announce(self, entry)
        halts.at("announced", entry.id)

    def become(*words: Any) -> None:
        halts.at("exec", None)
        execv(*words)

    Journal.add, Journal.change, Journal.told = added, changed, has_told  # type: ignore[method-assign] # looks inside
    Teller.announce = announced  # type: ignore[method-assign] # as above
    Runner.executor = lambda self, kind: WatchedExecutor(executor(self, kind), halts)  # type: ignore[method-assign,assign,return-value] # as above
    os.execv = become  # type: ignore[assign] # as above


def move_box(folder: Path) -> None:
    """Let the boot of this box, and the place of its environments, be what the test makes of them."""
    from qedge.daemon.fleet import executors as fleet_executors

    read_text, make_update = Path.read_text, fleet_executors.make_update

    def read(path: Path, *words: Any, **named: Any) -> str:
        own = folder / BOOT_ID
        return read_text(own if str(path) == _KERNELS_BOOT_ID and own.exists() else path, *words, **named)

    Path.read_text = read  # type: ignore[method-assign] # as above
    fleet_executors.make_update = lambda config, clock, stopping: make_update(config, clock, stopping, folder / OPT)  # type: ignore[misc,assign] # as above


def run(folder: Path, words: list[str]) -> int:
    """Be `qedge`."""
    from qedge.cli.main import main

    watch_commands(Halts(folder))
    move_box(folder)
    return main(words)


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose modules are not for the daemon
    sys.exit(run(Path(sys.argv[1]), sys.argv[sys.argv.index("qedge") + 1 :]))
