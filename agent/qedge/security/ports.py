"""What the room needs from rooms above it, filled in by the daemon."""

from __future__ import annotations

from typing import Protocol

from qedge.security.model import Action, Decision, Resource, Subject


class Judge(Protocol):
    """The policy engine as the enforcement point sees it. Never raises, never waits."""

    def decide(self, subject: Subject | None, action: Action, resource: Resource, now_ns: int, utc_ns: int) -> Decision:
        """Decide one request; None is a subject that nobody knows. Counts towards the rates of rules."""
        ...


class Containment(Protocol):
    """The policy administrator: carries out at once what was decided about a device; unknown ids change nothing."""

    def quarantine(self, device_id: str, reason: str) -> None:
        """Deny everything from now on and close the session."""
        ...

    def release(self, device_id: str) -> None:
        """Lift a quarantine."""
        ...

    def cut_off(self, device_id: str, reason: str) -> None:
        """Close the session and the connection; the device may come back and has to prove itself again."""
        ...

    def throttle(self, device_id: str, messages_per_s: float) -> None:
        """Take so many messages a second from the device and no more; 0 lifts it."""
        ...

    def rekey(self, device_id: str) -> None:
        """Ask for a new session before anything else is taken."""
        ...
