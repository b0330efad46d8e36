"""The updater: a program of its own, outside the service, as root (`python -m qedge.fleet.update.updater`).

`qedge-update.path` starts it when the daemon leaves a request, and at boot where an update was interrupted. It runs
from the environment that was last found well, never from the one that is on trial.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qedge.base.errors import Exit, QedgeError
from qedge.fleet.update.course import Course
from qedge.fleet.update.disk import Disk
from qedge.fleet.update.machine import Box, verify_second
from qedge.fleet.update.model import Layout


@contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """Wait until no other updater runs, and keep others out."""
    layout.work.mkdir(mode=0o755, exist_ok=True)
    descriptor = os.open(layout.work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_course(layout: Layout, say: Callable[[str], None]) -> Course:
    """Return the course of updates on this box."""
    return Course(Disk(layout), Box(layout), verify_second, say)


def parse(words: Sequence[str]) -> Layout:
    """Read where things are; the defaults are those of the packages."""
    parser = argparse.ArgumentParser(description="Carry out a requested or interrupted update of qedge.")
    default = Layout()
    parser.add_argument("--root", type=Path, default=default.root, help="folder of the two environments")
    parser.add_argument("--state", type=Path, default=default.state, help="state folder of the service")
    parser.add_argument("--keys", type=Path, default=default.keys, help="folder of trusted release keys")
    parser.add_argument("--health-socket", type=Path, default=default.socket, help="unix socket of the daemon")
    args = parser.parse_args(words)
    return Layout(args.root, args.state, args.keys, args.health_socket)


def main(words: Sequence[str]) -> int:
    """Do what is to be done. An update that was refused or rolled back is no failure of the updater."""
    layout = parse(words)
    try:
        with alone(layout):
            make_course(layout, lambda line: print(line, flush=True)).run()
    except (QedgeError, OSError) as error:
        print(error, file=sys.stderr)
        return int(Exit.FAILED)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
