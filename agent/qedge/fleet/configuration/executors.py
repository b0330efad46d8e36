"""The commands of a fleet about configuration. Pure but for what the service does."""

from __future__ import annotations

from typing import Final, TypeVar

from qedge.fleet.commands.kinds.kind import Kind, KindOf
from qedge.fleet.commands.ports import AfterCrash, Progress, Recovered
from qedge.fleet.configuration.model import ConfigurationChange
from qedge.fleet.configuration.service import ConfigurationService, raise_unless_good
from qedge.wire.commands import CommandRequest, OperatorRole
from qedge.wire.configuration import (
    ConfigurationApply,
    ConfigurationOutcome,
    ConfigurationRollback,
    ConfigurationSnapshot,
    ConfigurationStage,
    ConfigurationStep,
    StagedConfiguration,
)

LANE: Final = "configuration"
_T = TypeVar("_T", ConfigurationApply, ConfigurationRollback)
_SHARE: Final = {ConfigurationStep.WRITING: 0.1, ConfigurationStep.TRIAL: 0.3, ConfigurationStep.RESTORING: 0.8}


class ConfigSnapshot(Kind):
    """`config-snapshot`: all effective settings without secrets, and where each was set. No arguments."""

    kind = "config-snapshot"
    lane = "configuration-look"
    role = OperatorRole.VIEWER
    time_limit_s = 30.0
    answers = ConfigurationSnapshot

    def __init__(self, service: ConfigurationService) -> None:
        self._service = service

    async def run(self, request: CommandRequest, progress: Progress) -> ConfigurationSnapshot:
        """Take it."""
        return await self._service.snapshot()


class ConfigStage(KindOf[ConfigurationStage]):
    """`config-stage`: check a layer and keep it. Arguments: `ConfigurationStage`, result: `StagedConfiguration`."""

    kind = "config-stage"
    lane = LANE
    time_limit_s = 120.0
    arguments = ConfigurationStage
    answers = StagedConfiguration

    def __init__(self, service: ConfigurationService) -> None:
        self._service = service

    async def run(self, request: CommandRequest, progress: Progress) -> StagedConfiguration:
        """Check and keep."""
        return await self._service.stage(self.read(request))


class _Changing(KindOf[_T]):
    """What applying and rolling back have in common: both wait for the end of a change that goes on by itself."""

    lane = LANE
    after_crash = AfterCrash.CHECK
    time_limit_s = 3900.0  # more than the longest trial
    answers = ConfigurationOutcome

    def __init__(self, service: ConfigurationService) -> None:
        self._service = service

    async def recover(self, request: CommandRequest) -> Recovered:
        """Say how the change ended, or go on waiting for it; raises `configuration.rolled_back`."""
        found = await self._service.found(request.id)
        if isinstance(found, ConfigurationOutcome):
            return Recovered(result=raise_unless_good(found))
        return Recovered(go_on=True)

    async def _begin(self, request: CommandRequest) -> None:
        raise NotImplementedError

    async def run(self, request: CommandRequest, progress: Progress) -> ConfigurationOutcome:
        """Begin the change unless it was begun before, and wait for its end; a cancelled one is undone."""
        found = await self._service.found(request.id)
        try:
            if found is None:
                await progress("checking", 0.0)
                await self._begin(request)
            await self._follow(request, progress)
            # the change may have made room for another one already
            found = await self._service.found(request.id)
        except BaseException:
            await self._service.abandon(request.id, "The command was cancelled.")
            raise
        return raise_unless_good(found if isinstance(found, ConfigurationOutcome) else None)

    async def _follow(self, request: CommandRequest, progress: Progress) -> None:
        told: ConfigurationStep | None = None
        while isinstance(change := await self._service.found(request.id), ConfigurationChange):
            if change.step is not told:
                told = change.step
                await progress(told.value, _SHARE.get(told, 0.0))
            await self._service.moved()


class ConfigApply(_Changing[ConfigurationApply]):
    """`config-apply`: put the staged layer into force. Arguments: `ConfigurationApply`."""

    kind = "config-apply"
    arguments = ConfigurationApply

    async def _begin(self, request: CommandRequest) -> None:
        await self._service.begin(self.read(request), request.id)


class ConfigRollback(_Changing[ConfigurationRollback]):
    """`config-rollback`: put back the layer before. Arguments: `ConfigurationRollback`."""

    kind = "config-rollback"
    arguments = ConfigurationRollback

    async def _begin(self, request: CommandRequest) -> None:
        await self._service.begin_rollback(self.read(request), request.id)
