"""The fleet's configuration of a node, as methods of its client."""

from __future__ import annotations

from typing import Final

from qedge.client.fleet import Transport
from qedge.wire.configuration import (
    ConfigurationApply,
    ConfigurationRollback,
    ConfigurationStage,
    ConfigurationView,
    SettingList,
    StagedConfiguration,
)

_CHECK_LIMIT_S: Final = 60.0


class ConfigurationClient:
    """Stage, apply, roll back; a change goes on by itself, `show` tells of it. Every method raises `QedgeError`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def show(self) -> ConfigurationView:
        """Describe what is in force, staged and under way."""
        return await self._transport.ask("GET", "/v1/configuration", ConfigurationView)

    async def settings(self) -> SettingList:
        """List all effective settings with their origin."""
        return await self._transport.ask("GET", "/v1/configuration/settings", SettingList)

    async def stage(self, serial: int, text: str) -> StagedConfiguration:
        """Have a layer checked and kept."""
        body = ConfigurationStage(serial, text)
        return await self._transport.ask(
            "PUT", "/v1/configuration/staged", StagedConfiguration, body=body, timeout_s=_CHECK_LIMIT_S
        )

    async def apply(self, wanted: ConfigurationApply) -> ConfigurationView:
        """Begin to put the staged layer into force."""
        return await self._transport.ask(
            "POST", "/v1/configuration/apply", ConfigurationView, body=wanted, timeout_s=_CHECK_LIMIT_S
        )

    async def rollback(self, wanted: ConfigurationRollback) -> ConfigurationView:
        """Begin to put back the layer before the one in force."""
        return await self._transport.ask(
            "POST", "/v1/configuration/rollback", ConfigurationView, body=wanted, timeout_s=_CHECK_LIMIT_S
        )
