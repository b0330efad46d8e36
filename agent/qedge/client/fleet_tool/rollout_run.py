"""Carries a roll-out: the engine's wishes to the broker, what nodes say back to it, all of it into its file first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from qedge.client.fleet_tool.model import NodeStanding
from qedge.client.fleet_tool.rollout import Rollout
from qedge.client.fleet_tool.rollout_file import RolloutFile
from qedge.client.fleet_tool.rollout_model import Ask, Phase, Step, Withdraw
from qedge.client.fleet_tool.rollout_plan import Asked, Event, Heard, RolloutPlan, Seen, Withdrawn
from qedge.client.fleet_tool.rollout_view import RolloutView, view_of
from qedge.client.fleet_tool.tool import GATHER_S, FleetTool
from qedge.client.fleet_tool.trail import Act
from qedge.wire.commands import CommandReport, CommandRequest

_BATCH: Final = 200
_TICK_S: Final = 0.5
_OUTCOMES: Final = {Phase.DONE: "done", Phase.STOPPED: "stopped", Phase.ABORTED: "aborted"}


class RolloutRun:
    """One roll-out in this process; a second run of the same roll-out is refused by its file."""

    def __init__(self, tool: FleetTool, file: RolloutFile) -> None:
        self._tool = tool
        self._file = file
        self._events: list[Event] = []
        self._came = asyncio.Event()
        tool.connection.on_node.append(self._node_said)
        tool.connection.on_report.append(self._reported)

    @property
    def rollout(self) -> Rollout:
        """The engine."""
        return self._file.rollout

    async def run(self) -> AsyncGenerator[RolloutView, None]:
        """Go on to the end, or until it is paused; gives a view whenever something changed."""
        plan = self.rollout.plan
        await self._tool.nodes()
        for name in self.rollout.nodes:
            self._node_said(name, always=True)
        await self._again()
        while True:
            self._take_word()
            self._tool.connection.note_silence()
            events, self._events = self._events, []
            self._came.clear()
            changed = self._file.take(events)
            passed = self._file.pass_time(self._tool.clock.utc_ns())
            self._tool.take_news()
            did = await self._act()
            if changed or passed or did:
                yield view_of(self.rollout)
            if self.rollout.ended:
                break
            if not did:
                try:
                    async with asyncio.timeout(_TICK_S):
                        await self._came.wait()
                except TimeoutError:
                    continue
                await asyncio.sleep(GATHER_S)
        outcome = _OUTCOMES.get(self.rollout.phase, "")
        self._tool.note_rollout(Act.ROLLOUT_ENDED, plan.id, outcome=outcome, reason=self.rollout.reason)

    async def clear(self) -> None:
        """Take the requests of nodes that are done with from the broker."""
        ended = [node for node in self.rollout.nodes.values() if node.id and node.step not in _OPEN]
        for node in ended:
            for command_id in filter(None, (node.id, node.back_id)):
                await self._tool.withdraw(node.name, command_id, rollout=self.rollout.plan.id)

    async def _act(self) -> bool:
        """Do the next of what is wanted; says whether there was anything."""
        wanted = self.rollout.wanted()[:_BATCH]
        withdrawals = [effect for effect in wanted if isinstance(effect, Withdraw)]
        for effect in withdrawals:
            if effect.taken:
                await self._tool.cancel(effect.node, effect.id)
            else:
                await self._tool.withdraw(effect.node, effect.id, rollout=self.rollout.plan.id)
        utc_ns = self._tool.clock.utc_ns()
        self._file.take(Withdrawn(utc_ns, effect.node, effect.id) for effect in withdrawals)
        asks = [effect for effect in wanted if isinstance(effect, Ask)]
        for back in (False, True):
            await self._ask([effect for effect in asks if effect.back is back], back=back)
        return bool(wanted)

    async def _ask(self, asks: list[Ask], *, back: bool) -> None:
        if not asks:
            return
        plan = self.rollout.plan
        requests = self._tool.make_requests(
            asks[0].order,
            [ask.node for ask in asks],
            expires_s=plan.expires_s,
            time_limit_s=plan.time_limit_s,
            note=plan.note,
        )
        self._file.take(
            Asked(
                request.issued_utc_ns,
                request.node,
                request.id,
                request.serial,
                request.expires_utc_ns,
                back,
                request.node_key,
            )
            for request in requests
        )
        await self._tool.publish(requests, rollout=plan.id)

    async def _again(self) -> None:
        """Send what the tool was killed before it sent: what no node has spoken of and no broker has."""
        now_ns = self._tool.clock.utc_ns()
        missing = []
        standing = await self._tool.standing_ids() if self._file.asked else frozenset()
        for node in self.rollout.nodes.values():
            open_id = node.back_id if node.step is Step.UNDOING else node.id if node.step in _OPEN else ""
            asked = self._file.asked.get(open_id)
            if asked is None:
                continue
            request = _request(self.rollout.plan, asked)
            known = self._tool.follow(request, self._tool.operator).revision >= 0
            if not known and asked.id not in standing and asked.expires_utc_ns > now_ns:
                missing.append(request)
        if missing:
            await self._tool.publish(missing, rollout=self.rollout.plan.id)

    def _take_word(self) -> None:
        said = self._tool.folder.take_word(self.rollout.plan.id)
        if said is not None:
            self._events.append(said)
            self._tool.note_rollout(Act.ROLLOUT_TOLD, self.rollout.plan.id, outcome=said.word.value)

    def _node_said(self, name: str, *, always: bool = False) -> None:
        if name not in self.rollout.nodes:
            return
        node = self._tool.connection.inventory.node(name)
        utc_ns = self._tool.clock.utc_ns()
        if node is not None:
            self._events.append(Seen(utc_ns, name, node.state, node.version, node.epoch))
        elif always:
            self._events.append(Seen(utc_ns, name, NodeStanding.LOST))
        self._came.set()

    def _reported(self, name: str, report: CommandReport) -> None:
        if name in self.rollout.nodes:
            utc_ns = self._tool.clock.utc_ns()
            self._events.append(Heard(utc_ns, name, report.id, report.state, report.reason or report.code))
            self._came.set()


_OPEN: Final = frozenset({Step.ASKED, Step.ABSENT, Step.RUNNING, Step.UNDOING})


def _request(plan: RolloutPlan, asked: Asked) -> CommandRequest:
    order = plan.back if asked.back and plan.back is not None else plan.order
    return CommandRequest(
        id=asked.id,
        fleet=plan.fleet,
        node=asked.node,
        kind=order.kind,
        serial=asked.serial,
        issued_utc_ns=asked.utc_ns,
        expires_utc_ns=asked.expires_utc_ns,
        arguments=order.arguments,
        time_limit_s=plan.time_limit_s,
        note=plan.note,
        node_key=asked.node_key,
    )
