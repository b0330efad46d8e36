"""Finds every process that descends from one a test started, also when those between them are gone."""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path

_NAME = "QEDGE_TEST_MARK"


class Descendants:
    """All processes with `environ`, which children inherit; one that is dead and only not asked for does not count."""

    def __init__(self) -> None:
        self._mark = f"{_NAME}={secrets.token_hex(8)}"

    @property
    def environ(self) -> dict[str, str]:
        """What the first of them gets on top of its environment."""
        name, _, value = self._mark.partition("=")
        return {name: value}

    def alive(self) -> dict[int, str]:
        """Return the command lines by process id."""
        found = {}
        for place in Path("/proc").iterdir():
            if not place.name.isdigit():
                continue
            try:
                if self._mark.encode() not in (place / "environ").read_bytes().split(b"\0"):
                    continue
                if (place / "stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                    continue
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it ended meanwhile, or is not ours
        return found

    def wait_for(self, words: str, limit_s: float = 60.0) -> None:
        """Wait until one of them has these words in its command line; does not rest in between."""
        deadline = time.monotonic() + limit_s
        while not any(words in command for command in self.alive().values()):
            assert time.monotonic() < deadline, f"no {words} among {self.alive()}"

    def wait_none(self, limit_s: float = 20.0) -> None:
        """Wait until all of them have ended; fails with those that go on."""
        deadline = time.monotonic() + limit_s
        while left := self.alive():
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(0.05)

    def end(self) -> None:
        """Kill what is left."""
        for pid in self.alive():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
