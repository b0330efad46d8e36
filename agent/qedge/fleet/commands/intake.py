"""Requests as they come: cheap checks first, then signatures, then the journal; only then the broker is thanked."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.bus.model import Incoming
from qedge.crypto.model import Member
from qedge.crypto.operators import peek_request, verify_approval, verify_request
from qedge.crypto.trust import Trust
from qedge.fleet.commands import rows, rules
from qedge.fleet.commands.config import CommandsConfig
from qedge.fleet.commands.journal import Journal, digest_of
from qedge.fleet.commands.lanes import Lanes
from qedge.fleet.commands.model import HELD_STEP, WAITING_STEP, Entry, Phase, report_of
from qedge.fleet.commands.ports import Executor
from qedge.fleet.commands.running import Runner
from qedge.fleet.commands.telling import Speaker, Teller
from qedge.mesh.crypto_thread import CryptoThread
from qedge.wire.commands import CancelCommand, CommandOrder, CommandRequest, OperatorRole, parse_command_topic
from qedge.wire.envelope import bad_message, decode

_LOG: Final = get_logger("fleet")
CANCEL: Final = "cancel"
_BURST: Final = 5.0
"""Seconds of bad signatures that may come at once."""

_AGAIN_NS: Final = 30 * 1_000_000_000
"""Least time between two readings of all requests."""

_CLOSE_S: Final = 5.0
_MOST_BAD: Final = 4096
_BAD_FOR_NS: Final = 600 * 1_000_000_000
"""How long it is remembered that a request was bad; a certificate may begin to count meanwhile."""


class Intake:
    """Takes requests from the topic. What raises has no effect, and the bus counts it."""

    def __init__(
        self,
        config: CommandsConfig,
        speaker: Speaker,
        trust: Trust,
        executors: Mapping[str, Executor],
        journal: Journal,
        teller: Teller,
        lanes: Lanes,
        runner: Runner,
        *,
        thread: CryptoThread,
        clock: Clock,
        metrics: Metrics,
        clock_good: Callable[[], bool | None],
    ) -> None:
        self._config = config
        self._speaker = speaker
        self._trust = trust
        self._executors = executors
        self._journal = journal
        self._teller = teller
        self._lanes = lanes
        self._runner = runner
        self._thread = thread
        self._clock = clock
        self._metrics = metrics
        self._clock_good = clock_good
        self._allowance = rules.Allowance(config.checks_per_s, config.checks_per_s * _BURST, clock.now_ns())
        self.opened = asyncio.Event()
        """Set once the journal is read; messages wait for it."""

        self._dropped = False
        self._again_ns = clock.now_ns()
        self._bad: OrderedDict[bytes, int] = OrderedDict()
        self._entering: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait for what is being written down, for a moment."""
        if self._entering:
            await asyncio.wait(self._entering, timeout=_CLOSE_S)
        for task in self._entering:
            task.cancel()

    def look_again(self) -> bool:
        """Say, once, whether requests were passed over for what is over perhaps, and should be read again.

        That is a flood, or a disk that was full: brokers take what was passed over for dealt with.
        """
        now_ns = self._clock.now_ns()
        again = self._dropped and now_ns >= self._again_ns and self._allowance.is_calm(now_ns)
        if again:
            self._dropped, self._again_ns = False, now_ns + _AGAIN_NS
        return again

    async def receive(self, message: Incoming) -> None:
        """Take one message. It is in the journal, or has no effect, when this returns."""
        try:
            await self._receive(message)
        except QedgeError as error:
            self._dropped |= error.code.startswith(("store.", "audit."))
            raise
        except asyncio.CancelledError:
            self._dropped = True  # the bus waits for no handler longer than it may
            raise

    async def _whole(self, work: Coroutine[None, None, None]) -> None:
        """Do the whole of what writes a command down and puts it in line, also where nobody waits for it any more.

        Half of it would be a row that nothing carries out, and that makes its own request look like a replay.
        """
        task = asyncio.create_task(work)
        self._entering.add(task)
        task.add_done_callback(self._entered)
        await asyncio.shield(task)

    def _entered(self, task: asyncio.Task[None]) -> None:
        self._entering.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that nothing complains later

    async def _receive(self, message: Incoming) -> None:
        await self.opened.wait()
        if self._entering:
            await asyncio.wait(self._entering)  # what is not written down yet is not known yet
        parsed = parse_command_topic(message.topic)
        if parsed is None or parsed[:2] != (self._speaker.fleet, self._speaker.node):
            raise bad_message("its topic is none of commands to this node")
        if not message.payload:
            return  # the sender wants no more of it: that orders nothing
        command, utc_ns = parsed[3], self._clock.utc_ns()
        _, order = decode(message.payload, message.topic, CommandOrder, utc_ns)
        digest, known = digest_of(order.signed), self._journal.digest(command)
        if known is not None:
            if known != digest:
                raise QedgeError("order.conflict", "Another command has this id.")
            await self._again(command, order, message.topic)
            return
        now = self._circumstances(utc_ns)
        _, request = peek_request(order.signed, message.topic)
        rules.check_address(request, now, command)
        void = rules.check_identity(request, now)
        rules.check_age(request, now, self._config)
        if self._journal.size >= self._config.max_kept:
            raise QedgeError(
                "order.queue_full",
                "So many commands are remembered that no more fit.",
                fix="Raise fleet.commands.max_kept, or wait until some are forgotten.",
            )
        self._check_known_bad(digest)
        member, approvers = await self._believe(order, message.topic, utc_ns)
        rules.check_share(member, self._journal.size, self._config)
        await self._whole(self._enter(request, digest, member, approvers, now, void))

    def _circumstances(self, utc_ns: int) -> rules.Circumstances:
        me = self._speaker
        return rules.Circumstances(
            me.fleet,
            me.node,
            me.key.key_id,
            self._journal.served,
            utc_ns,
            self._journal.newest_utc_ns,
            self._journal.dropped_utc_ns,
            self._clock_good(),
        )

    async def _believe(self, order: CommandOrder, topic: str, utc_ns: int) -> tuple[Member, list[Member]]:
        """Check signatures. Bad ones cost; where too many came, none is looked at for a moment."""
        self._check_allowance()
        try:
            _, member = await self._thread.run(verify_request, order.signed, topic, self._trust, utc_ns)
        except QedgeError:
            self._allowance.spend()
            self._note_bad(digest_of(order.signed))
            raise
        return member, await self._approvers(order, utc_ns)

    def _note_bad(self, digest: bytes) -> None:
        self._bad[digest] = self._clock.now_ns()
        if len(self._bad) > _MOST_BAD:
            self._bad.popitem(last=False)

    def _check_known_bad(self, digest: bytes) -> None:
        """Raise `order.flood` for what was found bad a while ago: what stands on a topic may come again and again."""
        found_ns = self._bad.get(digest)
        if found_ns is not None and self._clock.now_ns() - found_ns < _BAD_FOR_NS:
            raise QedgeError("order.flood", "The same was refused before.")

    def _check_allowance(self) -> None:
        if not self._allowance.has(self._clock.now_ns()):
            self._dropped = True
            raise QedgeError("order.flood", "Too many commands with bad signatures came.")

    async def _approvers(self, order: CommandOrder, utc_ns: int) -> list[Member]:
        good = []
        for approval in order.approvals:
            try:
                good.append(await self._thread.run(verify_approval, approval, order.signed, self._trust, utc_ns))
            except QedgeError:
                self._allowance.spend()
        return good

    async def _enter(
        self,
        request: CommandRequest,
        digest: bytes,
        member: Member,
        approvers: list[Member],
        now: rules.Circumstances,
        void: QedgeError | None,
    ) -> None:
        """Write a new command down, whether it is to be carried out, waits for a second person or is refused.

        `void`: why it does not count, whatever it asks for.
        """
        executor = self._executors.get(request.kind)
        entry = Entry(
            request.id,
            request.kind,
            executor.lane if executor is not None else "",
            Phase.WAITING,
            1,
            member.subject.name,
            member.key_id,
            request.serial,
            digest,
            msgspec.msgpack.encode(request),
            now.utc_ns,
            request.issued_utc_ns,
            request.expires_utc_ns,
            step=WAITING_STEP,
            note=request.note,
        )
        try:
            seconds = await self._judge(request, executor, member, approvers, now)
            if void is not None:
                raise void
            if seconds is None:
                entry = replace(entry, phase=Phase.HELD, step=HELD_STEP)
            else:
                entry = replace(entry, approvals=_approvals(seconds))
        except QedgeError as error:
            entry = _refused(entry, error, now.utc_ns)
        if await self._journal.knows_serial(entry.key_id, entry.serial):
            await self._refuse_replayed(entry, now.utc_ns)
        await self._audit(entry)
        await self._journal.add(entry)
        self._metrics.add("qedge_orders_total", (self._runner.label(entry.kind), _outcome(entry)))
        self._teller.tell(entry.id)
        if entry.phase is Phase.FAILED:
            self._log_refusal(entry, entry.code)
            return
        _LOG.info("order.accepted", command=entry.id, kind=entry.kind, operator=entry.operator)
        if entry.phase is Phase.WAITING:
            self._runner.enqueue(entry)

    async def _refuse_replayed(self, entry: Entry, utc_ns: int) -> None:
        """Raise `order.replayed`, and tell it: the journal has no room for two commands of one serial."""
        error = rows.replayed()
        entry = _refused(entry, error, utc_ns)
        self._note_bad(entry.digest)
        await self._audit(entry)
        self._log_refusal(entry, error.code)
        await self._teller.say(report_of(entry, utc_ns))
        raise error

    async def _judge(
        self,
        request: CommandRequest,
        executor: Executor | None,
        member: Member,
        approvers: list[Member],
        now: rules.Circumstances,
    ) -> tuple[Member, ...] | None:
        """Return who approved (nobody has to for most kinds), None where a second person is wanted; raises refusals."""
        rules.check_time(request, now, self._config)
        if executor is None:
            raise QedgeError(
                "order.unknown_kind",
                f"The node knows no command of the kind {request.kind}.",
                fix="`qedge fleet inventory --json` tells what each node can.",
            )
        role = await self._role(request, executor)
        rules.check_role(member, role, now, strict=self._config.synchronised_clock)
        executor.check(request)
        if request.kind != CANCEL:  # which makes room
            self._lanes.check_room()
        seconds = rules.second_persons(member, approvers, role)
        return seconds if seconds or not rules.needs_second(request.kind, self._config) else None

    async def _role(self, request: CommandRequest, executor: Executor) -> OperatorRole:
        """Return the role that a request takes: who may order a command may cancel it.

        Raises `order.not_found` where that is not known yet: it may come before the cancelling begins, and be anything.
        """
        if request.kind != CANCEL:
            return executor.role
        target = await self._journal.get(read_cancel(request).id)
        if target is None:
            raise QedgeError(
                "order.not_found",
                "The node knows no command of this id.",
                fix="`qedge commands list` on the node shows what it knows.",
            )
        other = self._executors.get(target.kind)
        return other.role if other is not None else executor.role

    async def _again(self, command: str, order: CommandOrder, topic: str) -> None:
        """A known request came again: tell how it stands, or begin it where it has got its approval."""
        entry = await self._journal.get(command)
        if entry is not None and entry.phase is Phase.HELD and order.approvals:
            utc_ns = self._clock.utc_ns()
            member, approvers = await self._believe(order, topic, utc_ns)
            executor = self._executors.get(entry.kind)
            request = msgspec.msgpack.decode(entry.request, type=CommandRequest)
            try:
                seconds = await self._judge(request, executor, member, approvers, self._circumstances(utc_ns))
            except QedgeError as error:
                await self._runner.end(entry, error)
                return
            if seconds:
                await self._whole(self._approve(entry, seconds))
        if entry is not None and entry.request:  # of what is forgotten there is nothing to tell
            self._teller.remind(command)

    async def _approve(self, entry: Entry, seconds: tuple[Member, ...]) -> None:
        """Put a command in line that waited for a second person."""
        entry = replace(
            entry,
            phase=Phase.WAITING,
            revision=entry.revision + 1,
            step=WAITING_STEP,
            approvals=_approvals(seconds),
        )
        await self._audit(entry)
        await self._journal.change(entry)
        self._teller.tell(entry.id)
        self._runner.enqueue(entry)

    async def _audit(self, entry: Entry) -> None:
        await self._runner.auditor.keep(
            command=entry.id,
            kind=entry.kind,
            operator=entry.operator,
            decision=_outcome(entry),
            why=entry.code or (f"approved by {' '.join(entry.approver_names)}" if entry.approvals else "signed"),
        )

    def _log_refusal(self, entry: Entry, code: str) -> None:
        _LOG.warning("order.refused", command=entry.id, kind=entry.kind, operator=entry.operator, code=code)


def read_cancel(request: CommandRequest) -> CancelCommand:
    """Read what is to be cancelled; raises `order.bad_arguments`."""
    try:
        return msgspec.msgpack.decode(request.arguments, type=CancelCommand)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QedgeError(
            "order.bad_arguments", f"The arguments cannot be read: {error}.", fix="Name the command that is to end."
        ) from error


def _approvals(seconds: Sequence[Member]) -> str:
    return " ".join(f"{each.subject.name}:{each.key_id}" for each in seconds)


def _refused(entry: Entry, error: QedgeError, utc_ns: int) -> Entry:
    return replace(entry, phase=Phase.FAILED, step="", code=error.code, reason=str(error)[:200], ended_utc_ns=utc_ns)


def _outcome(entry: Entry) -> str:
    return {Phase.FAILED: "refused", Phase.HELD: "held"}.get(entry.phase, "accepted")
