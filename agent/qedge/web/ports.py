"""What the HTTP interface needs from the node; the daemon fills it in, `fake.py` is the one for tests."""

from __future__ import annotations

from typing import Protocol

from qedge.web.configuration.ports import ConfigurationNode
from qedge.web.decode.ports import DecodeNode
from qedge.web.devices.ports import DevicesNode
from qedge.web.drivers.ports import DriversPort
from qedge.web.events.ports import EventsPort
from qedge.web.fleet.ports import FleetNode
from qedge.web.health.ports import HealthPort
from qedge.web.jobs.ports import JobsPort
from qedge.web.keys.ports import KeysNode
from qedge.web.links.ports import LinksPort
from qedge.web.node.ports import OwnPort
from qedge.web.orders.ports import OrdersNode
from qedge.web.peers.ports import PeersPort
from qedge.web.policy.ports import PolicyNode
from qedge.web.results.ports import ResultsNode
from qedge.web.security.ports import SecurityNode
from qedge.web.segments.ports import SegmentsNode
from qedge.web.shared_state.ports import StateNode


class NodePort(
    ConfigurationNode,
    DecodeNode,
    DevicesNode,
    DriversPort,
    EventsPort,
    FleetNode,
    HealthPort,
    JobsPort,
    KeysNode,
    LinksPort,
    OwnPort,
    OrdersNode,
    PeersPort,
    PolicyNode,
    ResultsNode,
    SecurityNode,
    SegmentsNode,
    StateNode,
    Protocol,
):
    """One node: what all capabilities need of it.

    Every method raises `QedgeError` where it refuses; the web room gives each call a deadline.
    """
