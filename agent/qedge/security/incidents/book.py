"""All incidents that are not resolved: what opens, worsens and ends them, and what is to be done about them. Pure.

There is one open incident for a device or an address, whatever it does, so a storm of findings is one incident with a
count. `take` says what to do; whoever did it says so with `done`. What the cap held back is asked for again by `retry`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from qedge.base.ids import RandomBytes, uuid7
from qedge.security.config import IncidentConfig
from qedge.security.detection.model import Finding
from qedge.security.incidents.model import (
    BY_OPERATOR,
    HARDNESS,
    INCIDENT_STATES,
    RESPONSES,
    Act,
    IncidentEvent,
    IncidentState,
    Outcome,
    Response,
)
from qedge.security.model import Evidence, Subject
from qedge.security.words import plain
from qedge.wire.incidents import (
    MAX_ACTS,
    MAX_BOARD,
    MAX_EVIDENCE,
    ActRow,
    BoardEntry,
    EvidenceRow,
    IncidentView,
    SubjectIs,
)

T = TypeVar("T")

MAX_WORD: Final = 48
MAX_WORDS: Final = 300
"""Longest texts that `qedge.wire.incidents` has room for."""

QUIET: Final = "quiet"
REVIEW: Final = "review"
PEER: Final = "peer"
CROWDED: Final = "crowded out"


_TO_DO: Final = (Outcome.DONE, Outcome.ABSENT)


@dataclass(slots=True)
class _Open:
    """`wanted` was held back; `heard_ns` is when the last of it was heard."""

    view: IncidentView
    heard_ns: int
    wanted: Act | None = None


class IncidentBook:
    """`changed` hears of every change of an incident, to write it down."""

    def __init__(
        self, node: str, config: IncidentConfig, *, random_bytes: RandomBytes, changed: Callable[[IncidentView], None]
    ) -> None:
        self._node = node
        self._config = config
        self._random_bytes = random_bytes
        self._changed = changed
        self._open: dict[str, _Open] = {}
        self._by_subject: dict[tuple[str, str], str] = {}

    def __len__(self) -> int:
        return len(self._open)

    def restore(self, view: IncidentView, now_ns: int) -> None:
        """Take an incident that was written down."""
        self._open[view.id] = _Open(view, now_ns)
        self._by_subject[view.node, view.subject] = view.id

    def views(self) -> Iterator[IncidentView]:
        """Return all open incidents, oldest first."""
        return (each.view for each in self._open.values())

    def find(self, incident_id: str) -> IncidentView | None:
        """Return an open incident."""
        found = self._open.get(incident_id)
        return found.view if found else None

    def about(self, subject: str, node: str = "") -> IncidentView | None:
        """Return the open incident of this node, or of another one, about a device or an address."""
        return self.find(self._by_subject.get((node or self._node, subject), ""))

    def take(
        self, finding: Finding, subject: Subject | None, score: float, quarantine: bool, now_ns: int, utc_ns: int
    ) -> tuple[Act, ...]:
        """Take a finding in; returns what to do. `quarantine`: the score of the device demands it."""
        name = finding.device or finding.address
        view = self.about(name)
        wanted = self._wanted(finding, quarantine)
        if view is None:
            if finding.severity < self._config.severity and wanted is not Response.QUARANTINE:
                return ()
            view = self._new(self._node, finding, subject, utc_ns)
        row = EvidenceRow(utc_ns, finding.evidence.value, finding.severity, plain(finding.detail, MAX_WORDS))
        view = msgspec.structs.replace(
            view,
            rows=_keep((*view.rows, row), MAX_EVIDENCE),
            count=view.count + 1,
            severity=max(view.severity, finding.severity),
            score=score,
            changed_utc_ns=utc_ns,
        )
        strongest = max((HARDNESS[act.response] for act in view.acts if act.outcome != Outcome.FAILED), default=-1)
        held = self._held(view.id)
        worse = HARDNESS[wanted] > strongest and (held is None or HARDNESS[held.response] < HARDNESS[wanted])
        if worse and view.state == IncidentState.CONTAINED:
            view = _step(view, IncidentEvent.WORSENED)
        self._set(view, now_ns)
        return (Act(view.id, wanted, name, f"{finding.evidence}: {finding.detail}"),) if worse else ()

    def report(
        self, node: str, entry: BoardEntry, subject: Subject | None, now_ns: int, utc_ns: int
    ) -> tuple[Act, ...]:
        """Take an incident of a peer in; returns what to do about it here."""
        if entry.response != Response.QUARANTINE:
            return ()
        view = self.find(entry.id)
        if view is not None and (view.node != node or view.subject != entry.device):
            return ()
        if view is None:
            finding = Finding(Evidence.REPORTED_BY_PEER, entry.severity, "", device=entry.device)
            view = self._new(node, finding, subject, entry.opened_utc_ns, entry.id)
            row = EvidenceRow(utc_ns, entry.evidence, entry.severity, f"found by {node}")
            view = msgspec.structs.replace(view, evidence=entry.evidence, rows=(row,), changed_utc_ns=utc_ns)
            self._set(view, now_ns)
        if any(act.response == Response.QUARANTINE for act in view.acts):
            return ()
        return (Act(view.id, Response.QUARANTINE, entry.device, f"{node} quarantined it"),)

    def by_operator(self, device_id: str, subject: Subject, reason: str, now_ns: int, utc_ns: int) -> Act:
        """An operator wants a device quarantined: the incident that tells peers of it, and what to do."""
        view = self.about(device_id)
        if view is None:
            finding = Finding(Evidence.DENIED, 1.0, "", device=device_id)
            view = self._new(self._node, finding, subject, utc_ns)
            row = EvidenceRow(utc_ns, BY_OPERATOR, 1.0, plain(reason, MAX_WORDS))
            view = msgspec.structs.replace(view, evidence=BY_OPERATOR, rows=(row,), count=1)
            self._set(view, now_ns)
        return Act(view.id, Response.QUARANTINE, device_id, reason)

    def awaited(self, device_id: str) -> tuple[Act, ...]:
        """Return what is to be done about a device that has just come to this node."""
        found = (each.view for each in self._open.values() if each.view.subject == device_id)
        return tuple(
            Act(view.id, Response.QUARANTINE, device_id, f"{view.node} quarantined it")
            for view in found
            if any(act.response == Response.QUARANTINE and act.outcome in _TO_DO for act in view.acts)
        )

    def quarantined_by(self, device_id: str) -> tuple[IncidentView, ...]:
        """Return the open incidents for whose sake a device is quarantined, here or at peers."""
        return tuple(
            view
            for view in self.views()
            if view.subject == device_id
            and view.subject_is is SubjectIs.DEVICE
            and any(act.response == Response.QUARANTINE for act in view.acts)
        )

    def done(self, act: Act, outcome: Outcome, utc_ns: int, actor: str = "") -> None:
        """Write down what came of a response; what was held back is wanted again later."""
        found = self._open.get(act.incident)
        if found is None:
            return
        if outcome is Outcome.HELD_BACK:
            again = found.wanted is not None
            found.wanted = act
            if again:
                return
        elif found.wanted is not None and HARDNESS[found.wanted.response] <= HARDNESS[act.response]:
            found.wanted = None
        row = ActRow(utc_ns, act.response.value, outcome.value, plain(actor, MAX_WORD))
        view = msgspec.structs.replace(found.view, acts=_keep((*found.view.acts, row), MAX_ACTS), changed_utc_ns=utc_ns)
        if outcome is Outcome.DONE and act.response is not Response.ALARM and view.state == IncidentState.OPENED:
            view = _step(view, IncidentEvent.RESPONDED)
        found.view = view
        self._changed(view)

    def retry(self, most: int) -> tuple[Act, ...]:
        """Return responses that were held back, those against the worst first."""
        waiting = [(each.view.severity, each.wanted) for each in self._open.values() if each.wanted is not None]
        waiting.sort(key=lambda each: -each[0])
        return tuple(act for _, act in waiting[:most])

    def acknowledge(self, incident_id: str, actor: str, note: str, utc_ns: int) -> IncidentView | None:
        """An operator has seen it."""
        found = self._open.get(incident_id)
        if found is None:
            return None
        note = note or found.view.note
        found.view = msgspec.structs.replace(
            found.view, acknowledged_by=plain(actor, MAX_WORD), note=plain(note, MAX_WORDS), changed_utc_ns=utc_ns
        )
        self._changed(found.view)
        return found.view

    def resolve(self, incident_id: str, by: str, utc_ns: int, note: str = "") -> IncidentView | None:
        """End an incident and return how it ended, or None where it is not open."""
        found = self._open.pop(incident_id, None)
        if found is None:
            return None
        view = _step(found.view, IncidentEvent.RESOLVED)
        view = msgspec.structs.replace(
            view,
            ended_utc_ns=utc_ns,
            changed_utc_ns=utc_ns,
            ended_by=plain(by, MAX_WORD),
            note=plain(note, MAX_WORDS) or view.note,
        )
        self._by_subject.pop((view.node, view.subject), None)
        self._changed(view)
        return view

    def quiet(self, now_ns: int, holds: Callable[[IncidentView], bool]) -> tuple[str, ...]:
        """Return own incidents of which nothing was heard for long, but for those that `holds` keeps open."""
        limit_ns = self._config.quiet_s * 1e9
        old = (each.view for each in self._open.values() if now_ns - each.heard_ns >= limit_ns)
        return tuple(view.id for view in old if view.node == self._node and not holds(view))

    def of_peer(self, node: str) -> tuple[IncidentView, ...]:
        """Return the open incidents that a peer reported."""
        return tuple(view for view in self.views() if view.node == node)

    def board(self) -> tuple[BoardEntry, ...]:
        """Return what peers are told: this node's own incidents with devices, the newest first."""
        entries = [
            BoardEntry(
                view.id, view.subject, view.evidence, view.state, _hardest(view), view.severity, view.opened_utc_ns
            )
            for view in self.views()
            if view.node == self._node and view.subject_is is SubjectIs.DEVICE
        ]
        return tuple(reversed(entries[-MAX_BOARD:]))

    def _wanted(self, finding: Finding, quarantine: bool) -> Response:
        if finding.address:
            return Response.BLOCK
        return Response.QUARANTINE if quarantine else RESPONSES.get(finding.evidence, Response.ALARM)

    def _new(
        self, node: str, finding: Finding, subject: Subject | None, utc_ns: int, incident_id: str = ""
    ) -> IncidentView:
        if len(self._open) >= self._config.max_open:
            mildest = min(self._open.values(), key=lambda each: (HARDNESS[_hardest(each.view)], each.view.severity))
            self.resolve(mildest.view.id, CROWDED, utc_ns)
        return IncidentView(
            id=incident_id or uuid7(utc_ns, self._random_bytes),
            node=node,
            subject=plain(finding.device or finding.address, MAX_WORDS),
            subject_is=SubjectIs.DEVICE if finding.device else SubjectIs.ADDRESS,
            evidence=finding.evidence.value,
            state=INCIDENT_STATES.initial.value,
            severity=finding.severity,
            opened_utc_ns=utc_ns,
            changed_utc_ns=utc_ns,
            device_class=plain(subject.device_class, MAX_WORD) if subject else "",
            safety=subject.safety if subject else False,
            count=0,
        )

    def _held(self, incident_id: str) -> Act | None:
        found = self._open.get(incident_id)
        return found.wanted if found else None

    def _set(self, view: IncidentView, now_ns: int) -> None:
        found = self._open.get(view.id)
        if found is None:
            self._open[view.id] = _Open(view, now_ns)
            self._by_subject[view.node, view.subject] = view.id
        else:
            found.view, found.heard_ns = view, now_ns
        self._changed(view)


def _step(view: IncidentView, event: IncidentEvent) -> IncidentView:
    after = INCIDENT_STATES.next(IncidentState(view.state), event)
    return msgspec.structs.replace(view, state=after.value)


def _hardest(view: IncidentView) -> str:
    done = [act.response for act in view.acts if act.outcome == Outcome.DONE]
    return max(done, key=HARDNESS.__getitem__, default=Response.ALARM.value)


def _keep(rows: tuple[T, ...], most: int) -> tuple[T, ...]:
    """Keep the first half and the newest half."""
    return rows if len(rows) <= most else rows[: most // 2] + rows[-(most - most // 2) :]
