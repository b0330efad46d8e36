"""Listening sockets: the unix socket with its mode and group, and the loopback one."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from pathlib import Path

from qedge.base.errors import QedgeError

_BACKLOG = 128


def open_unix(path: Path, mode: int, group: str) -> socket.socket:
    """Bind the unix socket `path`; a stale one is removed only if nobody answers at it. Raises `start.*`."""
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(str(path))
        if group:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(mode)
        listener.listen(_BACKLOG)  # only now can anyone connect, so the mode was never wider
    except KeyError:
        listener.close()
        path.unlink(missing_ok=True)
        raise QedgeError(
            "config.invalid", f"http.socket_group: there is no group {group}.", fix="Create it or leave the key empty."
        ) from None
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise _running(path) from error
        raise QedgeError(
            "start.no_permission",
            f"The unix socket {path} cannot be made: {error.strerror or error}.",
            fix="Make its folder writable for the daemon's user, or set http.socket.",
        ) from error
    return listener


def remove_unix(path: Path, inode: int) -> None:
    """Remove the socket at the end, if it is still the one with this inode number."""
    try:
        if path.lstat().st_ino == inode:
            path.unlink()
    except OSError:
        return  # it went away by itself


def open_tcp(host: str, port: int, setting: str = "http.port") -> socket.socket:
    """Bind a TCP listener; port 0 takes a free one. Raises `start.port_taken`, whose fix names the `setting`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise QedgeError(
            "start.port_taken",
            f"Port {port} of {host} cannot be used: {error.strerror or error}.",
            fix=f"Set {setting} to a free port, or to 0 to have one chosen.",
        ) from error
    return listener


def _remove_stale(path: Path) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    except OSError:
        return  # `bind` will say why
    if not is_socket:
        raise QedgeError(
            "start.no_permission", f"{path} is there and is no socket.", fix="Move it away, or set http.socket."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            raise _running(path) from error  # busy or forbidden: somebody may be there
    raise _running(path)


def _running(path: Path) -> QedgeError:
    return QedgeError(
        "start.already_running",
        f"Another program answers at {path}.",
        fix="Stop the other daemon (`qedge status` shows it), or use another state directory.",
    )
