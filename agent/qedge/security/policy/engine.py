"""The policy in force: one table, replaced as a whole while requests are decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from qedge.security.model import Action, Decision, Resource, Subject
from qedge.security.policy.document import parse_document
from qedge.security.policy.model import PolicyDocument
from qedge.security.policy.rates import RateBook
from qedge.security.policy.table import PolicyTable

Heard = Callable[[Subject | None, Action, Resource, int, int, Decision], None]
"""Hears of a request with both its times and what was decided; it must be as quick as a decision."""

MAX_HEARERS: Final = 4


class PolicyEngine:
    """Fills `security.ports.Judge` for good, whatever policy is in force; without any it denies everything.

    Rates outlive a change of policy: rules of the same name go on counting where they were.
    """

    def __init__(self, rates: RateBook | None = None) -> None:
        self._rates = RateBook() if rates is None else rates
        self._table = PolicyTable(rates=self._rates)
        self._hearers: tuple[Heard, ...] = ()
        self.on_swap: Callable[[], None] = lambda: None
        """Called when another policy is in force."""

    @property
    def document(self) -> PolicyDocument:
        """The policy in force."""
        return self._table.document

    def decide(self, subject: Subject | None, action: Action, resource: Resource, now_ns: int, utc_ns: int) -> Decision:
        """Decide one request by the policy in force."""
        decision = self._table.decide(subject, action, resource, now_ns, utc_ns)
        for heard in self._hearers:
            heard(subject, action, resource, now_ns, utc_ns, decision)
        return decision

    def compile(self, document: PolicyDocument) -> PolicyTable:
        """Make the table of a policy, which takes some ten milliseconds; it may be done in another thread."""
        return PolicyTable(document, self._rates)

    def swap(self, table: PolicyTable) -> None:
        """Put a table of `compile` in force: the request after this one is decided by it."""
        self._table = table
        self.on_swap()

    def load(self, data: bytes, file: str = "") -> None:
        """Read a policy and put it in force; raises `policy.invalid` and keeps the old one where it has faults."""
        self.swap(self.compile(parse_document(data, file)))

    def listen(self, heard: Heard) -> Callable[[], None]:
        """Have every request told to `heard` until what this returns is called; raises `ValueError` over four."""
        if len(self._hearers) >= MAX_HEARERS:
            raise ValueError("too many listen to decisions already")
        self._hearers = (*self._hearers, heard)

        def stop() -> None:
            self._hearers = tuple(each for each in self._hearers if each is not heard)

        return stop
