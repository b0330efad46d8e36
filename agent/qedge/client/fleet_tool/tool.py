"""The fleet tool as a Python object: inventory, commands, approvals, all noted in the operator's audit trail.

async with FleetTool(folder, identity, config, ...) as tool:
    nodes = parse_selection("label=edge").pick(await tool.nodes())
    await tool.send(Order("drain"), [node.name for node in nodes])
    async for command in tool.watch():
        print(command.node, command.ending, command.reason)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, uuid7
from qedge.bus.config import BusConfig
from qedge.bus.model import Endpoint
from qedge.client.fleet_tool.connection import FleetConnection
from qedge.client.fleet_tool.model import FleetNode, SentCommand
from qedge.client.fleet_tool.operator_folder import OperatorFolder, account
from qedge.client.fleet_tool.rollout_plan import Order
from qedge.client.fleet_tool.standing import StandingRequests, digest_of
from qedge.client.fleet_tool.trail import Act, TrailEntry, arguments_hash
from qedge.client.fleet_tool.watching import Watch
from qedge.crypto.operator_files import OperatorIdentity
from qedge.crypto.operators import approve, pack_order, sign_request, verify_approval, verify_request
from qedge.crypto.trust import Trust
from qedge.wire.commands import (
    Approval,
    CancelCommand,
    CommandOrder,
    CommandReport,
    CommandRequest,
    command_topic,
)

AT_ONCE: Final = 100
"""Requests on their way to the broker at once."""

GATHER_S: Final = 0.03
"""How long news is gathered before it is looked at: nodes of one command end together, and each look is an fsync."""

PUBLISH_LIMIT_S: Final = 60.0
CANCEL_KIND: Final = "cancel"
MAX_OTHERS: Final = 3
"""Approvals that go with one's own; `CommandOrder` holds one more."""

_QUIET_S: Final = 0.4
_SETTLE_LIMIT_S: Final = 30.0
_ORDER_LIMIT_S: Final = 5.0
_TICK_S: Final = 0.5
_MARGIN_S: Final = 60


