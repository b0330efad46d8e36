"""Everything that can be missing is checked before the daemon starts, and answered in one line with its fix."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.units import format_bytes

MIN_PYTHON: Final = (3, 11)
MIN_FREE_BYTES: Final = 64 * 1024 * 1024
MAX_SOCKET_PATH_BYTES: Final = 107
"""`sun_path` of unix(7) less its terminating zero."""


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> None:
    """Refuse an interpreter that is too old."""
    if version < MIN_PYTHON:
        raise QedgeError(
            "start.python_too_old",
            f"This is Python {version[0]}.{version[1]}; qedge needs {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer.",
            fix="Install a newer Python and make the virtual environment with it.",
        )


def prepare_directory(path: Path, key: str) -> None:
    """Create a private directory where it is missing and prove that it can be written; `key` names its setting."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        raise QedgeError(
            "start.no_permission",
            f"The directory {path} cannot be written: {error.strerror}.",
            fix=f"Give this user the right to write there, or set {key} to another directory.",
            path=str(path),
        ) from error


def check_disk(path: Path, needed_bytes: int = MIN_FREE_BYTES) -> None:
    """Refuse a disk that would be full at once."""
    free_bytes = shutil.disk_usage(path).free
    if free_bytes < needed_bytes:
        raise QedgeError(
            "start.disk_low",
            f"Only {format_bytes(free_bytes)} are free at {path}; {format_bytes(needed_bytes)} are needed.",
            fix="Free some space, or set node.state_dir to a directory on another disk.",
            free_bytes=free_bytes,
        )


def check_socket_path(path: Path) -> None:
    """Refuse a socket path that the kernel would cut."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise QedgeError(
            "start.path_too_long",
            f"The socket path {path} is longer than {MAX_SOCKET_PATH_BYTES} bytes.",
            fix="Set node.runtime_dir to a shorter path, for instance /tmp/qedge-$USER.",
        )


def check_port(host: str, port: int, key: str) -> None:
    """Refuse a TCP port that somebody else listens on; port 0 always goes."""
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise QedgeError(
                "start.no_permission",
                f"This user may not listen on port {port}.",
                fix=f"Set {key} to a port of 1024 or more, or to 0 for a free one.",
            ) from error
        except OSError as error:
            raise QedgeError(
                "start.port_taken",
                f"Port {port} on {host} is not free: {error.strerror}.",
                fix=f"Stop the other program, or set {key} to another port or to 0 for a free one.",
                port=port,
            ) from error
