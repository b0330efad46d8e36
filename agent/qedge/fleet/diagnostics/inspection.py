"""Looks at the box that it runs on. It changes nothing, and each look has a deadline."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import psutil
from cryptography import x509

from qedge.base.kernel_clock import is_synchronised
from qedge.fleet.diagnostics.model import BoxFacts, BoxSettings, DatabaseFile, FileCertificate, Folder, Listener
from qedge.wire.node import NodeStatus
from qedge.wire.trust import IdentityView

_CONNECT_S: Final = 3.0
_CHECK_BYTES: Final = 256 * 2**20
"""SQLite reads the whole of a database to check it: larger ones are left alone."""

_CHECK_STEPS: Final = 50_000_000
_MAX_FILES: Final = 10_000
_UNIT_FOLDERS: Final = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def inspect(
    settings: BoxSettings, utc_ns: int, status: NodeStatus | None, identity: IdentityView | None, silence: str
) -> BoxFacts:
    """Look at everything. Blocks for some seconds at most; `silence` says why there is no `status`."""
    state, memory = Path(settings.state_dir), psutil.virtual_memory()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return BoxFacts(
        utc_ns=utc_ns,
        python=(sys.version_info[0], sys.version_info[1]),
        state=look_at_folder(state),
        databases=tuple(look_at_database(path) for path in sorted(state.glob("*.sqlite3"))),
        socket_path=str(Path(settings.runtime_dir) / "qedge.sock"),
        status=status,
        identity=identity,
        silence=silence,
        ports={each: "" if status is not None else try_to_listen(each) for each in settings.listeners},
        broker_problem=try_to_connect(*settings.broker) if settings.broker is not None else "",
        broker_programs=tuple(_broker_programs()),
        clock_synchronised=is_synchronised(),
        open_files_soft=soft,
        open_files_hard=sys.maxsize if hard == resource.RLIM_INFINITY else hard,
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        certificates=tuple(read_certificate(Path(path)) for path in settings.certificate_files),
        loose_secrets=tuple(path for path in settings.secret_files if _is_loose(Path(path))),
        installed_drivers=tuple(sorted({each.name for each in entry_points(group="qedge.drivers")})),
        unit_files=tuple(str(path) for path in _units() if path.exists()),
    )


def look_at_folder(path: Path) -> Folder:
    """Say whether this user can keep files there, and who else reads them."""
    if not path.exists() and os.access(next(each for each in path.parents if each.exists()), os.W_OK):
        return Folder(str(path), missing=True)
    try:
        usage = shutil.disk_usage(path)
    except OSError as error:
        return Folder(str(path), problem=error.strerror or "cannot be seen")
    problem = "" if os.access(path, os.R_OK | os.W_OK | os.X_OK) else "this user may not write there"
    loose = tuple(str(each) for each in _files_below(path) if _is_loose(each))
    return Folder(str(path), problem, False, usage.free, usage.free / max(usage.total, 1), loose)


def look_at_database(path: Path) -> DatabaseFile:
    """Have SQLite check a database, without changing it; one that takes too long is taken for sound."""
    size = path.stat().st_size
    if size > _CHECK_BYTES:
        return DatabaseFile(str(path), size)
    steps = 0

    def tired() -> int:
        nonlocal steps
        steps += 1
        return int(steps > _CHECK_STEPS // 10_000)

    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2)) as opened:
            opened.set_progress_handler(tired, 10_000)
            found = [str(line) for (line,) in opened.execute("PRAGMA quick_check(5)")]
    except sqlite3.OperationalError as error:
        return DatabaseFile(str(path), size, "" if "interrupted" in str(error) else str(error))
    except sqlite3.DatabaseError as error:
        return DatabaseFile(str(path), size, str(error))
    return DatabaseFile(str(path), size, "" if found == ["ok"] else "; ".join(found))


def try_to_listen(listener: Listener) -> str:
    """Say why a port cannot be listened on; empty: it can."""
    if listener.port == 0:
        return ""
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listener.host, listener.port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def try_to_connect(host: str, port: int) -> str:
    """Say why a TCP connection cannot be made; empty: it can."""
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def read_certificate(path: Path) -> FileCertificate:
    """Read when the certificates of a PEM file expire: the first to do so counts."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        return FileCertificate(str(path), problem=error.strerror or str(error))
    except ValueError:
        return FileCertificate(str(path), problem="holds no certificate in PEM")
    until = min(each.not_valid_after_utc for each in found)
    return FileCertificate(str(path), int(until.timestamp()) * 10**9)


def _files_below(path: Path) -> Iterator[Path]:
    seen = 0
    for folder, _, names in os.walk(path, onerror=lambda _: None):
        for name in names:
            seen += 1
            if seen > _MAX_FILES:
                return
            yield Path(folder, name)


def _is_loose(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    # what a folder hides from others, they do not reach, whatever the mode of the file is
    hidden = any(not _mode(parent) & stat.S_IXOTH and not _mode(parent) & stat.S_IXGRP for parent in path.parents)
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & _OTHERS) and not hidden


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return _OTHERS


def _broker_programs() -> Iterator[str]:
    if shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists():
        yield "mosquitto"
    with contextlib.suppress(ImportError):
        import importlib.util

        if importlib.util.find_spec("iotcore") is not None:
            yield "iotcore"


def _units() -> Iterable[Path]:
    return (Path(folder, "qedge.service") for folder in _UNIT_FOLDERS)
