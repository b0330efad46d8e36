"""Questions and answers inside sessions: who answers what, and who waits for an answer."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.wire.envelope import purpose_of
from qedge.wire.problem import error_of, problem_of
from qedge.wire.session import Answer, Call

_LOG: Final = get_logger("mesh")
MAX_SERVED: Final = 256
MAX_SERVED_OF_ONE: Final = 64

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)
Serve = Callable[[str, Q], Awaitable[msgspec.Struct]]
"""Answers a question of the named peer, or raises `QedgeError`."""

_ENCODE: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Server:
    request: type[msgspec.Struct]
    serve: Callable[[str, msgspec.Struct], Awaitable[msgspec.Struct]]


class Calls:
    """What this node asks peers, and what it answers them."""

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}
        self._waiting: dict[int, tuple[str, Call, asyncio.Future[Answer]]] = {}
        self._ids = itertools.count(1)
        self._served: Counter[str] = Counter()
        self._bootstrap: set[str] = set()

    def serve(self, request: type[Q], serve: Serve[Q], *, bootstrap: bool = False) -> None:
        """Let `serve` answer every question of this type; with `bootstrap` in restricted sessions too."""

        async def checked(peer: str, body: msgspec.Struct) -> msgspec.Struct:
            if not isinstance(body, request):
                raise QedgeError("bus.bad_message", "The question is of another type than it says.")
            return await serve(peer, body)

        self._servers[purpose_of(request)] = _Server(request, checked)
        if bootstrap:
            self._bootstrap.add(purpose_of(request))

    def check(self, peer: str, purpose: str, *, restricted: bool) -> None:
        """Raise `session.extra_key_missing` where a question may not travel in a restricted session."""
        if restricted and purpose not in self._bootstrap:
            raise QedgeError(
                "session.extra_key_missing",
                f"Policy wants an extra key in the session with {peer}, and both sides share none yet.",
                fix="Look at the QKD link; `qedge peers` shows when the key is there.",
            )

    def ask(self, peer: str, body: msgspec.Struct, deadline_s: float) -> tuple[Call, asyncio.Future[Answer]]:
        """Make a question and the future of its answer; `forget` it in the end."""
        call = Call(next(self._ids), purpose_of(type(body)), deadline_s, _ENCODE(body))
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[call.id] = (peer, call, answer)
        return call, answer

    def outstanding(self, peer: str) -> list[Call]:
        """Return the questions that `peer` has not answered yet."""
        return [call for asked, call, waiting in self._waiting.values() if asked == peer and not waiting.done()]

    def forget(self, call: Call) -> None:
        """Wait no longer for the answer of `call`."""
        self._waiting.pop(call.id, None)

    def answered(self, peer: str, answer: Answer) -> None:
        """Hand an answer to whoever waits for it; raises `bus.bad_message` where nobody asked this peer."""
        entry = self._waiting.get(answer.id)
        if entry is None or entry[2].done() or entry[0] != peer:
            raise QedgeError("bus.bad_message", "An answer came that nobody waits for.")
        entry[2].set_result(answer)

    def give_up(self, peer: str, why: str) -> None:
        """End all waiting for `peer`: its session is gone."""
        for asked, _, waiting in self._waiting.values():
            if asked == peer and not waiting.done():
                waiting.set_exception(unreachable(peer, why))

    def still_fits(self, peer: str, call: Call, *, restricted: bool) -> bool:
        """Say whether a question may be asked again in another session; who waits for one that may not hears of it."""
        try:
            self.check(peer, call.purpose, restricted=restricted)
        except QedgeError as error:
            entry = self._waiting.get(call.id)
            if entry is not None and not entry[2].done():
                entry[2].set_exception(error)
            return False
        return True

    async def answer(self, peer: str, call: Call, *, restricted: bool = False) -> Answer:
        """Answer a question; never raises. At most 64 questions of one peer and 256 in all are answered at once."""
        if self._served[peer] >= MAX_SERVED_OF_ONE or self._served.total() >= MAX_SERVED:
            error = QedgeError("peer.busy", "The node answers too many questions already.", fix="Try again soon.")
            return Answer(call.id, problem=problem_of(error))
        self._served[peer] += 1
        try:
            self.check(peer, call.purpose, restricted=restricted)
            async with asyncio.timeout(call.deadline_s):
                reply = await self._run(peer, call)
            return Answer(call.id, purpose_of(type(reply)), _ENCODE(reply))
        except QedgeError as error:
            return Answer(call.id, problem=problem_of(error))
        except TimeoutError:
            late = QedgeError("peer.timeout", "The node could not answer in time.", fix="Try again.")
            return Answer(call.id, problem=problem_of(late))
        except Exception as error:  # noqa: BLE001 - a fault in one room must not end the session
            _LOG.error("peer.call_failed", peer=peer, purpose=call.purpose, error=f"{type(error).__name__}: {error}")
            fault = QedgeError("internal.unexpected", "The node failed to answer; its log has the details.")
            return Answer(call.id, problem=problem_of(fault))
        finally:
            self._served[peer] -= 1
            if not self._served[peer]:
                del self._served[peer]

    async def _run(self, peer: str, call: Call) -> msgspec.Struct:
        server = self._servers.get(call.purpose)
        if server is None:
            raise QedgeError("peer.not_offered", "The node does not answer this kind of question.")
        try:
            body = msgspec.msgpack.decode(call.body, type=server.request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise QedgeError("bus.bad_message", f"The question cannot be read ({error}).") from error
        return await server.serve(peer, body)


def read_answer(answer: Answer, expected: type[T]) -> T:
    """Return what was answered; raises the peer's error, or `bus.bad_message`."""
    if answer.problem is not None:
        raise error_of(answer.problem)
    if answer.purpose != purpose_of(expected):
        raise QedgeError("bus.bad_message", f"The peer answered {answer.purpose!r} to another question.")
    try:
        return msgspec.msgpack.decode(answer.body, type=expected)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QedgeError("bus.bad_message", f"The peer's answer cannot be read ({error}).") from error


def unreachable(peer: str, why: str) -> QedgeError:
    """Make the error for a peer that does not answer."""
    return QedgeError("peer.unreachable", f"{peer} cannot be reached: {why}.", fix="`qedge peers` shows who is there.")
