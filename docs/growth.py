"""Compute how a fleet grows: the table of docs/scale.md, from the rules of the code. Run it to write the page anew.

`python docs/growth.py` replaces the tables between the marks in docs/scale.md; `--check` says whether they are fresh.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qedge.mesh.config import MeshConfig
from qedge.mesh.rhythm import next_step
from qedge.orchestrator.state.config import StateConfig
from qedge.orchestrator.state.namespaces import NAMESPACES
from qedge.orchestrator.state.partners import partners
from qedge.wire.topics import TOPICS

PAGE: Final = Path(__file__).parent / "scale.md"
DEVICES_PER_NODE: Final = 1_000
SITE_NODES: Final = 200
DEVICE_MESSAGE_S: Final = 10.0
"""A device says something this often, on average."""
CERTIFICATE_BYTES: Final = 6_243
"""A node's certificate with ML-DSA-65 keys, as measured."""
ENTRY_BYTES: Final = 3_716
"""An entry of 200 bytes as it is stored, signature included, as measured."""
ENTRIES_OF_NODE: Final = 5
"""Capability, the calibration of one QPU, the serial of the policy, two programs."""
BROKER_CONNECTIONS: Final = 1_000_000
"""What one node of a broker cluster is taken to hold; makers of clusters state one to five millions for large hosts."""


@dataclass(frozen=True, slots=True)
class Size:
    """A fleet of so many devices."""

    devices: int

    @property
    def nodes(self) -> int:
        """Boxes."""
        return max(1, -(-self.devices // DEVICES_PER_NODE))

    @property
    def sites(self) -> int:
        """Groups of boxes around one broker."""
        return -(-self.nodes // SITE_NODES)

    @property
    def in_site(self) -> int:
        """Boxes of a full site."""
        return min(self.nodes, SITE_NODES)

    @property
    def pulse_s(self) -> float:
        """Time between two heartbeats of a box."""
        return MeshConfig().pulse_s * (1 << next_step(0, self.in_site))

    @property
    def dead_s(self) -> float:
        """Silence after which a box of the site is dead."""
        return self.pulse_s * MeshConfig().dead_periods + MeshConfig().margin_s

    @property
    def hearts_s(self) -> float:
        """Heartbeats that a box receives in a second."""
        return (self.in_site - 1) / self.pulse_s

    @property
    def all_hearts_s(self) -> float:
        """What it would receive if all boxes were one site, at the slowest heart there is."""
        return (self.nodes - 1) / (MeshConfig().pulse_s * (1 << next_step(0, self.nodes)))

    @property
    def compared_with(self) -> int:
        """Boxes with which a box keeps sessions for comparing."""
        names = [f"n{number:03d}" for number in range(self.in_site)]
        return 2 * len(partners(names[0], names))

    @property
    def summaries_min(self) -> float:
        """Summaries of sites that every box receives in a minute, if each site changes all the time."""
        return self.sites * 60 / StateConfig().summary_s

    @property
    def state_kib(self) -> float:
        """What a box holds of the shared state, with a certificate of each writer."""
        entries = self.in_site * ENTRIES_OF_NODE + self.sites
        writers = self.in_site + self.sites
        return (entries * ENTRY_BYTES + writers * CERTIFICATE_BYTES) / 1024

    @property
    def topics(self) -> int:
        """Topics of boxes that are in use, all sites together; devices behind the listener have none."""
        return self.nodes * sum(row.channel is not None for row in TOPICS)

    @property
    def site_out_s(self) -> float:
        """Messages that the broker of a full site sends in a second: hearts to all, and some words."""
        return self.in_site * self.hearts_s

    @property
    def core_in_s(self) -> float:
        """Messages that reach the core in a second: summaries, and readings if a tenth of them goes upstream."""
        return self.summaries_min / 60 + self.devices / DEVICE_MESSAGE_S / 10

    @property
    def brokers(self) -> int:
        """Hosts of a cluster that hold all boxes, and all devices if these were to connect to it directly."""
        return -(-(self.nodes + self.devices) // BROKER_CONNECTIONS)


SIZES: Final = tuple(Size(10**power) for power in range(3, 9))


def number(value: float) -> str:
    """Write a number for people: three digits that count."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Write a table in Markdown."""
    return ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]


def growth() -> str:
    """Return what stands between the marks."""
    head = ("devices", *(f"{size.devices:,}" for size in SIZES))
    lines = (
        ("boxes", lambda s: s.nodes),
        ("sites", lambda s: s.sites),
        ("boxes of a full site", lambda s: s.in_site),
        ("heartbeat of a box, s", lambda s: s.pulse_s),
        ("a dead box is noticed after, s", lambda s: s.dead_s),
        ("heartbeats that a box receives, 1/s", lambda s: s.hearts_s),
        ("… if all boxes were one site, 1/s", lambda s: s.all_hearts_s),
        ("sessions for comparing, per box", lambda s: s.compared_with),
        ("summaries that a box receives, 1/min", lambda s: s.summaries_min),
        ("shared state of a box, KiB", lambda s: s.state_kib),
        ("topics of boxes, all sites", lambda s: s.topics),
        ("out of the broker of a site, 1/s", lambda s: s.site_out_s),
        ("into the core, 1/s", lambda s: s.core_in_s),
        ("cluster hosts, if all connect to the core", lambda s: s.brokers),
    )
    rows = [(name, *(number(float(law(size))) for size in SIZES)) for name, law in lines]
    bounds = [
        (
            f"`{each.name}`",
            each.scope.value,
            "each its own" if each.own else "one for all",
            str(each.per_writer),
            f"{each.in_all:,}",
            f"{each.value_bytes:,}",
            f"{each.keep_s / 3600:g} h" if each.keep_s else "for ever",
        )
        for each in NAMESPACES.values()
    ]
    kinds = ("namespace", "reaches", "entry of a key", "per writer", "in all", "bytes", "kept")
    return "\n".join([*table(head, rows), "", *table(kinds, bounds)])


def main() -> int:
    """Write the page, or check it."""
    text = PAGE.read_text("utf-8")
    begin, end = "<!-- growth: begin -->\n", "\n<!-- growth: end -->"
    fresh = text[: text.index(begin) + len(begin)] + growth() + text[text.index(end) :]
    if "--check" in sys.argv[1:]:
        return 0 if fresh == text else 1
    PAGE.write_text(fresh, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
