"""Denials that wait to be written: the same ones counted together, no device able to crowd out another. Pure."""

from __future__ import annotations

from typing import Final

from qedge.security.audit.row import START, asked, denied
from qedge.security.model import Action, Decision, Resource, ResourceKind, Subject
from qedge.wire.audit import AskedSubject, AuditKind, AuditRow, DeniedRequest

MOST_EACH: Final = 8
"""Different requests of one subject in one write; what it asks beyond that is one row with a count."""

OTHERS: Final = "*"
_MAX_KEPT: Final = 4096


class _Waiting:
    __slots__ = ("count", "request")

    def __init__(self, request: DeniedRequest) -> None:
        self.request = request
        self.count = 1


class PendingDenials:
    """At most `limit` rows; what finds no room is counted, and the count becomes a row of its own."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: dict[tuple[object, ...], _Waiting] = {}
        self._each: dict[str, int] = {}
        self._asked: dict[str, tuple[int, int, AskedSubject]] = {}
        self.lost = 0

    def __len__(self) -> int:
        return len(self._rows) + (self.lost > 0)

    def add(
        self, subject: Subject | None, action: Action, resource: Resource, decision: Decision, now_ns: int, utc_ns: int
    ) -> None:
        """Take a denial in."""
        name = "" if subject is None else subject.id
        key: tuple[object, ...] = (name, action, resource, decision)
        waiting = self._rows.get(key)
        if waiting is None:
            number = self._each.get(name, 0)
            if number >= MOST_EACH:
                key = (name,)
                waiting = self._rows.get(key)
                resource = Resource(ResourceKind.NODE, OTHERS)
        if waiting is not None:
            waiting.count += 1
        elif len(self._rows) >= self._limit:
            self.lost += 1
        else:
            self._each[name] = self._each.get(name, 0) + 1
            self._rows[key] = _Waiting(denied(self._kept(subject), action, resource, decision, now_ns, utc_ns))

    def _kept(self, subject: Subject | None) -> AskedSubject | None:
        """Keep a subject as it is now; made anew only where it has changed, since that is most of the work."""
        if subject is None:
            return None
        epoch, lease_ns, kept = self._asked.get(subject.id, (-1, 0, None))
        if kept is None or epoch != subject.epoch or lease_ns != subject.lease_until_ns:
            kept = asked(subject)
            if len(self._asked) >= _MAX_KEPT:
                self._asked.clear()
            self._asked[subject.id] = (subject.epoch, subject.lease_until_ns, kept)
        return kept

    def take(self, utc_ns: int) -> list[AuditRow]:
        """Return all that waits as rows, and begin anew."""
        rows = [_row(each) for each in self._rows.values()]
        if self.lost:
            rows.append(
                AuditRow(0, utc_ns, AuditKind.GAP, START, count=self.lost, facts={"why": "no room in the queue"})
            )
        self._rows, self._each, self.lost = {}, {}, 0
        return rows


def _row(waiting: _Waiting) -> AuditRow:
    request = waiting.request
    resource = request.resource
    named = "/".join(part for part in (resource.segment or resource.owner, resource.name) if part)
    return AuditRow(
        0,
        request.utc_ns,
        AuditKind.DENIAL,
        START,
        subject=request.subject.id if request.subject else "",
        action=request.action,
        resource=f"{resource.kind}:{named}" if named else resource.kind,
        decision=request.reason,
        rule=request.rule,
        count=waiting.count,
        request=request,
    )
