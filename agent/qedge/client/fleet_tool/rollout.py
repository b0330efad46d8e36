"""The engine of roll-outs: waves, soaking, the stop condition, undoing. Pure; time comes with what happens.

What happens goes in with `take`, which says whether it changed anything and so has to be written down; `wanted` says
what is to be done now, `due_utc_ns` when to come back for time alone (`Passed`). The same events lead to the same
state, so the file of a roll-out is its plan and its events.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Final

from qedge.client.fleet_tool.model import Ending, NodeStanding, ending_of
from qedge.client.fleet_tool.rollout_model import (
    ENDED,
    HAS_IT,
    UNDER_WAY,
    Ask,
    Effect,
    NodeCourse,
    Phase,
    Step,
    Wave,
    Withdraw,
)
from qedge.client.fleet_tool.rollout_plan import (
    Asked,
    Event,
    Heard,
    RolloutPlan,
    Said,
    Seen,
    Withdrawn,
    Word,
)
from qedge.wire.commands import CommandState

GRACE_S: Final = 30.0
"""How long after its expiry or time limit a node's word is waited for."""

LONGEST_S: Final = 3600.0
"""How long a node may be at a command whose request names no time limit."""


class Rollout:
    """A roll-out under way."""

    def __init__(self, plan: RolloutPlan) -> None:
        self.plan = plan
        self.phase = Phase.SENDING
        self.paused = False
        self.reason = ""
        self.wave = 0
        """Number of the present wave, from 0."""
        self.waves: list[Wave] = []
        self.nodes: dict[str, NodeCourse] = {}
        self._deadlines: list[tuple[int, str, str]] = []
        self._soak_utc_ns = 0
        self._to_withdraw: dict[str, NodeCourse] = {}
        self._to_undo: dict[str, NodeCourse] = {}
        self._undoing = 0
        self._end = Phase.STOPPED
        self._at_utc_ns = 0
        self._hush_utc_ns = 0
        self._undo = self._undo_all = False
        for number, names in enumerate(plan.waves):
            nodes = [NodeCourse(name, number) for name in names]
            self.waves.append(Wave(nodes, steps=Counter({Step.WAITING: len(nodes)})))
            self.nodes |= {node.name: node for node in nodes}

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be done."""
        return self.phase in ENDED and not self._to_withdraw

    @property
    def asked(self) -> int:
        """How many nodes were sent the order."""
        return sum(wave.asked for wave in self.waves)

    def failures(self) -> list[NodeCourse]:
        """Return the nodes that failed, or could not be undone."""
        return [node for node in self.nodes.values() if node.reason and node.step is not Step.WITHDRAWN]

    def take(self, event: Event) -> bool:
        """Take what happened; True where it changed something, so that it has to be written down."""
        self._at_utc_ns = event.utc_ns
        if isinstance(event, Seen):
            return self._seen(event)
        if isinstance(event, Heard):
            return self._heard(event)
        if isinstance(event, Asked):
            return self._was_asked(event)
        if isinstance(event, Withdrawn):
            return self._was_withdrawn(event)
        if isinstance(event, Said):
            return self._said(event)
        return self._passed(event.utc_ns)

    def wanted(self) -> list[Effect]:
        """Return what is to be done now; each is wanted until its event (`Asked`, `Withdrawn`) was taken."""
        effects: list[Effect] = [Withdraw(node.name, node.id, node.taken) for node in self._to_withdraw.values()]
        if self.phase is Phase.STOPPING and self.plan.back is not None:
            effects += [Ask(node.name, self.plan.back, True) for node in self._to_undo.values()]
        if self.phase is Phase.SENDING and not self.paused:
            wave = self.waves[self.wave]
            room = len(wave.nodes)
            if self.plan.parallel:
                room = self.plan.parallel - sum(wave.steps[step] for step in UNDER_WAY)
            batch = wave.nodes[wave.asked : wave.asked + max(0, room)]
            effects += [Ask(node.name, self.plan.order, False) for node in batch]
        return effects

    def due_utc_ns(self) -> int | None:
        """Return when time alone will change something; None: never, or not while it is paused."""
        times = [self._deadlines[0][0]] if self._deadlines else []
        if self.phase is Phase.SOAKING and not self.paused:
            times.append(self._soak_utc_ns + round(self.plan.soak_s * 1e9))
        if self.phase is Phase.STOPPING and self._hush_utc_ns:
            times.append(self._hush_utc_ns)
        return None if self.phase in ENDED else min(times, default=None)

    def _was_asked(self, event: Asked) -> bool:
        node = self.nodes.get(event.node)
        if node is None:
            return False
        if event.back:
            if self._to_undo.pop(node.name, None) is None:
                return False
            node.back_id = event.id
            self._undoing += 1
            self._move(node, Step.UNDOING)
        else:
            if node.step is not Step.WAITING:
                return False
            node.id = event.id
            self.waves[node.wave].asked += 1
            self._move(node, Step.ASKED if node.standing is NodeStanding.UP else Step.ABSENT)
        self._wait_until(node, event.id, event.expires_utc_ns + round(GRACE_S * 1e9))
        return True

    def _heard(self, event: Heard) -> bool:
        node = self.nodes.get(event.node)
        if node is None or event.id not in (node.id, node.back_id):
            return False
        ending = ending_of(event.state)
        if event.id == node.back_id:
            return self._undo_heard(node, ending, event)
        if node.step not in (Step.ASKED, Step.ABSENT, Step.RUNNING, Step.WITHDRAWN):
            return False
        if event.state == CommandState.INIT:
            return self._was_taken(node, event.utc_ns)
        late = node.step is Step.WITHDRAWN and ending is Ending.UNDER_WAY
        if ending is Ending.UNDER_WAY and node.step is Step.RUNNING:
            return False
        node.taken = True
        if ending is not Ending.UNDER_WAY:
            self._to_withdraw.pop(node.name, None)
        if ending is Ending.UNDER_WAY:
            self._move(node, Step.RUNNING)
            self._wait_until(node, node.id, event.utc_ns + self._limit_ns())
            if late:
                self._to_withdraw[node.name] = node  # it was faster than what took its request back
        elif ending is Ending.SUCCESSFUL:
            node.done_utc_ns, node.soak_epoch = event.utc_ns, node.epoch
            self._move(node, Step.DONE if node.wave == self.wave else Step.HEALTHY)  # late: its wave has gone by
            if self.phase is Phase.STOPPING and self._undoes(node):
                self._to_undo[node.name] = node
        else:
            self._fail(node, event.reason or "it failed", event.utc_ns)
        self._wave_over(event.utc_ns)
        self._end_stopping()
        return True

    def _was_taken(self, node: NodeCourse, utc_ns: int) -> bool:
        """The node has the request in its journal, and will begin it when its turn comes."""
        if node.taken:
            return False
        node.taken = True
        if node.step is Step.WITHDRAWN:
            self._to_withdraw[node.name] = node
            self._wait_until(node, node.id, utc_ns + self._limit_ns())  # the first deadline may have gone by
        self._move(node, Step.ASKED)
        return True

    def _undoes(self, node: NodeCourse) -> bool:
        """Say whether what a node did is to be undone: a command that failed has left nothing behind."""
        in_scope = self._undo_all or node.wave == self.wave
        return self._undo and in_scope and bool(node.done_utc_ns) and node.step in HAS_IT

    def _undo_heard(self, node: NodeCourse, ending: Ending, event: Heard) -> bool:
        if node.step is not Step.UNDOING or ending is Ending.UNDER_WAY:
            return False
        self._undone(node, "" if ending is Ending.SUCCESSFUL else event.reason or "it failed")
        return True

    def _undone(self, node: NodeCourse, fault: str) -> None:
        self._undoing -= 1
        if fault:
            node.reason = f"undoing it: {fault}"
        self._move(node, Step.STUCK if fault else Step.UNDONE)
        self._end_stopping()

    def _seen(self, event: Seen) -> bool:
        node = self.nodes.get(event.node)
        if node is None:
            return False
        told = (event.standing, event.version or node.version, max(event.epoch, node.epoch))
        if told == (node.standing, node.version, node.epoch):
            return False
        node.standing, node.version, node.epoch = told
        if self.phase is Phase.SOAKING and node.step is Step.DONE and node.wave == self.wave:
            # what a restart by the command itself says may come after the report of its end
            began_utc_ns = max(self._soak_utc_ns, node.done_utc_ns)
            if event.utc_ns < began_utc_ns + round(self.plan.settle_s * 1e9):
                node.soak_epoch = node.epoch
            elif node.epoch > node.soak_epoch:
                self._fail(node, "it started anew while it was watched", event.utc_ns)
        return True

    def _said(self, event: Said) -> bool:
        if self.phase in ENDED or self.phase is Phase.STOPPING:
            return False
        if event.word in (Word.PAUSE, Word.RESUME):
            wanted = event.word is Word.PAUSE
            changed = self.paused is not wanted
            self.paused = wanted
            if changed and not wanted and self.phase is Phase.SOAKING:
                self._soak_utc_ns = event.utc_ns  # what happened meanwhile was watched by nobody
            return changed
        self._undo_all = event.word is Word.BACK
        self._stop(f"{event.operator} said so", undo=self._undo_all, end=Phase.ABORTED)
        return True

    def _passed(self, utc_ns: int) -> bool:
        """Take note of the time. That something is not due any more is a change as well: `due_utc_ns` tells of it."""
        changed = False
        while self._deadlines and self._deadlines[0][0] <= utc_ns:
            due_utc_ns, name, command_id = heapq.heappop(self._deadlines)
            node, changed = self.nodes[name], True
            if due_utc_ns == node.deadline_utc_ns and command_id in (node.id, node.back_id):
                self._give_up(node, command_id, utc_ns)
        if self._hush_utc_ns and utc_ns >= self._hush_utc_ns:
            self._hush_utc_ns, changed = 0, True
        soaking = self.phase is Phase.SOAKING and not self.paused
        if soaking and utc_ns >= self._soak_utc_ns + round(self.plan.soak_s * 1e9):
            self._judge(utc_ns)
            changed = True
        if self.phase is Phase.STOPPING:
            self._end_stopping()
            changed = changed or self.phase is not Phase.STOPPING
        return changed

    def _give_up(self, node: NodeCourse, command_id: str, utc_ns: int) -> None:
        if command_id == node.back_id:
            if node.step is not Step.UNDOING:
                return
            self._undone(node, "the node did not answer in time")
        elif node.step in UNDER_WAY:
            begun = node.step is Step.RUNNING
            self._fail(node, "it did not end in time" if begun else "it did not answer in time", utc_ns)
        elif node.step is Step.ABSENT:
            self._move(node, Step.WITHDRAWN)  # expired: it will not begin it any more
        else:
            return
        self._wave_over(utc_ns)
        self._end_stopping()

    def _wave_over(self, utc_ns: int) -> None:
        """Begin to soak where nobody of the wave is at it any more; without one that did it there is nothing to see."""
        wave = self.waves[self.wave]
        if self.phase is not Phase.SENDING or wave.asked < len(wave.nodes):
            return
        if any(wave.steps[step] for step in UNDER_WAY):
            return
        if not wave.steps[Step.DONE]:
            if not wave.steps[Step.ABSENT] and not wave.steps[Step.HEALTHY]:
                self._stop("no node of the wave did it")
            return
        self.phase = Phase.SOAKING
        self._soak_utc_ns = utc_ns
        for node in wave.nodes:
            node.soak_epoch = node.epoch

    def _judge(self, utc_ns: int) -> None:
        """End the soaking: who is well, who is not, and whether it goes on."""
        wave = self.waves[self.wave]
        for node in wave.nodes:
            if node.step is not Step.DONE:
                continue
            expected = self.plan.expect_version
            if node.standing is not NodeStanding.UP:
                self._fail(node, f"it is {node.standing} after it", utc_ns)
            elif expected and node.version != expected:
                self._fail(node, f"it runs version {node.version or 'unknown'} after it", utc_ns)
            else:
                self._move(node, Step.HEALTHY)
        if self.phase is not Phase.SOAKING:
            return
        if not wave.steps[Step.HEALTHY]:
            self._stop("no node of the wave is well")
        elif self.wave + 1 < len(self.waves):
            self.wave += 1
            self.phase = Phase.SENDING
        else:
            self.phase = Phase.DONE

    def _fail(self, node: NodeCourse, reason: str, utc_ns: int) -> None:
        wave = self.waves[node.wave]
        wave.failures += 1
        node.reason = reason
        self._move(node, Step.FAILED)
        if self.phase in (Phase.SENDING, Phase.SOAKING) and wave.failures > self.plan.tolerance(len(wave.nodes)):
            self._stop(f"{wave.failures} of {len(wave.nodes)} nodes of wave {node.wave + 1} failed")

    def _stop(self, reason: str, *, undo: bool = True, end: Phase = Phase.STOPPED) -> None:
        self.reason, self.paused = reason, False
        self.phase, self._end = Phase.STOPPING, end
        self._undo = self.plan.back is not None and undo
        open_steps = (Step.ASKED, Step.ABSENT, Step.RUNNING)
        self._to_withdraw |= {node.name: node for node in self.nodes.values() if node.step in open_steps}
        self._to_undo |= {node.name: node for node in self.nodes.values() if self._undoes(node)}
        self._end_stopping()

    def _end_stopping(self) -> None:
        """End where nothing is left to undo, and nobody is left who may still do it."""
        if self.phase is not Phase.STOPPING or self._to_undo or self._undoing or self._to_withdraw:
            return
        if self._at_utc_ns >= self._hush_utc_ns and not any(
            wave.steps[step] for wave in self.waves for step in UNDER_WAY
        ):
            self.phase = self._end

    def _was_withdrawn(self, event: Withdrawn) -> bool:
        node = self.nodes.get(event.node)
        if node is None or event.id != node.id or self._to_withdraw.pop(node.name, None) is None:
            return False
        if not node.taken and node.step in (Step.ASKED, Step.ABSENT):
            if node.step is Step.ASKED:  # it may have taken it in this instant: its word is waited for
                self._hush_utc_ns = event.utc_ns + round(self.plan.settle_s * 1e9)
            self._move(node, Step.WITHDRAWN)
        self._end_stopping()
        return True

    def _limit_ns(self) -> int:
        return round(((self.plan.time_limit_s or LONGEST_S) + GRACE_S) * 1e9)

    def _wait_until(self, node: NodeCourse, command_id: str, utc_ns: int) -> None:
        node.deadline_utc_ns = utc_ns
        heapq.heappush(self._deadlines, (utc_ns, node.name, command_id))

    def _move(self, node: NodeCourse, step: Step) -> None:
        steps = self.waves[node.wave].steps
        steps[node.step] -= 1
        steps[step] += 1
        node.step = step
