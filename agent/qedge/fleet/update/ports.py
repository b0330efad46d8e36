"""What the updater needs of the box that it updates."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from qedge.fleet.update.model import EndedUpdate, ServiceView


class Machine(Protocol):
    """The service manager, the making of environments, and time. All of it may be called again after a kill."""

    def now_s(self) -> float:
        """Return the time since boot in seconds."""
        ...

    def utc_ns(self) -> int:
        """Return wall time, nanoseconds since 1970."""
        ...

    def rest(self, seconds: float) -> None:
        """Wait."""
        ...

    def python(self) -> str:
        """Return the version of the interpreter that environments are made with, as major.minor."""
        ...

    def platform(self) -> str:
        """Return the platform as manifests name it."""
        ...

    def build(self, slot: Path, wheels: Path, version: str) -> None:
        """Make the environment in `slot` anew from the wheels alone; raises `update.not_built`."""
        ...

    def try_out(self, slot: Path, version: str) -> None:
        """Let the program in `slot` say its version and check the configuration; raises `update.not_built`."""
        ...

    def stop(self, *, kill: bool = False) -> None:
        """Stop the service, at once if told to kill it; it is stopped when this returns. Raises `update.no_service`."""
        ...

    def start(self) -> None:
        """Start the service anew, without waiting for it; raises `update.no_service`."""
        ...

    def look(self) -> ServiceView:
        """Return how the service does; raises `update.no_service`."""
        ...

    def ready(self) -> bool:
        """Say whether the daemon says at its socket that it is ready."""
        ...

    def keep_databases(self, slot: Path) -> None:
        """Copy the databases of the service, which is stopped, by the program in `slot`; raises `update.no_copy`."""
        ...

    def restore_databases(self, slot: Path) -> tuple[str, ...]:
        """Put those back whose schema has changed since; returns their names. The service is stopped."""
        ...


class Verify(Protocol):
    """Checks a signature of the second family."""

    def __call__(self, algorithm: str, public_key: bytes, message: bytes, signature: bytes, context: bytes) -> bool:
        """Say whether it is good."""
        ...


class UpdateBook(Protocol):
    """The audit log, as far as ends of updates stand in it."""

    async def last(self) -> str:
        """Return the order of the update that was looked at last; empty: none was."""
        ...

    async def seen(self, order: str) -> None:
        """Note which update was looked at last; raises `store.*`."""
        ...

    async def is_known(self, order: str) -> bool:
        """Say whether the log has the end of an update already, or a command of the fleet that ordered it."""
        ...

    async def keep(self, ended: EndedUpdate) -> None:
        """Write down how an update ended; returns once that is on the disk, raises `audit.unavailable`."""
        ...
