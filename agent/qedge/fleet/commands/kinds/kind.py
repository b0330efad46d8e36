"""What kinds of commands share: how their arguments are read, and what most of them answer."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.fleet.commands.ports import AfterCrash, Recovered
from qedge.wire.commands import CommandRequest, OperatorRole

T = TypeVar("T", bound=msgspec.Struct)


class Kind:
    """A kind without arguments that may be begun anew; subclasses say the rest."""

    kind = ""
    lane = ""
    role = OperatorRole.OPERATOR
    after_crash = AfterCrash.RERUN
    two_persons = False
    time_limit_s = 60.0
    arguments: type[msgspec.Struct] | None = None
    answers: type[msgspec.Struct] | None = None
    """The struct of the result."""

    def check(self, request: CommandRequest) -> None:
        """Raise `order.bad_arguments` where there are any."""
        if request.arguments:
            raise QedgeError("order.bad_arguments", f"A command {self.kind} has no arguments.", fix="Leave them out.")

    async def recover(self, _request: CommandRequest) -> Recovered:
        """Begin anew."""
        return Recovered(go_on=True)


class KindOf(Kind, Generic[T]):
    """A kind with arguments. They may be missing where all their fields have defaults."""

    arguments: type[T]

    def check(self, request: CommandRequest) -> None:
        """Raise `order.bad_arguments`."""
        self.read(request)

    def read(self, request: CommandRequest) -> T:
        """Return the arguments; raises `order.bad_arguments`."""
        try:
            return (
                msgspec.msgpack.decode(request.arguments, type=self.arguments)
                if request.arguments
                else self.arguments()
            )
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise QedgeError(
                "order.bad_arguments",
                f"The arguments of {self.kind} cannot be read: {error}.",
                fix="See docs/reference/fleet-commands.md.",
            ) from error
