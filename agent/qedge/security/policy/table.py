"""A policy as a decision table: the policy engine's half of SP 800-207 that every message passes.

What does not depend on time is decided once for a subject as it is (its `epoch`) and a resource, and kept; time windows
and rates are looked at for every request. Revocation, quarantine and the lease are never kept.
"""

from __future__ import annotations

from typing import Final

from qedge.security.model import Action, Decision, Reason, Resource, ResourceKind, Subject
from qedge.security.policy.masks import ResourceMasks, SubjectMasks
from qedge.security.policy.model import ALWAYS, DENIALS, NOTHING, UNLIMITED, Conditions, Effect, PolicyDocument, Rule
from qedge.security.policy.rates import RateBook
from qedge.security.policy.windows import MINUTE_NS, Windows

MAX_VERDICTS: Final = 64
"""Kept for one subject; one that asks for more things than this only makes its own requests slower."""

UNKNOWN: Final = Decision(False, Reason.UNKNOWN)
REVOKED: Final = Decision(False, Reason.REVOKED)
QUARANTINED: Final = Decision(False, Reason.QUARANTINED)
LEASE: Final = Decision(False, Reason.LEASE)
NO_RULE: Final = Decision(False, Reason.NO_RULE)

_HOLDS: Final = -1
_SEGMENT, _TRUST, _TIME, _LOCATION, _POSTURE, _QKD, _RATE = range(len(DENIALS))
"""Ranks of the reasons in `DENIALS`."""

_KEY = tuple[Action, ResourceKind, str, str, str]


class _Row:
    """A rule of the table, with all decisions that may name it ready."""

    __slots__ = ("allowed", "crossing", "denials", "depth_ns", "forbidden", "interval_ns", "name", "unless", "when")

    def __init__(self, name: str, rule: Rule, zone: str) -> None:
        self.name = name
        self.allowed = Decision(True, Reason.ALLOWED, name)
        self.forbidden = Decision(False, Reason.FORBIDDEN, name)
        self.denials = tuple(Decision(False, reason, name) for reason in DENIALS)
        self.crossing = rule.crossing
        self.when = _Checks(rule.when, zone)
        self.unless = None if rule.unless == ALWAYS else _Checks(rule.unless, zone)
        self.interval_ns = 0 if rule.rate == UNLIMITED else max(1, round(1e9 / rule.rate.per_second))
        self.depth_ns = self.interval_ns * rule.rate.burst


class _Checks:
    """Conditions, those that stand for as long as the subject is as it is, and the windows."""

    __slots__ = ("locations", "posture", "qkd", "trust", "windows")

    def __init__(self, conditions: Conditions, zone: str) -> None:
        self.trust = conditions.trust
        self.locations = frozenset(conditions.locations)
        self.posture = frozenset(conditions.posture)
        self.qkd = conditions.qkd
        self.windows = Windows(conditions.time, conditions.zone or zone) if conditions.time else None

    def failing(self, subject: Subject) -> int:
        """Return the rank of what a subject lacks first, time left aside; `_HOLDS`: nothing."""
        if subject.trust < self.trust:
            return _TRUST
        if self.locations and subject.location not in self.locations:
            return _LOCATION
        if self.posture and not self.posture <= subject.posture:
            return _POSTURE
        return _QKD if self.qkd and not subject.qkd_backed else _HOLDS


class _Guard:
    """A forbid that applies now or not, as its windows are open: while `when` is, and `unless` is not."""

    __slots__ = ("decision", "unless", "when")

    def __init__(self, decision: Decision, when: Windows | None, unless: Windows | None) -> None:
        self.decision = decision
        self.when = when
        self.unless = unless


class _Step:
    """A permit that holds now or not: while its window is open, then denied as `failing` says, or for its rate.

    `key` is that of the rate.
    """

    __slots__ = ("failing", "key", "row", "windows")

    def __init__(self, row: _Row, windows: Windows | None, failing: int, subject: Subject) -> None:
        self.row = row
        self.windows = windows
        self.failing = failing
        self.key = (row.name, subject.kind, subject.id) if row.interval_ns else None


class _Plan:
    """What is left to decide at each request: guards, then steps in order; `rank` and `denial` if no step comes up."""

    __slots__ = ("denial", "guards", "rank", "steps")

    def __init__(self, guards: tuple[_Guard, ...], steps: tuple[_Step, ...], rank: int, denial: Decision) -> None:
        self.guards = guards
        self.steps = steps
        self.rank = rank
        self.denial = denial


class _Known:
    """A subject as it was when its rules were looked up, and what was decided for it since.

    It hangs on the subject itself (`settled`), and knows which table it is of. What was asked last stands apart: most
    devices ask for one thing again and again, and find it without a key being made.
    """

    __slots__ = ("action", "epoch", "mask", "resource", "table", "verdict", "verdicts")

    def __init__(self, table: PolicyTable, epoch: int, mask: int) -> None:
        self.table = table
        self.epoch = epoch
        self.mask = mask
        self.action: Action | None = None
        self.resource: Resource | None = None
        self.verdict: Decision | _Plan = NO_RULE
        self.verdicts: dict[_KEY, Decision | _Plan] = {}


