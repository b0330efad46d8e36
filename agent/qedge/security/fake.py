"""What a security service needs, for tests: devices in a dict, a containment that remembers, a fleet in memory."""

from __future__ import annotations

from collections.abc import Callable

from qedge.base.errors import QedgeError
from qedge.security.model import Subject
from qedge.wire.incidents import IncidentBoard


class FakeSubjects:
    """Implements `Subjects` over a dict; `population` over 0 says that there are so many devices."""

    def __init__(self, *subjects: Subject) -> None:
        self.known = {subject.id: subject for subject in subjects}
        self.population = 0

    def find(self, device_id: str) -> Subject | None:
        """Return a device."""
        return self.known.get(device_id)

    def count(self) -> int:
        """Return how many there are."""
        return self.population or len(self.known)


class FakeContainment:
    """Implements `Containment` and `AddressGuard`; `done` is what was asked for, in order."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.fails = False

    def quarantine(self, device_id: str, reason: str) -> None:
        """Remember it."""
        self._do("quarantine", device_id)

    def release(self, device_id: str) -> None:
        """Remember it."""
        self._do("release", device_id)

    def cut_off(self, device_id: str, reason: str) -> None:
        """Remember it."""
        self._do("cut_off", device_id)

    def throttle(self, device_id: str, messages_per_s: float) -> None:
        """Remember it."""
        self._do("throttle" if messages_per_s else "unthrottle", device_id)

    def rekey(self, device_id: str) -> None:
        """Remember it."""
        self._do("rekey", device_id)

    def block(self, address: str, seconds: float) -> None:
        """Remember it."""
        self._do("block" if seconds else "unblock", address)

    def of(self, deed: str) -> list[str]:
        """Return to whom something was done."""
        return [subject for each, subject in self.done if each == deed]

    def _do(self, deed: str, subject: str) -> None:
        if self.fails:
            raise RuntimeError("the fake was told to fail")
        self.done.append((deed, subject))


class FakeFleet:
    """The bus between the heralds of several nodes; `retained` has the newest board of each."""

    def __init__(self) -> None:
        self.heralds: list[FakeHerald] = []
        self.retained: dict[str, IncidentBoard] = {}

    def herald(self, node: str) -> FakeHerald:
        """Make the herald of a node."""
        made = FakeHerald(self, node)
        self.heralds.append(made)
        return made


class FakeHerald:
    """Implements `Herald`; `connected` off loses what comes in, and refuses what goes out."""

    def __init__(self, fleet: FakeFleet, node: str) -> None:
        self._fleet = fleet
        self._heard: Callable[[IncidentBoard], None] = lambda _board: None
        self._lost: Callable[[], None] = lambda: None
        self.node = node
        self.connected = True

    def listen(self, heard: Callable[[IncidentBoard], None], lost: Callable[[], None]) -> None:
        """Hear all boards from now on."""
        self._heard, self._lost = heard, lost

    async def publish(self, board: IncidentBoard) -> None:
        """Tell the others."""
        if not self.connected:
            raise QedgeError("bus.unavailable", "The fake broker is away.")
        self._fleet.retained[board.node] = board
        for herald in self._fleet.heralds:
            herald.hear(board)

    def hear(self, board: IncidentBoard) -> None:
        """Hear of a board, as from the broker."""
        if self.connected and board.node != self.node:
            self._heard(board)

    def reconnect(self) -> None:
        """Get what is retained again."""
        self.connected = True
        self._lost()
        for board in self._fleet.retained.values():
            self.hear(board)
