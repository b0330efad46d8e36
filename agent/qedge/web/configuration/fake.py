"""The fleet's configuration that stands in for the real one in tests of the HTTP interface."""

from __future__ import annotations

import msgspec

from qedge.wire.configuration import (
    ConfigurationApply,
    ConfigurationRollback,
    ConfigurationStage,
    ConfigurationView,
    SettingList,
    SettingRow,
    StagedConfiguration,
)


class FakeConfiguration:
    """A `ConfigurationPort` that takes everything."""

    def __init__(self) -> None:
        self._view = ConfigurationView()

    def view(self) -> ConfigurationView:
        """Describe it."""
        return self._view

    async def settings(self) -> SettingList:
        """Return one setting."""
        return SettingList(("/etc/qedge/agent.toml",), (SettingRow("log.level", '"info"'),), "0" * 64)

    async def stage(self, wanted: ConfigurationStage) -> StagedConfiguration:
        """Keep the serial."""
        self._view = msgspec.structs.replace(self._view, staged=wanted.serial, highest=wanted.serial)
        return StagedConfiguration(wanted.serial, wanted.sha256)

    async def begin(self, wanted: ConfigurationApply) -> None:
        """Have it in force at once."""
        self._view = msgspec.structs.replace(self._view, serial=wanted.serial, staged=0)

    async def begin_rollback(self, wanted: ConfigurationRollback) -> None:
        """Have nothing in force."""
        self._view = msgspec.structs.replace(self._view, serial=0)
