"""Commands to devices: decided by policy, sent through the enforcement point, answered by the device.

A command with a key of its client is on the disk before it is sent; the same key again never makes another one, and
after a crash goes out with the same request id, under which a device acts once. One without a key goes out at once,
which is what a loop from a reading to an actuator wants.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import OrderedDict
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.metrics import Metrics
from qedge.devices.segments.admission import is_out
from qedge.devices.segments.ports import CommandJournal, Denied, Downlink, KnownCommand, Subjects
from qedge.security.model import Action, Resource, ResourceKind, Subject, SubjectKind
from qedge.security.ports import Judge
from qedge.wire.segments import CommandAsk, CommandView
from qedge_device.commands import CommandStatus, pack_command, unpack_done

MAX_PENDING: Final = 16_384
"""Commands that wait for answers; beyond that the oldest is given up, which whoever waits for it learns in the end."""

UNKNOWN: Final = "unknown"
_HALF: Final = 4


class Pending:
    """A command that is away. `answer` is set once the device has spoken: outcome and text.

    `given_up`: somebody has waited for the answer in vain.
    """

    __slots__ = ("answer", "command", "device", "given_up", "request", "sent_ns")

    def __init__(self, device: str, command: str, request: bytes, sent_ns: int) -> None:
        self.device = device
        self.command = command
        self.request = request
        self.sent_ns = sent_ns
        self.given_up = False
        self.answer: asyncio.Future[tuple[CommandStatus, str]] = asyncio.get_running_loop().create_future()


class CommandDesk:
    """All commands of this node's devices."""

    def __init__(
        self,
        judge: Judge,
        subjects: Subjects,
        downlink: Downlink,
        journal: CommandJournal,
        *,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
        denied: Denied = lambda *_: None,
    ) -> None:
        self._judge = judge
        self._subjects = subjects
        self._downlink = downlink
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._denied = denied
        self._run = random_bytes(_HALF)
        self._numbers = itertools.count(1)
        self._pending: OrderedDict[bytes, Pending] = OrderedDict()
        self._policies = 0

    def policy_changed(self) -> None:
        """Decide once more about what was let through and is not sent yet."""
        self._policies += 1

    def issue(self, by: Subject | None, device: str, command: str, argument: bytes = b"") -> Pending:
        """Decide and send at once; await `answer` of what is returned, or do not.

        Raises `command.no_device`, `command.refused`, `command.unreachable`.
        """
        self._check(by, device, command)
        return self._send(device, command, argument, self._next_request())

    async def command(self, by: Subject | None, ask: CommandAsk, *, client: str) -> CommandView:
        """Decide, send and wait for the device's answer; `client` is in whose name `ask.key` counts.

        Raises what `issue` raises, `command.conflict` where the key belongs to another command, and `store.*`.
        """
        self._check(by, ask.device, ask.command)
        if not ask.key:
            pending = self._send(ask.device, ask.command, ask.argument, self._next_request())
            return await self._wait(pending, ask.deadline_s)
        digest = hashlib.sha256(b"\0".join((ask.device.encode(), ask.command.encode(), ask.argument))).digest()
        request = self._next_request()
        decided = (self._policies, by.epoch if by is not None else 0)
        known = await self._journal.begin(client, ask.key, digest, request, self._clock.utc_ns())
        if decided != (self._policies, by.epoch if by is not None else 0):
            self._check(by, ask.device, ask.command)  # a disk may be slow: what has changed meanwhile counts
        if known is not None:
            return await self._repeat(known, digest, ask, client)
        return await self._do(ask, request, client, repeated=False)

    def hear(self, subject: Subject, body: bytes) -> None:
        """Take a device's answer; one to nothing that it was asked has no effect."""
        try:
            request, status, detail = unpack_done(body)
        except ValueError:
            return
        pending = self._pending.get(request)
        if pending is not None and pending.device == subject.id:
            del self._pending[request]
            if not pending.answer.done():
                pending.answer.set_result((status, detail))

    async def _repeat(self, known: KnownCommand, digest: bytes, ask: CommandAsk, client: str) -> CommandView:
        if known.digest != digest:
            raise QedgeError("command.conflict", "The key was used before with another command.", fix="Take a new key.")
        if known.outcome and known.outcome != UNKNOWN:
            return CommandView(ask.device, ask.command, known.request.hex(), known.outcome, known.detail, repeated=True)
        return await self._do(ask, known.request, client, repeated=True)

    async def _do(self, ask: CommandAsk, request: bytes, client: str, *, repeated: bool) -> CommandView:
        pending = self._pending.get(request)
        if pending is None or pending.given_up:
            # it may never have arrived, or its answer was lost: under the same id a device does it once
            pending = self._send(ask.device, ask.command, ask.argument, request)
        view = await self._wait(pending, ask.deadline_s, repeated=repeated)
        if view.outcome != UNKNOWN:
            await self._journal.end(client, ask.key, view.outcome, view.detail)
        return view

    def _check(self, by: Subject | None, device: str, command: str) -> None:
        target = self._subjects.find(SubjectKind.DEVICE, device)
        now_ns = self._clock.now_ns()
        resource = Resource(ResourceKind.DEVICE, command, target.segment if target is not None else "", device)
        decision = self._judge.decide(by, Action.COMMAND, resource, now_ns, self._clock.utc_ns())
        if not decision.allowed or command.startswith("_"):
            self._denied(by, Action.COMMAND, resource, decision)
            self._metrics.add("qedge_commands_total", ("refused",))
            raise QedgeError(
                "command.refused",
                f"Policy does not let {by.id if by is not None else 'nobody'} command {command!r} of {device!r} "
                f"({decision.reason}).",
                fix="`qedge policy explain` says which rule would have to permit it.",
                reason=str(decision.reason),
            )
        if target is None:
            raise QedgeError("command.no_device", f"No device is called {device!r}.", fix="`qedge device list`")
        if is_out(target, now_ns):
            self._metrics.add("qedge_commands_total", ("unreachable",))
            raise QedgeError(
                "command.unreachable",
                f"Nothing is sent to {device!r}: it is quarantined, revoked, or its identity was not checked lately.",
                fix=f"`qedge device show {device}` says why.",
            )

    def _send(self, device: str, command: str, argument: bytes, request: bytes) -> Pending:
        if len(self._pending) >= MAX_PENDING:
            self._pending.popitem(last=False)
        now_ns = self._clock.now_ns()
        pending = self._pending.get(request) or Pending(device, command, request, now_ns)
        pending.given_up = False
        # before it is sent: on a direct connection the answer may come while `down` still runs
        self._pending[request] = pending
        if not self._downlink.down(device, command, pack_command(request, argument), now_ns):
            self._pending.pop(request, None)
            self._metrics.add("qedge_commands_total", ("unreachable",))
            raise QedgeError("command.unreachable", f"{device!r} cannot be reached now.", fix="Try again later.")
        return pending

    async def _wait(self, pending: Pending, deadline_s: float, *, repeated: bool = False) -> CommandView:
        outcome, detail = UNKNOWN, "the device did not answer in time, and may have done it"
        try:
            async with asyncio.timeout(deadline_s):
                status, detail = await asyncio.shield(pending.answer)
            outcome = status.name.lower()
        except TimeoutError:
            pending.given_up = True
        took_ms = round((self._clock.now_ns() - pending.sent_ns) / 1e6, 3)
        self._metrics.add("qedge_commands_total", (outcome,))
        return CommandView(pending.device, pending.command, pending.request.hex(), outcome, detail, took_ms, repeated)

    def _next_request(self) -> bytes:
        """Return an id that no other command of this node has: random for each run, then counted."""
        return self._run + (next(self._numbers) & 0xFFFFFFFF).to_bytes(_HALF, "big")
