"""What the room needs from rooms above it, filled in by the daemon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from qedge.security.model import Action, Decision, Resource, Subject
from qedge.wire.incidents import IncidentBoard


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


class Subjects(Protocol):
    """The devices of this node, whoever keeps them. Never waits."""

    def find(self, device_id: str) -> Subject | None:
        """Return the one record of a device, or None where it is none of this node's."""
        ...

    def count(self) -> int:
        """Return how many devices there are: what the cap on automatic responses is a share of."""
        ...


class AddressGuard(Protocol):
    """The ways in, as far as addresses go."""

    def block(self, address: str, seconds: float) -> None:
        """Take no connection from an address for so long; 0 lifts it. Sessions that are open stay."""
        ...


class Herald(Protocol):
    """Tells the fleet of incidents, signed, and hears of those of peers."""

    def listen(self, heard: Callable[[IncidentBoard], None], lost: Callable[[], None]) -> None:
        """Call `heard` with every board of another node whose signature is good, `lost` where the own may be gone."""
        ...

    async def publish(self, board: IncidentBoard) -> None:
        """Tell all nodes, those included that come later; raises `bus.*`."""
        ...
