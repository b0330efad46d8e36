"""The database and its thread.

`write` returns after the transaction is on the disk (WAL, synchronous=FULL): what was acknowledged survives `kill -9`
and the loss of power. A full disk refuses writes with `store.disk_full` and harms nothing that is there; a reserve
file is given up then, so that results of accepted work still find room.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import functools
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.store import meta
from qedge.store.schema import NODE_SCHEMA, Schema
from qedge.store.thread import StoreThread, transact

T = TypeVar("T")
_LOG: Final = get_logger("store")
RESERVE_BYTES: Final = 2 * 2**20
_INSIST_S: Final = 0.5
_OF_THE_DISK: Final = frozenset({"store.disk_full", "store.unavailable"})
_FULL_CODES: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)


class Store:
    """Opens `path` at construction (creating and migrating it) and keeps it locked against a second daemon."""

    def __init__(self, path: Path, *, metrics: Metrics, schema: Schema = NODE_SCHEMA) -> None:
        self._path = path
        self._metrics = metrics
        self._reserve = path.with_suffix(".reserve")
        self._lock = _lock(path.with_suffix(".lock"))
        self._disk_full = False
        try:
            self._thread = StoreThread(lambda: _open(path, schema))
        except BaseException:
            os.close(self._lock)
            raise
        _LOG.info("store.opened", path=str(path), schema=len(schema.migrations))
        self._keep_reserve()

    @property
    def disk_full(self) -> bool:
        """Whether the newest write found the disk full."""
        return self._disk_full

    async def write(
        self, work: Callable[[sqlite3.Connection], T], *, accepted: bool = False, patient: bool = False
    ) -> T:
        """Run `work` in one durable transaction; where it raises `store.disk_full` or another, nothing changed.

        After a full disk only what concerns `accepted` work is written, until there is room for the reserve again.
        `patient`: what is asked for later may be written before it.
        """
        if self._disk_full and not accepted and not self._regain():
            raise self._full()
        started = time.perf_counter()
        try:
            result = await self._thread.write(work, patient=patient)
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        self._metrics.observe("qedge_store_write_seconds", time.perf_counter() - started)
        if self._disk_full:
            self._regain()
        return result

    async def insist(self, work: Callable[[sqlite3.Connection], T], *, patient: bool = False) -> T:
        """Write what must not be lost: where the disk is full or broken, again and again until it is written.

        Raises what `work` itself raises: that would be the same the next time.
        """
        while True:
            try:
                return await self.write(work, accepted=True, patient=patient)
            except QedgeError as error:
                if error.code not in _OF_THE_DISK:
                    raise
                # it was counted and logged where it was raised
            await asyncio.sleep(_INSIST_S)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query; raises `store.unavailable`."""
        try:
            return await self._thread.read(work)
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    async def get_meta(self, key: str, default: str = "") -> str:
        """Return a small value kept across restarts."""

        found = await self.read(lambda connection: meta.find(connection, key))
        return default if found is None else found

    async def set_meta(self, key: str, value: str, *, accepted: bool = False) -> None:
        """Keep a small value across restarts; `accepted` as for `write`."""
        await self.write(lambda connection: meta.put(connection, key, value), accepted=accepted)

    def close(self) -> None:
        """Finish what was begun and let go of the file."""
        self._thread.close()
        os.close(self._lock)

    def give_up_reserve(self) -> None:
        """Free the reserve, so that results of accepted work can be written on a full disk."""
        with contextlib.suppress(OSError):
            self._reserve.unlink()

    def look_again(self) -> None:
        """See whether a disk that was full has room again."""
        if self._disk_full:
            self._regain()

    def _regain(self) -> bool:
        """Take new work again where there is room for the reserve."""
        if self._keep_reserve():
            self._disk_full = False
            _LOG.info("store.recovered")
        return not self._disk_full

    def _keep_reserve(self) -> bool:
        try:
            if self._reserve.exists() and self._reserve.stat().st_size == RESERVE_BYTES:
                return True
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError:
            self.give_up_reserve()
            return False
        return True

    def _failed(self, error: Exception) -> QedgeError:
        if _is_full(error):
            if not self._disk_full:
                _LOG.error("store.disk_full")
            self._disk_full = True
            self._metrics.add("qedge_store_failures_total", ("disk_full",))
            self.give_up_reserve()
            return self._full()
        self._metrics.add("qedge_store_failures_total", ("other",))
        return QedgeError(
            "store.unavailable",
            f"The database {self._path.name} cannot be used: {error}.",
            fix="Look at the disk; `qedge status` says when it works again.",
        )

    def _full(self) -> QedgeError:
        return QedgeError(
            "store.disk_full",
            "The state directory is full; nothing new is accepted.",
            fix=f"Free some space at {self._path.parent}.",
        )


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) in _FULL_CODES


def _lock(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise QedgeError(
            "start.already_running",
            f"Another qedge daemon uses {path.parent}.",
            fix="Stop it, or give this one another node.state_dir.",
        ) from error
    return file


def _open(path: Path, schema: Schema) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA busy_timeout = 5000")
        _check_owner(connection, path, schema)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        for pragma in schema.pragmas:
            connection.execute(f"PRAGMA {pragma}")
        _migrate(connection, path, schema)
    except sqlite3.Error as error:
        connection.close()
        code = "store.disk_full" if _is_full(error) else "store.unavailable"
        raise QedgeError(
            code, f"The database {path} cannot be opened: {error}.", fix="Restore it from a copy, or move it away."
        ) from error
    except QedgeError:
        connection.close()
        raise
    return connection


def _check_owner(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if owner != schema.application_id and (owner or tables):
        raise QedgeError("store.unavailable", f"{path} is no such database of qedge.", fix="Move it away.")


def _migrate(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    newest = len(schema.migrations)
    if version > newest:
        raise QedgeError(
            "store.too_new",
            f"The database {path} has schema {version}, this program knows {newest}.",
            fix="Install the newer qedge again, or move the database away.",
        )
    if version < newest:
        # in one transaction, since each would wait for the disk
        steps = [statement for migration in schema.migrations[version:] for statement in migration]
        owned = () if version else (f"PRAGMA application_id = {schema.application_id}",)
        statements = (*owned, *steps, f"PRAGMA user_version = {newest}")
        transact(connection, functools.partial(_execute_all, statements))
    if 0 < version < newest:
        _LOG.info("store.migrated", from_schema=version, to_schema=len(schema.migrations))


def _execute_all(statements: tuple[str, ...], connection: sqlite3.Connection) -> None:
    for statement in statements:
        connection.execute(statement)
