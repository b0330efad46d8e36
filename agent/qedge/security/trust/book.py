"""Trust of all devices of a node. Pure.

A device's *score* is what the evidence gives at this moment, its *trust* what policy goes by. Trust falls with the
score at once. It rises only when the book is reviewed, and stays up to `hysteresis` points below the score, but never
by more than the evidence against the device still weighs: so it comes back in full once that has decayed. In this
form, and because reviews come by the clock and not with evidence, more evidence against a device never leads to more
trust.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from qedge.security.config import TrustConfig
from qedge.security.model import MAX_TRUST, Evidence, Subject
from qedge.security.trust.account import Account, HistoryRow
from qedge.security.trust.evidence import CLASSES, NUMBER, ORDER

QUARANTINED: Final = 254
RELEASED: Final = 253
DEMANDED: Final = 252
DEEDS: Final = {QUARANTINED: "quarantined", RELEASED: "released", DEMANDED: "demanded"}

_HOUR_NS: Final = 3_600_000_000_000
_REMEMBER_NS: Final = 24 * _HOUR_NS
_BURST: Final = 0.5
"""Share of an hour's gains that may come at once; the other half is earned in an hour, so no hour has more than all."""

_NOTHING: Final = 1e-6
"""Points that change nothing, not even the rounding."""

Find = Callable[[str], Subject | None]


class Change(NamedTuple):
    """Trust before and after, and the score that it follows."""

    before: int
    after: int
    score: float


