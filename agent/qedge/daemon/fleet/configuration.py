"""Configuration that the fleet gives, put together with the running daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.settings import KeyPath
from qedge.config import AgentConfig, LoadedConfig, Verdict, changed_sections
from qedge.daemon.fleet.ports import Parts
from qedge.fleet.commands.ports import Executor
from qedge.fleet.configuration.executors import ConfigApply, ConfigRollback, ConfigSnapshot, ConfigStage
from qedge.fleet.configuration.files import ConfigurationFiles
from qedge.fleet.configuration.gate import Vitals
from qedge.fleet.configuration.ports import Candidate
from qedge.fleet.configuration.service import ConfigurationService
from qedge.fleet.configuration.settings import setting_rows
from qedge.wire.configuration import SettingRow

_SHOWN_FAULTS: Final = 5
_UP: Final = ("ready", "finished")
_OPENING: Final = "starting"
"""What a driver says that has neither opened nor failed since it was configured."""


@dataclass(frozen=True, slots=True)
class Running:
    """What the life of the daemon offers: the configuration that it has read, the one in force, and its own doings."""

    loaded: Callable[[], LoadedConfig]
    in_force: Callable[[], AgentConfig]
    check: Callable[[str], Verdict]
    reload: Callable[[], Awaitable[None]]
    restart_due: Callable[[], bool]
    restart: Callable[[], None]
    stopping: Callable[[], bool]


class RunningSettings:
    """Fills `qedge.fleet.configuration.ports.NodeSettings`."""

    def __init__(self, parts: Parts, running: Running) -> None:
        self._parts = parts
        self._running = running

    async def check(self, text: str | None) -> Candidate:
        """Check a layer together with all other files, drivers' settings too; raises `configuration.rejected`."""
        verdict = await asyncio.to_thread(self._running.check, text or "")
        if verdict.loaded is None:
            raise _rejection(verdict)
        changes = changed_sections(self._running.in_force(), verdict.loaded.config)
        drivers = tuple(name for change in changes if change.section == "drivers" for name in change.names)
        return Candidate(
            tuple(change.section for change in changes),
            tuple(change.section for change in changes if not change.live),
            tuple(name for name in drivers if name in verdict.loaded.config.drivers),
        )

    async def take_over(self) -> None:
        """Reload, as SIGHUP does."""
        await self._running.reload()

    @property
    def layer_sha256(self) -> str:
        """Digest of the fleet's layer as it was read."""
        return self._running.loaded().fleet_sha256

    @property
    def restart_due(self) -> bool:
        """Whether sections wait for the next start."""
        return self._running.restart_due()

    @property
    def stopping(self) -> bool:
        """Whether the services end."""
        return self._running.stopping()

    def restart(self) -> None:
        """End in order and begin anew."""
        self._running.restart()

    def vitals(self) -> Vitals:
        """Look at services, drivers and the broker."""
        parts = self._parts
        drivers = [view for view in parts.node.drivers() if view.admin_state == "unlocked"]
        return Vitals(
            services={view.name: view.state in _UP for view in parts.supervisor.views()},
            drivers={view.name: view.operating_state != "down" for view in drivers},
            opening=frozenset(view.name for view in drivers if view.reason == _OPENING),
            connected=parts.bus.connected,
            pending=self.restart_due,
        )

    def given(self) -> Mapping[str, object]:
        """Return what the files say together."""
        return self._running.loaded().text.values

    def rows(self) -> tuple[SettingRow, ...]:
        """Return all effective settings."""
        return rows_of(self._running.loaded())

    def files(self) -> tuple[str, ...]:
        """Return the files that were read."""
        return self._running.loaded().files


def rows_of(loaded: LoadedConfig) -> tuple[SettingRow, ...]:
    """List all effective settings of a configuration with their origin."""
    values: dict[str, object] = msgspec.to_builtins(loaded.config)

    def place(path: KeyPath) -> tuple[str, int]:
        origin = loaded.origin(*path)
        return (origin.file, origin.line) if origin is not None else ("", 0)

    return setting_rows(values, place)


def add_configuration(parts: Parts, running: Running) -> list[Executor]:
    """Take the fleet's configuration into the daemon; returns the executors of all commands about it."""
    service = ConfigurationService(
        parts.config.fleet.configuration,
        ConfigurationFiles(Path(parts.config.node.state_dir)),
        RunningSettings(parts, running),
        clock=parts.clock,
        metrics=parts.metrics,
    )
    parts.node.attach_configuration(service)
    parts.mesh.announcer.config_serial = lambda: service.view().serial
    service.on_change = parts.mesh.capabilities_changed
    parts.supervisor.add(service)
    return [ConfigSnapshot(service), ConfigStage(service), ConfigApply(service), ConfigRollback(service)]


def _rejection(verdict: Verdict) -> QedgeError:
    first = verdict.faults[0]
    shown = "; ".join(str(fault) for fault in verdict.faults[:_SHOWN_FAULTS])
    more = len(verdict.faults) - _SHOWN_FAULTS
    return QedgeError(
        "configuration.rejected",
        f"The layer has faults: {shown}{f'; and {more} more' if more > 0 else ''}.",
        fix="Correct it and stage it again.",
        key=first.key,
        line=first.line,
        faults=len(verdict.faults),
    )
