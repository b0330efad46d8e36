"""How much of the loop's time devices get that arrive."""

from __future__ import annotations

from qedge.base.fake_clock import FakeClock
from qedge.devices.ways_in.pace import BURST_NS, Pace
