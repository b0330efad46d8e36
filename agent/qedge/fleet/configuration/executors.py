"""The commands of a fleet about configuration. Pure but for what the service does."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from qedge.base.errors import QedgeError
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
_T = TypeVar("_T", bound=msgspec.Struct)
_SHARE: Final = {ConfigurationStep.WRITING: 0.1, ConfigurationStep.TRIAL: 0.3, ConfigurationStep.RESTORING: 0.8}


def arguments(request: CommandRequest, kind: type[_T]) -> _T:
    """Decode the arguments of a command; raises `configuration.bad_arguments`."""
    try:
        return msgspec.msgpack.decode(request.arguments, type=kind)
    except msgspec.DecodeError as error:
        raise QedgeError(
            "configuration.bad_arguments", f"The arguments of {request.kind} are wrong: {error}."
        ) from error


class ConfigSnapshot:
    """`config-snapshot`: all effective settings without secrets, and where each was set. No arguments."""

    kind = "config-snapshot"
    lane = "configuration-look"
    role = OperatorRole.VIEWER
    after_crash = AfterCrash.RERUN
    two_persons = False
    time_limit_s = 30.0

    def __init__(self, service: ConfigurationService) -> None:
        self._service = service

    def check(self, request: CommandRequest) -> None:
        """Refuse arguments."""
        if request.arguments:
            raise QedgeError("configuration.bad_arguments", "A snapshot takes no arguments.")

    async def run(self, request: CommandRequest, progress: Progress) -> ConfigurationSnapshot:
        """Take it."""
        return await self._service.snapshot()

    async def recover(self, request: CommandRequest) -> Recovered:
        """Take it anew."""
        return Recovered(go_on=True)


class ConfigStage:
    """`config-stage`: check a layer and keep it. Arguments: `ConfigurationStage`, result: `StagedConfiguration`."""

    kind = "config-stage"
    lane = LANE
    role = OperatorRole.OPERATOR
    after_crash = AfterCrash.RERUN  # the same text under the same serial is the same layer
    two_persons = False
    time_limit_s = 120.0

    def __init__(self, service: ConfigurationService) -> None:
        self._service = service

    def check(self, request: CommandRequest) -> None:
        """Look at the arguments."""
        arguments(request, ConfigurationStage)

    async def run(self, request: CommandRequest, progress: Progress) -> StagedConfiguration:
        """Check and keep."""
        return await self._service.stage(arguments(request, ConfigurationStage))

    async def recover(self, request: CommandRequest) -> Recovered:
        """Stage it anew."""
        return Recovered(go_on=True)


class _Changing:
    """What applying and rolling back have in common: both wait for the end of a change that goes on by itself."""

    lane = LANE
    role = OperatorRole.OPERATOR
    after_crash = AfterCrash.CHECK
    two_persons = False
    time_limit_s = 3900.0  # more than the longest trial

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
        if found is None:
            await progress("checking", 0.0)
            await self._begin(request)
        try:
            await self._follow(request, progress)
            # the change may have made room for another one already
            found = await self._service.found(request.id)
        except BaseException:
            self._service.abandon(request.id, "The command was cancelled.")
            raise
        return raise_unless_good(found if isinstance(found, ConfigurationOutcome) else None)

    async def _follow(self, request: CommandRequest, progress: Progress) -> None:
        told: ConfigurationStep | None = None
        while isinstance(change := await self._service.found(request.id), ConfigurationChange):
            if change.step is not told:
                told = change.step
                await progress(told.value, _SHARE.get(told, 0.0))
            await self._service.moved()


class ConfigApply(_Changing):
    """`config-apply`: put the staged layer into force. Arguments: `ConfigurationApply`."""

    kind = "config-apply"

    def check(self, request: CommandRequest) -> None:
        """Look at the arguments."""
        arguments(request, ConfigurationApply)

    async def _begin(self, request: CommandRequest) -> None:
        await self._service.begin(arguments(request, ConfigurationApply), request.id)


class ConfigRollback(_Changing):
    """`config-rollback`: put back the layer before. Arguments: `ConfigurationRollback`."""

    kind = "config-rollback"

    def check(self, request: CommandRequest) -> None:
        """Look at the arguments."""
        arguments(request, ConfigurationRollback)

    async def _begin(self, request: CommandRequest) -> None:
        await self._service.begin_rollback(arguments(request, ConfigurationRollback), request.id)
