"""Policies, subjects and ports that tests of policies share."""

from __future__ import annotations

from qedge.base.errors import QedgeError
from qedge.bus.model import Handler, Incoming, OnSession
from qedge.security.model import Action, Resource, ResourceKind, Subject, SubjectKind
from qedge.security.policy.document import parse_document
from qedge.security.policy.model import PolicyDocument

LEASE_NS = 1 << 62
NOON_UTC_NS = 1_799_064_000_000_000_000
"""2027-01-04 12:00 UTC, a Monday."""
S = 1_000_000_000

HEAD = """version = 1
[segments.hall]
channels = ["temp", "power"]
[segments.doors]
"""
REPORT = """[rules.report]
effect = "permit"
subjects = { kinds = ["device"], classes = ["meter"] }
actions = ["publish"]
resources = { segments = ["*"], channels = ["*"] }
"""


def policy(*rules: str, head: str = HEAD) -> PolicyDocument:
    """Return a policy of two segments with some rules."""
    return parse_document((head + "\n".join(rules)).encode(), "policy.toml")


def rule(name: str, effect: str = "permit", rest: str = "") -> str:
    """Return a rule about what meters publish in the hall."""
    return (
        f'[rules.{name}]\neffect = "{effect}"\nsubjects = {{ kinds = ["device"], classes = ["meter"] }}\n'
        f'actions = ["publish"]\nresources = {{ segments = ["hall"], channels = ["*"] }}\n{rest}\n'
    )


def meter(name: str = "m1", **changes: object) -> Subject:
    """Return a meter in the hall that nothing speaks against."""
    subject = Subject(name, SubjectKind.DEVICE, "meter", segment="hall", trust=80, lease_until_ns=LEASE_NS)
    for key, value in changes.items():
        setattr(subject, key, value)
    return subject


def channel(name: str = "temp", segment: str = "hall") -> Resource:
    """Return a channel."""
    return Resource(ResourceKind.SEGMENT, name, segment)


PUBLISH = Action.PUBLISH


class MemoryShelf:
    """Keeps texts; `writes` says how often. `full`: only what is accepted all the same is kept."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.writes = 0
        self.full = False

    async def get_meta(self, key: str, default: str = "") -> str:
        """Return a text."""
        return self.texts.get(key, default)

    async def set_meta(self, key: str, value: str, *, accepted: bool = False) -> None:
        """Keep a text."""
        if self.full and not accepted:
            raise QedgeError("store.disk_full", "The disk is full.")
        self.writes += 1
        self.texts[key] = value


class QuietBus:
    """Remembers what was published, and delivers what a test says."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, bool]] = []
        self.handlers: dict[str, Handler] = {}
        self.hooks: list[OnSession] = []

    def subscribe(self, pattern: str, handler: Handler, *, retained: bool = False) -> None:
        """Note a handler."""
        assert retained
        self.handlers[pattern] = handler

    def on_session(self, hook: OnSession) -> None:
        """Note a hook."""
        self.hooks.append(hook)

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Note a message."""
        assert qos == 1
        self.published.append((topic, payload, retain))

    async def deliver(self, topic: str, payload: bytes) -> None:
        """Hand a message to whoever listens."""
        await self.handlers[topic](Incoming(topic, payload, 1, True))
