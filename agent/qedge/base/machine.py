"""A state machine is one table; its diagram in the documentation is generated from the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


class IllegalTransitionError(ValueError):
    """The table has no row for this state and event; a fault of the program, never of a peer."""


@dataclass(frozen=True, slots=True)
class StateTable(Generic[State, Event]):
    """All legal transitions: `rows[(state, event)]` is the next state; `final` states have no way out."""

    name: str
    initial: State
    final: frozenset[State]
    rows: Mapping[tuple[State, Event], State]

    def __post_init__(self) -> None:
        leaving = [state for (state, _event) in self.rows if state in self.final]
        if leaving:
            raise ValueError(f"{self.name}: final state {leaving[0]} has a way out")

    def allows(self, state: State, event: Event) -> bool:
        """Say whether `event` may happen in `state`."""
        return (state, event) in self.rows

    def next(self, state: State, event: Event) -> State:
        """Return the state after `event`; raises `IllegalTransitionError` where the table has no row."""
        try:
            return self.rows[state, event]
        except KeyError:
            raise IllegalTransitionError(f"{self.name}: {event} is not possible in state {state}") from None

    def mermaid(self) -> str:
        """Draw the table as a mermaid state diagram (text, for the documentation)."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        lines += [f"    {state} --> {after}: {event}" for (state, event), after in self.rows.items()]
        lines += [f"    {state} --> [*]" for state in sorted(self.final)]
        return "\n".join(lines)
