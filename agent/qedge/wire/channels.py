"""What the topics of a node carry, and who may publish on them; the map of topics stands in `topics`."""

from __future__ import annotations

from enum import StrEnum


class Channel(StrEnum):
    """What a node's topics carry."""

    BIRTH = "birth"
    LOST = "lost"
    PULSE = "pulse"
    HELLO = "hello"
    SEALED = "sealed"
    REVOKED = "revoked"
    POLICY = "policy"
    JOIN = "join"
    REPLY = "reply"
    INCIDENTS = "incidents"
    DEVICES_REVOKED = "devices-revoked"
    ONWARD = "onward"
    STATE = "state"
    SHARED = "shared"
    COMMANDS = "commands"
    RESULTS = "results"
    COMPARE = "compare"
    RENEWAL = "renewal"
    RENEWED = "renewed"


class Publisher(StrEnum):
    """Who may publish on a topic."""

    OWNER = "the node itself"
    PEERS = "any node of the fleet"
    ANYONE = "anyone with an invitation"
    DEVICE = "the device"
    OPERATORS = "operators of the fleet"
    AUTHORITY = "the fleet's authority"
