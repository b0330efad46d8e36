"""What changes while no host can be told: it goes to the spool, to be sent as history later. Pure."""

from __future__ import annotations

from qedge.fleet.sparkplug.births import Births, admissible, distinct
from qedge.fleet.sparkplug.model import Past, Reading, Snapshot


class Recorder:
    """Compares with what was said or recorded last, by the same rule as data is sent.

    What a metric was worth at first is recorded once it changes: until then the next birth says as much.
    """

    def __init__(self, deadband_ratio: float) -> None:
        self._births = Births(deadband_ratio)
        self._firsts: dict[tuple[str, str], Reading] = {}

    def follow(self, births: Births) -> None:
        """Go on from what a session has said to its end."""
        if births.owners:
            self._births = births
            self._firsts.clear()

    def changes(self, snapshot: Snapshot, utc_ms: int) -> list[Past]:
        """Return what is new since, by the times of reading."""
        found: list[Past] = []
        for owner in ("", *distinct(snapshot.devices)):
            readings = admissible(snapshot.of(owner))
            new = self._births.new(owner, readings)
            changed = self._births.changed(owner, readings, utc_ms)
            if owner in self._births.owners:
                self._births.say(owner, {**changed, **new})
            else:
                self._births.born(owner, readings)
            self._firsts.update(((owner, name), reading) for name, reading in new.items())
            for name, reading in changed.items():
                if name in new:
                    continue
                rows = (self._firsts.pop((owner, name), None), reading)
                found += [Past(owner, name, each) for each in rows if each is not None and each.value is not None]
        return sorted(found, key=lambda past: past.reading.utc_ms)
