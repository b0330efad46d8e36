"""What a call does beside answering: files and sockets it touches, descriptors and threads it leaves."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

_IO_EVENTS: Final = frozenset(
    {
        "open",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.system",
        "os.posix_spawn",
        "os.fork",
        "socket.__new__",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "subprocess.Popen",
        "urllib.Request",
    }
)
_CODE: Final = (".py", ".pyc", ".so", ".pyd", ".dylib")

_recording: dict[int, list[str]] = {}
_hooked = threading.Lock()


def _hear(event: str, args: tuple[object, ...]) -> None:
    heard = _recording.get(threading.get_ident()) if _recording else None
    if heard is None or event not in _IO_EVENTS:
        return
    what = str(args[0]) if args else ""
    if event == "open" and what.endswith(_CODE):
        return  # an import; what it costs is another check
    heard.append(f"{event} {what}"[:120])


@contextmanager
def recorded_io() -> Iterator[list[str]]:
    """Collect the input and output that the calling thread does inside, as `event detail`."""
    if _hooked.acquire(blocking=False):
        sys.addaudithook(_hear)  # cannot be taken back, hence once a process
    heard: list[str] = []
    _recording[threading.get_ident()] = heard
    try:
        yield heard
    finally:
        _recording.pop(threading.get_ident(), None)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Descriptors and threads of this process, and the files below a folder; −1 where the platform does not tell."""

    descriptors: int
    threads: int
    files: frozenset[str]

    @classmethod
    def take(cls, folder: str) -> Footprint:
        """Look now."""
        files = frozenset(
            os.path.join(root, name) for root, folders, names in os.walk(folder) for name in (*folders, *names)
        )
        return cls(
            _entries("/proc/self/fd", "/dev/fd"), max(_entries("/proc/self/task"), threading.active_count()), files
        )

    @classmethod
    def settled(cls, folder: str, before: Footprint) -> Footprint:
        """Look until there is no more than before, for a second at most: what a call closed may end a moment later."""
        for _ in range(20):
            after = cls.take(folder)
            if after.descriptors <= before.descriptors and after.threads <= before.threads:
                break
            time.sleep(0.05)
        return after


def _entries(*folders: str) -> int:
    for folder in folders:
        try:
            return len(os.listdir(folder))
        except OSError:
            continue
    return -1