class FleetTool:
    """An operator's hand on a fleet. `async with` connects; methods raise `QedgeError`.

    A request is noted in the trail before it is published, and how it ended once that is known.
    """

    def __init__(
        self,
        folder: OperatorFolder,
        identity: OperatorIdentity,
        config: BusConfig,
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        uniform: Callable[[], float],
        endpoint: Endpoint | None = None,
    ) -> None:
        self.folder = folder
        self.fleet = identity.fleet
        self.operator = identity.name
        self.clock = clock
        self.connection = FleetConnection(
            identity.name,
            Trust(identity.anchor, identity.fleet),
            config,
            clock=clock,
            random_bytes=random_bytes,
            uniform=uniform,
            endpoint=endpoint,
        )
        self.commands = Watch()
        self._key, self._chain = identity.key, identity.chain
        self._random_bytes = random_bytes
        self._user = account()
        self._told = asyncio.Event()
        self._news: dict[tuple[str, str], SentCommand] = {}
        self._noted: set[str] = set()
        self._looked_ns = 0
        self._standing = StandingRequests(self.connection, clock)
        self.connection.on_report.append(self._reported)

    async def __aenter__(self) -> FleetTool:
        await self.connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.connection.__aexit__(kind, error, trace)

    async def nodes(self) -> tuple[FleetNode, ...]:
        """Return the nodes whose births the broker retains, once no more of them come."""
        await self.connection.settle(_QUIET_S, _SETTLE_LIMIT_S)
        return self.connection.inventory.nodes()

    def make_requests(
        self, order: Order, nodes: Iterable[str], *, expires_s: float, time_limit_s: float = 0.0, note: str = ""
    ) -> list[CommandRequest]:
        """Make requests with ids and serials of their own; nothing is sent or noted yet.

        Each is bound to the key by which its node has introduced itself, where it has.
        """
        names = list(nodes)
        utc_ns = self.clock.utc_ns()
        serials = self.folder.take_serials(len(names), utc_ns) if names else range(0)
        return [
            CommandRequest(
                id=uuid7(utc_ns, self._random_bytes),
                fleet=self.fleet,
                node=name,
                kind=order.kind,
                serial=serial,
                issued_utc_ns=utc_ns,
                expires_utc_ns=utc_ns + round(expires_s * 1e9),
                arguments=order.arguments,
                time_limit_s=time_limit_s,
                note=note,
                node_key=node.key_id if (node := self.connection.inventory.node(name)) is not None else msgspec.UNSET,
            )
            for name, serial in zip(names, serials, strict=True)
        ]

    async def send(
        self,
        order: Order,
        nodes: Iterable[str],
        *,
        expires_s: float = 3600.0,
        time_limit_s: float = 0.0,
        note: str = "",
        rollout: str = "",
    ) -> tuple[SentCommand, ...]:
        """Send a command to each of some nodes; the requests stand with the broker until they expire.

        Returns once the broker has all. Raises `bus.unavailable`, `bus.too_large`, `fleet.folder`.
        """
        requests = self.make_requests(order, nodes, expires_s=expires_s, time_limit_s=time_limit_s, note=note)
        return await self.publish(requests, rollout=rollout)

    async def publish(self, requests: Sequence[CommandRequest], *, rollout: str = "") -> tuple[SentCommand, ...]:
        """Sign requests, note them, and have the broker retain them; doing it twice is the same as once."""
        self.folder.note(self._sent_entry(request, rollout) for request in requests)
        room = asyncio.Semaphore(AT_ONCE)

        async def one(request: CommandRequest) -> SentCommand:
            async with room:
                view = self.commands.sent(request, self.operator)
                self.connection.follow(request.node, request.id)
                signed = sign_request(request, self._key, self._chain)
                await self._put(request, CommandOrder(signed))
                return view

        return tuple(await asyncio.gather(*(one(request) for request in requests)))

    async def watch(self, *, tick_s: float = _TICK_S) -> AsyncIterator[SentCommand]:
        """Give each command again when something new is known of it, until all have ended."""
        while True:
            for view in self.take_news():
                yield view
            if not self.commands.open and not self._news:
                return
            self._told.clear()
            try:
                async with asyncio.timeout(tick_s):
                    await self._told.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(GATHER_S)

    def take_news(self) -> list[SentCommand]:
        """Return the commands of which something new is known, once, and note in the trail which of them have ended."""
        now_ns = self.clock.now_ns()
        if now_ns - self._looked_ns >= _TICK_S * 1e9:
            self._looked_ns = now_ns
            self._news |= {(view.node, view.id): view for view in self._overdue()}
        news, self._news = list(self._news.values()), {}
        self._note_ends(news)
        return news

    async def cancel(self, node: str, command_id: str, *, expires_s: float = 600.0) -> SentCommand:
        """Order a node to end a command that it has begun, or not to begin it."""
        arguments = msgspec.msgpack.encode(CancelCommand(command_id))
        (sent,) = await self.send(Order(CANCEL_KIND, arguments), [node], expires_s=expires_s)
        self.folder.note([self._entry(Act.CANCELLED, node=node, command=command_id)])
        return sent

    async def withdraw(self, node: str, command_id: str, *, rollout: str = "") -> None:
        """Take a request from the broker; a node that has not begun it will not. It is no order to one that has."""
        where = command_topic(self.fleet, node, command_id)
        await self.connection.publish(where, b"", expiry_s=0, deadline_s=PUBLISH_LIMIT_S)
        view = self.commands.withdrawn(node, command_id, self.clock.utc_ns())
        if view is not None:
            self._news[node, command_id] = view
            self._told.set()
            self.folder.note([self._entry(Act.WITHDRAWN, node=node, command=command_id, rollout=rollout)])

    async def clear(self, commands: Iterable[SentCommand]) -> int:
        """Take the requests of commands that have ended from the broker; returns how many."""
        ended = [view for view in commands if view.ended]
        for view in ended:
            where = command_topic(self.fleet, view.node, view.id)
            await self.connection.publish(where, b"", expiry_s=0, deadline_s=PUBLISH_LIMIT_S)
        return len(ended)

    async def standing(self, node: str = "+") -> list[tuple[CommandRequest, CommandOrder]]:
        """Return the requests that stand with the broker and that an operator of the fleet signed."""
        return await self._standing.requests(node)

    async def standing_ids(self) -> frozenset[str]:
        """Return the ids of all requests that stand with the broker, whoever signed them."""
        return await self._standing.ids()

    async def approve(self, node: str, command_id: str, *, digest: str = "") -> CommandRequest:
        """Approve, as a second person, a request that stands with the broker; returns what was approved.

        `digest` is that of the request which was looked at (`digest_of`): its author can put another one in its place
        meanwhile. Raises `fleet.no_command` where there is none, or another one, `client.usage` where it is one's own.
        """
        standing = {request.id: (request, order) for request, order in await self.standing(node)}
        if command_id not in standing:
            raise QedgeError(
                "fleet.no_command",
                f"No request {command_id} to {node} stands with the broker.",
                fix="`qedge fleet pending` lists those that do.",
            )
        request, order = standing[command_id]
        if not digest_of(order).startswith(digest.lower()):
            raise QedgeError(
                "fleet.no_command",
                f"The request {command_id} that stands now is not the one that you looked at.",
                fix="Look at it again: `qedge fleet pending --json`.",
            )
        approval = approve(order.signed, self._key, self._chain)
        _, author = verify_request(
            order.signed,
            command_topic(self.fleet, node, command_id),
            self.connection.trust,
            self.clock.utc_ns(),
        )
        if author.subject.name == self.operator:
            raise QedgeError(
                "client.usage", "You sent this request; somebody else has to approve it.", fix="Ask a second operator."
            )
        others = self._good_approvals(order)
        self.folder.note([self._entry(Act.APPROVED, node=node, command=command_id, kind=request.kind)])
        await self._put(request, CommandOrder(order.signed, (*others, approval)))
        return request

    def _good_approvals(self, order: CommandOrder) -> tuple[Approval, ...]:
        """Return approvals of others that hold: anybody can put some there, and a node reads only so many."""
        good = []
        for each in order.approvals:
            with contextlib.suppress(QedgeError):
                verify_approval(each, order.signed, self.connection.trust, self.clock.utc_ns())
                good.append(each)
        return tuple(each for each in good if each.operator != self.operator)[:MAX_OTHERS]

    def unfinished(self) -> list[CommandRequest]:
        """Return one's requests, without arguments, whose end the trail does not tell."""
        lines, _ = self.folder.trail()
        sent: dict[str, TrailEntry] = {}
        for line in lines:
            entry = line.entry
            if entry.act is Act.SENT and entry.fleet == self.fleet:
                sent[entry.command] = entry
            elif entry.act in (Act.ENDED, Act.WITHDRAWN):
                sent.pop(entry.command, None)
        return [
            CommandRequest(
                id=entry.command,
                fleet=entry.fleet,
                node=entry.node,
                kind=entry.kind,
                serial=entry.serial,
                issued_utc_ns=entry.utc_ns,
                expires_utc_ns=entry.expires_utc_ns,
                time_limit_s=entry.time_limit_s,
                note=entry.note,
                node_key=entry.node_key or msgspec.UNSET,
            )
            for entry in sent.values()
        ]

    def follow(self, request: CommandRequest, operator: str) -> SentCommand:
        """Watch a command that somebody sent."""
        view = self.commands.sent(request, operator)
        self.connection.follow(request.node, request.id)
        return self.commands.view(request.node, request.id) or view

    async def _put(self, request: CommandRequest, order: CommandOrder) -> None:
        left_s = (request.expires_utc_ns - self.clock.utc_ns()) / 1e9
        await self.connection.publish(
            command_topic(self.fleet, request.node, request.id),
            pack_order(order),
            expiry_s=max(1, round(left_s + request.time_limit_s)) + _MARGIN_S,
            deadline_s=PUBLISH_LIMIT_S,
        )

    def _reported(self, node: str, report: CommandReport) -> None:
        view = self.commands.reported(node, report)
        if view is not None:
            self._news[node, report.id] = view
            self._told.set()

    def _overdue(self) -> list[SentCommand]:
        known = self.connection.inventory
        return self.commands.overdue(
            self.clock.utc_ns(),
            lambda name: found.key_id if (found := known.node(name)) is not None else None,
            known.limit_s,
        )

    def _note_ends(self, views: Iterable[SentCommand]) -> None:
        ended = [view for view in views if view.ended and view.id not in self._noted]
        self._noted.update(view.id for view in ended)
        if ended:
            self.folder.note(
                self._entry(
                    Act.ENDED,
                    node=view.node,
                    kind=view.kind,
                    command=view.id,
                    outcome=view.ending.value,
                    reason=view.reason,
                )
                for view in ended
            )

    def _sent_entry(self, request: CommandRequest, rollout: str) -> TrailEntry:
        return self._entry(
            Act.SENT,
            node=request.node,
            kind=request.kind,
            command=request.id,
            serial=request.serial,
            expires_utc_ns=request.expires_utc_ns,
            time_limit_s=request.time_limit_s,
            arguments=arguments_hash(request.arguments),
            note=request.note,
            rollout=rollout,
            node_key=request.node_key or "",
        )

    def _entry(self, act: Act, **fields: str | float) -> TrailEntry:
        fields |= {"utc_ns": self.clock.utc_ns(), "operator": self.operator, "fleet": self.fleet, "user": self._user}
        return msgspec.convert({"act": act, **fields}, TrailEntry)

    def note_rollout(self, act: Act, rollout: str, *, outcome: str = "", reason: str = "", kind: str = "") -> None:
        """Note in the trail how a roll-out stands."""
        self.folder.note([self._entry(act, kind=kind, rollout=rollout, outcome=outcome, reason=reason)])
