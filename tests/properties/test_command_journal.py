"""Whatever happens in any order, the journal takes legal steps alone and forgets nothing that could count again."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from qedge.base.errors import QedgeError
from qedge.fleet.commands import rows
from qedge.fleet.commands.lanes import Lanes
from qedge.fleet.commands.model import COMMAND_STATES, ENDS, NEXT, Entry, Phase, report_of
from qedge.store.schema import MIGRATIONS
from qedge.wire.commands import CommandState

PHASES = st.sampled_from(Phase)
IDS = st.integers(0, 5).map(lambda number: f"id-{number}")


def entry(command: str, phase: Phase, serial: int, expires: int) -> Entry:
    return Entry(command, "work", "lane", phase, 1, "olga", "key", serial, command.encode(), b"request", 1, 1, expires)


class JournalMachine(RuleBasedStateMachine):
    """Any writes at any time against a model that knows only what the table of states says."""

    commands: Bundle[str] = Bundle("commands")

    @initialize()
    def open(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statements in MIGRATIONS:
            for statement in statements:
                self.connection.execute(statement)
        self.model: dict[str, Entry] = {}
        self.serials: set[int] = set()
        self.now = 10

    @rule(target=commands, command=IDS, phase=PHASES, serial=st.integers(1, 8), lasts=st.integers(1, 20))
    def add(self, command: str, phase: Phase, serial: int, lasts: int) -> str:
        new = entry(command, phase, serial, self.now + lasts)
        fits = phase in NEXT[Phase.NEW] and command not in self.model and serial not in self.serials
        if fits:
            rows.insert(self.connection, new)
            self.model[command] = new
            self.serials.add(serial)
        else:
            with pytest.raises(QedgeError):
                rows.insert(self.connection, new)
        return command

    @rule(command=commands, phase=PHASES, step=st.integers(-1, 3))
    def change(self, command: str, phase: Phase, step: int) -> None:
        old = self.model.get(command)
        if old is None:
            return
        new = replace(old, phase=phase, revision=old.revision + step, ended_utc_ns=self.now if phase in ENDS else 0)
        if step > 0 and any(
            after is phase for (before, _), after in COMMAND_STATES.rows.items() if before is old.phase
        ):
            rows.replace(self.connection, new)
            self.model[command] = new
        else:
            with pytest.raises(QedgeError):
                rows.replace(self.connection, new)

    @rule(command=commands)
    def forget(self, command: str) -> None:
        old = self.model.get(command)
        if old is not None and old.phase in ENDS:
            rows.forget(self.connection, command)
            self.model[command] = replace(old, request=b"", result=b"", reason="", note="")

    @rule(wait=st.integers(0, 10))
    def drop(self, wait: int) -> None:
        self.now += wait
        for command in rows.drop(self.connection, self.now)[0]:
            gone = self.model.pop(command)
            assert gone.expires_utc_ns < self.now
            assert gone.phase in ENDS
            self.serials.discard(gone.serial)

    @invariant()
    def what_is_kept_is_what_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        kept = {each.id: rows.one(self.connection, each.id) for each in rows.newest(self.connection, 100)}
        assert kept == self.model
        assert rows.all_digests(self.connection) == {each.id: each.digest for each in self.model.values()}
        assert {each.id for each in rows.unfinished(self.connection)} == {
            each.id for each in self.model.values() if not each.ended
        }
        for each in self.model.values():
            ended = report_of(each, 1).state in (CommandState.SUCCESSFUL, CommandState.FAILED)
            assert ended is each.ended

    def teardown(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


class LaneMachine(RuleBasedStateMachine):
    """One of a lane runs at a time, in order; nothing is lost and nothing runs twice."""

    @initialize()
    def open(self) -> None:
        self.lanes = Lanes(8)
        self.waiting: dict[str, list[str]] = {}
        self.running: dict[str, str] = {}
        self.number = 0

    @rule(lane=st.sampled_from("abc"))
    def push(self, lane: str) -> None:
        if sum(map(len, self.waiting.values())) >= 8:
            with pytest.raises(QedgeError):
                self.lanes.check_room()
            return
        self.lanes.check_room()
        self.number += 1
        self.waiting.setdefault(lane, []).append(f"c{self.number}")
        self.lanes.push(lane, f"c{self.number}")

    @rule()
    def run(self) -> None:
        expected = {lane: queue[0] for lane, queue in self.waiting.items() if queue and lane not in self.running}
        assert sorted(self.lanes.due()) == sorted(expected.values())
        for lane, command in expected.items():
            self.waiting[lane].remove(command)
            self.running[lane] = command

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        known = [*self.running.values(), *(each for queue in self.waiting.values() for each in queue)]
        if known:
            command = data.draw(st.sampled_from(known))
            self.lanes.remove(command)
            self.running = {lane: each for lane, each in self.running.items() if each != command}
            self.waiting = {lane: [each for each in queue if each != command] for lane, queue in self.waiting.items()}

    @invariant()
    def numbers_are_right(self) -> None:
        if hasattr(self, "lanes"):
            assert self.lanes.waiting == sum(map(len, self.waiting.values()))
            assert self.lanes.running == len(self.running)


TestLanes = LaneMachine.TestCase
TestLanes.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
