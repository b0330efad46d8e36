"""What changes while no host can be told: it goes to the spool, to be sent as history later. Pure."""

from __future__ import annotations

from qedge.fleet.sparkplug.births import Births, admissible, distinct
from qedge.fleet.sparkplug.model import Past, Snapshot


class Recorder:
    """Compares with what was said or recorded last, by the same rule as data is sent."""

    def __init__(self, deadband_ratio: float) -> None:
        self._births = Births(deadband_ratio)

    def follow(self, births: Births) -> None:
        """Go on from what a session has said to its end."""
        if births.owners:
            self._births = births

    def changes(self, snapshot: Snapshot, utc_ms: int) -> list[Past]:
        """Return what is new since, by the times of reading."""
        found: list[Past] = []
        for owner in ("", *distinct(snapshot.devices)):
            readings = admissible(snapshot.of(owner))
            if self._births.is_new(owner, readings):
                fresh = dict(readings)
                self._births.born(owner, readings)
            else:
                fresh = self._births.changed(owner, readings, utc_ms)
                self._births.say(owner, fresh)
            found += [Past(owner, name, reading) for name, reading in fresh.items() if reading.value is not None]
        return sorted(found, key=lambda past: past.reading.utc_ms)
