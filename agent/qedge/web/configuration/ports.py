"""What the HTTP interface needs of the fleet's configuration."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.configuration import (
    ConfigurationApply,
    ConfigurationRollback,
    ConfigurationStage,
    ConfigurationView,
    SettingList,
    StagedConfiguration,
)


class ConfigurationPort(Protocol):
    """Configuration that the fleet gives, for the operator's programs at the box; all raise `configuration.*`."""

    def view(self) -> ConfigurationView:
        """Describe what is in force, staged and under way."""
        ...

    async def settings(self) -> SettingList:
        """Return all effective settings with their origin."""
        ...

    async def stage(self, wanted: ConfigurationStage) -> StagedConfiguration:
        """Check a layer and keep it."""
        ...

    async def begin(self, wanted: ConfigurationApply) -> None:
        """Begin to put the staged layer into force."""
        ...

    async def begin_rollback(self, wanted: ConfigurationRollback) -> None:
        """Begin to put back the layer before."""
        ...


class ConfigurationNode(Protocol):
    """The node, as far as this is about it."""

    @property
    def configuration(self) -> ConfigurationPort:
        """Configuration that the fleet gives."""
        ...
