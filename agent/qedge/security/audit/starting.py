"""What the audit log says of a start: which version it is, and the one before where it is another.

The updater tells of updates in its own words and only where it knows how, so that one to this version by an older
updater would leave nothing. What has started is known here in any case: by a bundle, by a package, or by hand.
"""

from __future__ import annotations

import asyncio
from typing import Final

from qedge.base.log import get_logger
from qedge.crypto.durable_file import write_durably
from qedge.security.audit.log import AuditLog
from qedge.wire.audit import AuditKind, AuditTrail

_LOG: Final = get_logger("security")
_NOTE: Final = "version"
"""File beside the log. The database would be put back with an update that is rolled back, and rows give way in time."""

_MOST: Final = 64
_UNKNOWN: Final = "an older one"


async def record_start(log: AuditLog, node: str, version: str, **facts: str) -> None:
    """Write down that the node starts, and with which version; `log` is open."""
    is_new = not await log.rows(AuditTrail.ACTS, 1)
    log.record(AuditKind.ACT, subject=node, action="start", actor="node", version=version, **facts)
    before = await asyncio.to_thread(_read, log)
    if before == version:
        return
    if before or not is_new:
        log.record(
            AuditKind.ACT,
            subject=node,
            action="version",
            resource=version,
            decision="started",
            actor="node",
            before=before or _UNKNOWN,
        )
        await log.flush()
    await asyncio.to_thread(_write, log, version)


def _read(log: AuditLog) -> str:
    try:
        return (log.folder / _NOTE).read_text("utf-8", "replace")[:_MOST].strip()
    except OSError:
        return ""


def _write(log: AuditLog, version: str) -> None:
    """Note the version; where the disk is full it is told once more at the next start."""
    try:
        write_durably(log.folder / _NOTE, f"{version}\n".encode())
    except OSError as error:
        _LOG.warning("audit.failed", error=f"The version cannot be noted: {error}.")
