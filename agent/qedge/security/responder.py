"""Carries out what incidents call for: within the mode and the cap, sparing safety devices. Pure but for its ports."""

from __future__ import annotations

from qedge.security.config import IncidentConfig
from qedge.security.incidents.blast import BlastRadius
from qedge.security.incidents.model import UNCAPPED, Act, Outcome, Response
from qedge.security.model import Subject
from qedge.security.ports import AddressGuard, Containment, Subjects
from qedge.security.trust.book import TrustBook


class Responder:
    """Does one act after the other; `enforce` off: it does nothing and says what it would have done."""

    def __init__(
        self,
        config: IncidentConfig,
        trust: TrustBook,
        *,
        enforce: bool,
        subjects: Subjects,
        containment: Containment,
        guard: AddressGuard,
    ) -> None:
        self._config = config
        self._trust = trust
        self._enforce = enforce
        self._subjects = subjects
        self._containment = containment
        self._guard = guard
        self.blast = BlastRadius(config.blast_ratio, config.blast_least)

    def carry_out(self, act: Act, now_ns: int) -> Outcome:
        """Do what is asked for at once, and say what came of it."""
        if act.response is Response.ALARM:
            return Outcome.DONE
        if not self._enforce:
            return Outcome.OBSERVED
        if act.response is Response.BLOCK:
            self._guard.block(act.subject, self._config.block_s)
            return Outcome.DONE
        subject = self._subjects.find(act.subject)
        if subject is None:
            return Outcome.ABSENT
        if subject.safety:
            return Outcome.SPARED
        capped = act.response not in UNCAPPED
        if capped and not self.blast.allow(act.subject, self._subjects.count(), now_ns):
            return Outcome.HELD_BACK
        self._do(act, subject, now_ns)
        return Outcome.DONE

    def quarantine(self, subject: Subject, reason: str, now_ns: int) -> None:
        """Quarantine a device, whoever wants it: deny first, then close what is open."""
        self._trust.quarantine(subject, now_ns)
        self._containment.quarantine(subject.id, reason)

    def release(self, subject: Subject, now_ns: int) -> None:
        """Lift a quarantine and a throttle."""
        self._trust.release(subject, now_ns)
        self._containment.throttle(subject.id, 0)
        self._containment.release(subject.id)

    def lift(self, subject: Subject, response: str) -> None:
        """Take back what would otherwise last, when its incident is resolved."""
        if response == Response.THROTTLE:
            self._containment.throttle(subject.id, 0)

    def unblock(self, address: str) -> None:
        """Take connections from an address again."""
        self._guard.block(address, 0)

    def _do(self, act: Act, subject: Subject, now_ns: int) -> None:
        match act.response:
            case Response.QUARANTINE:
                self.quarantine(subject, act.reason, now_ns)
            case Response.CUT_OFF:
                self._containment.cut_off(subject.id, act.reason)
            case Response.THROTTLE:
                self._containment.throttle(subject.id, self._config.throttle_hz)
            case Response.REKEY:
                self._containment.rekey(subject.id)
            case _:
                until_ns = now_ns + round(self._config.quiet_s * 1e9)
                self._trust.demand(subject, self._config.demand, until_ns, now_ns)