class PolicyTable:
    """Fills `security.ports.Judge` for one policy. The table itself never changes; `rates` outlives it."""

    def __init__(self, document: PolicyDocument = NOTHING, rates: RateBook | None = None) -> None:
        self.document = document
        rules = list(document.rules.values())
        self._rates = RateBook() if rates is None else rates
        self._rows = [_Row(name, rule, document.zone) for name, rule in document.rules.items()]
        self._subjects = SubjectMasks(rules)
        self._resources = ResourceMasks(document)
        self._forbids = sum(1 << number for number, rule in enumerate(rules) if rule.effect is Effect.FORBID)

    def decide(self, subject: Subject | None, action: Action, resource: Resource, now_ns: int, utc_ns: int) -> Decision:
        """Decide one request; the first reason of `Reason` that applies counts.

        Permits are asked in the order of the document, and the first that holds is named and has its rate counted.
        Where none does, the one that came furthest is named.
        """
        if subject is None:
            return UNKNOWN
        if subject.revoked:
            return REVOKED
        if subject.quarantined:
            return QUARANTINED
        if now_ns >= subject.lease_until_ns:
            return LEASE
        known = subject.settled
        if not isinstance(known, _Known) or known.table is not self or known.epoch != subject.epoch:
            known = subject.settled = _Known(self, subject.epoch, self._subjects.matching(subject))
        # By identity: what is kept here stays alive, so that no other object can have the same one.
        if known.resource is resource and known.action is action:
            verdict = known.verdict
        else:
            verdict = self._settled(known, subject, action, resource)
        if verdict.__class__ is _Plan:
            return self._weigh(verdict, now_ns, utc_ns)
        return verdict  # type: ignore[return-value]  # isinstance would cost a tenth of a decision

    def _settled(self, known: _Known, subject: Subject, action: Action, resource: Resource) -> Decision | _Plan:
        key = (action, resource.kind, resource.segment, resource.name, resource.owner)
        verdict = known.verdicts.get(key)
        if verdict is None:
            if len(known.verdicts) >= MAX_VERDICTS:
                known.verdicts.clear()
            matching = known.mask & self._resources.matching(action, resource) if known.mask else 0
            verdict = NO_RULE if not matching else self._plan(matching, subject, resource)
            known.verdicts[key] = verdict
        known.action, known.resource, known.verdict = action, resource, verdict
        return verdict

    def _plan(self, matching: int, subject: Subject, resource: Resource) -> Decision | _Plan:
        """Decide what does not depend on time."""
        guards: list[_Guard] = []
        mask = matching & self._forbids
        while mask:
            lowest = mask & -mask
            mask ^= lowest
            guard = _guard(self._rows[lowest.bit_length() - 1], subject)
            if guard is None:
                continue
            guards.append(guard)
            if guard.when is None and guard.unless is None:
                break
        steps: list[_Step] = []
        rank, denial = _HOLDS, NO_RULE
        foreign = resource.segment != "" and resource.segment != subject.segment
        mask = matching & ~self._forbids
        while mask:
            lowest = mask & -mask
            mask ^= lowest
            row = self._rows[lowest.bit_length() - 1]
            windows = row.when.windows
            failing = _SEGMENT if foreign and not row.crossing else row.when.failing(subject)
            if failing != _HOLDS and (windows is None or failing < _TIME):
                if failing > rank:
                    rank, denial = failing, row.denials[failing]
                continue
            steps.append(_Step(row, windows, failing, subject))
            if failing == _HOLDS and windows is None and not row.interval_ns:
                break
        if guards:
            first = guards[0]
            if first.when is None and first.unless is None:
                return first.decision
        elif not steps:
            return denial
        elif steps[0].failing == _HOLDS and steps[0].windows is None and not steps[0].row.interval_ns:
            return steps[0].row.allowed
        return _Plan(tuple(guards), tuple(steps), rank, denial)

    def _weigh(self, plan: _Plan, now_ns: int, utc_ns: int) -> Decision:
        """Decide what depends on time."""
        minute = utc_ns // MINUTE_NS
        for guard in plan.guards:
            when, unless = guard.when, guard.unless
            if (when is None or when.is_open(minute)) and not (unless is not None and unless.is_open(minute)):
                return guard.decision
        rank, denial, take = plan.rank, plan.denial, self._rates.take
        for step in plan.steps:
            row = step.row
            if step.windows is not None and not step.windows.is_open(minute):
                failing = _TIME
            elif step.failing != _HOLDS:
                failing = step.failing
            elif step.key is not None and not take(step.key, row.interval_ns, row.depth_ns, now_ns):
                failing = _RATE
            else:
                return row.allowed
            if failing > rank:
                rank, denial = failing, row.denials[failing]
        return denial


def _guard(row: _Row, subject: Subject) -> _Guard | None:
    """Return when a forbid applies to a subject; None: never while the subject is as it is."""
    if row.when.failing(subject) != _HOLDS:
        return None
    unless = row.unless
    if unless is None or unless.failing(subject) != _HOLDS:
        return _Guard(row.forbidden, row.when.windows, None)
    return None if unless.windows is None else _Guard(row.forbidden, row.when.windows, unless.windows)