class TrustBook:
    """Writes `Subject.trust`, `.quarantined` and `.epoch`; trust not lower for safety devices or without `enforce`."""

    def __init__(self, config: TrustConfig, *, enforce: bool) -> None:
        self._config = config
        self._enforce = enforce
        self._accounts: dict[str, Account] = {}
        self._round: Iterator[str] = iter(())

    def __len__(self) -> int:
        return len(self._accounts)

    def accounts(self) -> Iterator[tuple[str, Account]]:
        """Return all accounts, to be written down; a device without one is trusted as `base` says."""
        return iter(tuple(self._accounts.items()))

    def restore(self, device_id: str, account: Account) -> None:
        """Take an account that was written down."""
        self._accounts[device_id] = account

    def admit(self, subject: Subject) -> None:
        """Give a device that has come into memory the trust that its account says."""
        account = self._accounts.get(subject.id)
        self._publish(subject, account, account.published if account else self._config.base)

    def observe(self, subject: Subject, evidence: Evidence, severity: float, now_ns: int) -> Change:
        """Count a piece of evidence of `severity` 0 … 1."""
        account = self._account(subject.id, now_ns)
        kind = NUMBER[evidence]
        points = CLASSES[kind].weight * min(1.0, max(0.0, severity))
        if points > 0:
            points = self._granted(account, points, now_ns)
        if abs(points) < _NOTHING:
            return Change(account.published, account.published, self._score(account, now_ns))
        account.add(kind, points, now_ns)
        before, score = account.published, self._score(account, now_ns)
        account.published = min(before, math.floor(score))
        account.note(HistoryRow(now_ns, kind, points, before, account.published, 1))
        self._publish(subject, account, account.published)
        return Change(before, account.published, score)

    def score(self, device_id: str, now_ns: int) -> float:
        """Return what the evidence gives now."""
        account = self._accounts.get(device_id)
        return float(self._config.base) if account is None else self._score(account, now_ns)

    def demand(self, subject: Subject, points: int, until_ns: int, now_ns: int) -> None:
        """Demand that much more trust of a device until then: its trust is that much lower."""
        account = self._account(subject.id, now_ns)
        account.demanded = max(points, account.demanded)
        account.demanded_ns = max(until_ns, account.demanded_ns)
        account.note(HistoryRow(now_ns, DEMANDED, -points, account.published, account.published, 1))
        self._publish(subject, account, account.published)

    def quarantine(self, subject: Subject, now_ns: int) -> None:
        """Quarantine a device; it stays so until it is released here."""
        account = self._account(subject.id, now_ns)
        if not account.review_ns:
            account.note(HistoryRow(now_ns, QUARANTINED, 0.0, account.published, account.published, 1))
        account.review_ns = now_ns + self._review_ns()
        if not subject.quarantined:
            subject.quarantined = True
            subject.epoch += 1

    def release(self, subject: Subject, now_ns: int) -> None:
        """Let a device out on probation: of what counts against it so much is forgiven that it may stay out."""
        account = self._account(subject.id, now_ns)
        before = account.published
        wanted = self._config.quarantine_below + self._config.hysteresis
        good, bad = account.sums(now_ns)
        most = max(0.0, self._config.base + good - wanted)
        if bad > most:
            account.forgive(most / bad, now_ns)
        account.published = max(before, min(wanted, math.floor(self._score(account, now_ns) + 1e-6)))
        account.review_ns = 0
        account.note(HistoryRow(now_ns, RELEASED, 0.0, before, account.published, 1))
        if subject.quarantined:
            subject.quarantined = False
            subject.epoch += 1
        self._publish(subject, account, account.published)

    def review(self, find: Find, now_ns: int, most: int) -> list[Subject]:
        """Look at the next `most` accounts: let trust follow the score up, forget what is over.

        Returns the quarantined devices whose time is up and whose score is well above the threshold: to be released.
        """
        due = []
        for _ in range(most):
            device_id = next(self._round, "")
            if not device_id:
                self._round = iter(tuple(self._accounts))
                break
            account = self._accounts.get(device_id)
            if account is not None and self._look(device_id, account, find(device_id), now_ns):
                due.append(device_id)
        return [subject for each in due if (subject := find(each)) is not None]

    def why(self, device_id: str) -> tuple[HistoryRow, ...]:
        """Return the last changes of a device's trust, oldest first."""
        account = self._accounts.get(device_id)
        return tuple(account.rows()) if account else ()

    def demanded(self, device_id: str, now_ns: int) -> int:
        """Return how much more trust is demanded of a device now."""
        account = self._accounts.get(device_id)
        return account.demanded if account and now_ns < account.demanded_ns else 0

    def forget(self, device_id: str) -> None:
        """Forget a device that is none any more."""
        self._accounts.pop(device_id, None)

    def _look(self, device_id: str, account: Account, subject: Subject | None, now_ns: int) -> bool:
        """Review one account; says whether its quarantine may end."""
        left = account.tidy(now_ns)
        good, bad = account.sums(now_ns)
        score = self._clamped(good, bad)
        hysteresis = self._config.hysteresis
        account.published = math.floor(min(score, max(account.published, score - min(hysteresis, bad))) + 1e-9)
        if account.demanded_ns and now_ns >= account.demanded_ns:
            account.demanded = account.demanded_ns = 0
        if subject is not None:
            self._publish(subject, account, account.published)
        last = account.last_row()
        if not (left or account.review_ns or account.demanded) and (last is None or now_ns - last.at_ns > _REMEMBER_NS):
            self._accounts.pop(device_id, None)
        if not account.review_ns or now_ns < account.review_ns or not self._config.review_s:
            return False
        account.review_ns = now_ns + self._review_ns()
        return score >= self._config.quarantine_below + hysteresis

    def _publish(self, subject: Subject, account: Account | None, trust: int) -> None:
        trust = max(0, trust - (account.demanded if account else 0))
        if trust != subject.trust and (trust > subject.trust or (self._enforce and not subject.safety)):
            subject.trust = trust
            subject.epoch += 1

    def _granted(self, account: Account, points: float, now_ns: int) -> float:
        """Return how much of a gain the device may still have in this hour."""
        most = self._config.gain_per_hour * _BURST
        earned = most * (now_ns - account.allowance_ns) / _HOUR_NS
        allowance = min(most, account.allowance + earned)
        points = min(points, allowance)
        account.allowance, account.allowance_ns = allowance - points, now_ns
        return points

    def _score(self, account: Account, now_ns: int) -> float:
        good, bad = account.sums(now_ns)
        return self._clamped(good, bad)

    def _clamped(self, good: float, bad: float) -> float:
        return min(float(MAX_TRUST), max(0.0, self._config.base + good - bad))

    def _account(self, device_id: str, now_ns: int) -> Account:
        account = self._accounts.get(device_id)
        if account is None:
            account = self._accounts[device_id] = Account(self._config.base, self._config.gain_per_hour * _BURST)
            account.allowance_ns = now_ns
        return account

    def _review_ns(self) -> int:
        return max(1, round(self._config.review_s * 1e9))


def name_of(kind: int) -> str:
    """Name what a row of the history is about."""
    return DEEDS[kind] if kind in DEEDS else ORDER[kind].value if kind < len(ORDER) else "unknown"
