"""Software updates on this box: what carries out the command `software-update`, and what writes down other updates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from qedge import __version__
from qedge.base.clock import Clock
from qedge.base.service import Service
from qedge.config import AgentConfig
from qedge.daemon.fleet.doors import own_audit
from qedge.daemon.peers import Tools
from qedge.fleet.commands import rows
from qedge.fleet.commands.ports import Executor
from qedge.fleet.update.disk import Disk
from qedge.fleet.update.machine import platform_name, python_version
from qedge.fleet.update.model import EndedUpdate, Layout
from qedge.fleet.update.recording import UpdateRecorder
from qedge.fleet.update.service import SoftwareUpdateExecutor
from qedge.security.audit.files import newest_rows
from qedge.security.audit.log import AuditLog
from qedge.store.store import Store
from qedge.wire.audit import AuditTrail

ROOT = Layout().root
"""Folder of the two environments."""


def make_update(config: AgentConfig, clock: Clock, stopping: Callable[[], bool], root: Path = ROOT) -> list[Executor]:
    """Return the executors of software updates; `stopping` says whether the daemon ends."""
    layout = Layout(root, Path(config.node.state_dir))
    executor = SoftwareUpdateExecutor(
        layout,
        version=__version__,
        python=python_version(),
        platform=platform_name(),
        clock=clock,
        stopping=stopping,
    )
    return [executor]


_SEEN: Final = "updates-audited"
_ACTION: Final = "software-update"
_ROWS: Final = 1000


class AuditedUpdates:
    """Fills `UpdateBook` with an audit log.

    The database says what was looked at last. It is not the last word: it may be put back with an update that is
    rolled back, and a crash may come between a row and that note. So the newest rows are asked as well.
    """

    def __init__(self, log: AuditLog, store: Store, node: str, folder: Path) -> None:
        """`folder` is that of the log."""
        self._log = log
        self._store = store
        self._node = node
        self._folder = folder

    async def last(self) -> str:
        """Return what was looked at last."""
        return await self._store.get_meta(_SEEN)

    async def seen(self, order: str) -> None:
        """Note it."""
        await self._store.set_meta(_SEEN, order)

    async def is_known(self, order: str) -> bool:
        """Look for it among the commands, and in the log."""
        if await self._store.read(lambda connection: rows.one(connection, order)) is not None:
            return True
        found = await asyncio.to_thread(newest_rows, self._folder, AuditTrail.ACTS, _ROWS)
        return any(row.action == _ACTION and row.resource == order for row in found)

    async def keep(self, ended: EndedUpdate) -> None:
        """Write it down."""
        report = ended.report
        await self._log.keep(
            subject=self._node,
            action=_ACTION,
            resource=report.id,
            decision=report.outcome.value,
            rule=report.code or ("back to the version before" if ended.back else "a bundle"),
            actor="root" if ended.local else "a local tool",
            version=report.version,
            previous=report.previous,
            reason=report.reason,
            ended_utc_ns=report.utc_ns,
        )


def make_recorder(tools: Tools, log: AuditLog | None, root: Path) -> tuple[Service, ...]:
    """Make what writes down updates that no command of the fleet ordered; `root` has the environments.

    A node without commands and devices has no audit log else, so it gets one for this.
    """
    own: tuple[Service, ...] = ()
    folder = Path(tools.config.node.state_dir) / "audit"
    if log is None:
        audit = own_audit(tools)
        own, log = (audit,), audit.log
    book = AuditedUpdates(log, tools.store, tools.me.node, folder)
    return (*own, UpdateRecorder(Disk(Layout(root, folder.parent)), book))
