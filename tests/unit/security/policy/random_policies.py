"""Random policies and requests from a seed, small enough in their words that rules often meet."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from qedge.base.settings import toml_value
from qedge.security.model import Action, Resource, ResourceKind, Subject, SubjectKind
from qedge.security.policy.document import parse_document
from qedge.security.policy.model import DAYS, PolicyDocument

SEGMENTS = {"hall": ["temp", "power"], "doors": ["state", "temp"], "free": []}
CHANNELS = ["temp", "power", "state", "noise"]
CLASSES = ["meter", "lock", "camera"]
GROUPS = ["east", "west", "pilot"]
DEVICES = [f"d{number}" for number in range(6)]
COMMANDS = ["open", "close", "reboot"]
APPS = ["board", "store"]
LOCATIONS = ["lab", "roof"]
POSTURE = ["signed", "patched", "sealed"]
ZONES = ["UTC", "Europe/Vienna", "Asia/Kathmandu"]
RATES = [0.5, 1.0, 2.0, 5.0, 10.0]
"""Whole numbers of nanoseconds lie between two uses."""

START_UTC_NS = 1_798_675_200_000_000_000
HOUR_NS = 3600 * 1_000_000_000


@dataclass(frozen=True)
class Request:
    """One request as it was made; `subject` is a copy of how it was then."""

    subject: Subject | None
    action: Action
    resource: Resource
    now_ns: int
    utc_ns: int


class RandomPolicies:
    """Makes policies, subjects and requests."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def some(self, values: list[str], most: int = 2) -> list[str]:
        """Return one or some of them."""
        return self.rng.sample(values, self.rng.randint(1, min(most, len(values))))

    def maybe(self, chance: float) -> bool:
        """Toss a coin."""
        return self.rng.random() < chance

    def text(self, rules: int) -> str:
        """Write a policy in TOML."""
        lines = ["version = 1", f"zone = {toml_value(self.rng.choice(ZONES))}"]
        for name, channels in SEGMENTS.items():
            lines += [f"[segments.{name}]", f"channels = {toml_value(channels)}" if channels else ""]
        for number in range(rules):
            lines += [f"[rules.rule-{number}]"]
            lines += [f"{key} = {toml_value(value)}" for key, value in self.rule().items()]
        return "\n".join(lines) + "\n"

    def policy(self, rules: int) -> PolicyDocument:
        """Return a policy."""
        return parse_document(self.text(rules).encode(), "random.toml")

    def rule(self) -> dict[str, object]:
        """Return a rule that has no faults."""
        forbid = self.maybe(0.25)
        resources, actions = self.target()
        rule: dict[str, object] = {
            "effect": "forbid" if forbid else "permit",
            "subjects": self.subjects(),
            "actions": actions,
            "resources": resources,
        }
        if self.maybe(0.5):
            rule["when"] = self.conditions()
        if forbid and self.maybe(0.4):
            rule["unless"] = self.conditions()
        if not forbid and self.maybe(0.5):
            rule["crossing"] = True
        if not forbid and self.maybe(0.3):
            rule["rate"] = {"per_second": self.rng.choice(RATES), "burst": self.rng.randint(1, 3)}
        return rule

    def subjects(self) -> dict[str, object]:
        """Return whom a rule is about."""
        found: dict[str, object] = {"kinds": ["device"] if self.maybe(0.6) else self.some(list(SubjectKind), 3)}
        for key, values, chance in (
            ("ids", DEVICES, 0.15),
            ("classes", CLASSES, 0.4),
            ("groups", GROUPS, 0.3),
            ("segments", list(SEGMENTS), 0.15),
        ):
            if self.maybe(chance):
                found[key] = self.some(values)
        if self.maybe(0.2):
            found["attributes"] = {
                "floor": self.rng.choice(["1", ["1", "2"]]),
                **({"maker": "acme"} if self.maybe(0.3) else {}),
            }
        return found

    def target(self) -> tuple[dict[str, object], list[str]]:
        """Return what a rule is about, and actions that can be done with it."""
        segments = ["*"] if self.maybe(0.3) else self.some(list(SEGMENTS))
        match self.rng.randrange(6):
            case 0:
                return {"node": True}, ["connect"]
            case 1:
                return {"apps": ["*"] if self.maybe(0.3) else self.some(APPS)}, self.some(["publish", "command"])
            case 2:
                commands = ["*"] if self.maybe(0.3) else self.some(COMMANDS)
                found: dict[str, object] = {"commands": commands}
                if self.maybe(0.7):
                    found["segments"] = segments
                if "segments" not in found or self.maybe(0.3):
                    found["devices"] = ["*"] if self.maybe(0.3) else self.some(DEVICES, 3)
                return found, ["command"]
        known = sorted({each for name in segments if name in SEGMENTS for each in SEGMENTS[name]})
        channels = ["*"] if self.maybe(0.4) or not known else self.some(known)
        return {"segments": segments, "channels": channels}, self.some(["publish", "subscribe"])

    def conditions(self) -> dict[str, object]:
        """Return conditions, at least one."""
        found: dict[str, object] = {}
        while not found:
            if self.maybe(0.4):
                found["trust"] = self.rng.randint(1, 100)
            if self.maybe(0.25):
                found["time"] = [self.window() for _ in range(self.rng.randint(1, 2))]
                if self.maybe(0.5):
                    found["zone"] = self.rng.choice(ZONES)
            if self.maybe(0.2):
                found["locations"] = self.some(LOCATIONS)
            if self.maybe(0.2):
                found["posture"] = self.some(POSTURE)
            if self.maybe(0.15):
                found["qkd"] = True
        return found

    def window(self) -> dict[str, object]:
        """Return a time window."""
        begin, until = self.rng.sample(range(0, 24 * 60, 15), 2)
        found: dict[str, object] = {"from": f"{begin // 60:02}:{begin % 60:02}"}
        found["until"] = "24:00" if until == 0 or self.maybe(0.1) else f"{until // 60:02}:{until % 60:02}"
        if self.maybe(0.5):
            found["days"] = self.some(list(DAYS), 5)
        return found

    def subject(self, name: str) -> Subject:
        """Return a subject."""
        rng = self.rng
        return Subject(
            id=name,
            kind=SubjectKind.DEVICE if self.maybe(0.7) else rng.choice(list(SubjectKind)),
            device_class=rng.choice(CLASSES),
            groups=frozenset(rng.sample(GROUPS, rng.randint(0, 2))),
            attributes={"floor": rng.choice(["1", "2", "3"])} if self.maybe(0.7) else {"maker": "acme"},
            segment=rng.choice([*SEGMENTS, "", "nowhere"]),
            location=rng.choice([*LOCATIONS, ""]),
            posture=frozenset(rng.sample(POSTURE, rng.randint(0, 3))),
            trust=rng.randint(0, 100),
            quarantined=self.maybe(0.02),
            revoked=self.maybe(0.02),
            qkd_backed=self.maybe(0.5),
            lease_until_ns=1 << 62,
        )

    def change(self, subject: Subject) -> None:
        """Change something of a subject in place, as registries do."""
        match self.rng.randrange(5):
            case 0:
                subject.trust = self.rng.randint(0, 100)
            case 1:
                subject.quarantined = not subject.quarantined
            case 2:
                subject.location = self.rng.choice(LOCATIONS)
            case 3:
                subject.qkd_backed = not subject.qkd_backed
            case 4:
                subject.groups = frozenset(self.some(GROUPS))
        subject.epoch += 1

    def resource(self) -> Resource:
        """Return something to ask for, at times something that does not exist."""
        rng = self.rng
        segment = rng.choice([*SEGMENTS, *SEGMENTS, "nowhere", ""])
        match rng.randrange(6):
            case 0:
                return Resource(ResourceKind.NODE)
            case 1:
                return Resource(ResourceKind.APP, rng.choice([*APPS, "other"]))
            case 2:
                name, owner = rng.choice([*COMMANDS, "*"]), rng.choice(DEVICES)
                return Resource(ResourceKind.DEVICE, name, segment, owner)
        return Resource(ResourceKind.SEGMENT, rng.choice(CHANNELS), segment)

    def requests(self, count: int) -> Iterator[tuple[Subject | None, Request]]:
        """Yield who asks (the living object, or None) and the request, over some hours, with changes in between."""
        subjects = [self.subject(name) for name in DEVICES]
        now_ns, utc_ns = 0, START_UTC_NS + self.rng.randrange(7 * 24) * HOUR_NS
        for _ in range(count):
            step_ns = self.rng.choice([0, 100_000_000, 250_000_000, HOUR_NS // 4])
            now_ns, utc_ns = now_ns + step_ns, utc_ns + step_ns
            if self.maybe(0.1):
                self.change(self.rng.choice(subjects))
            subject = None if self.maybe(0.01) else self.rng.choice(subjects)
            resource = self.resource()
            natural = {
                ResourceKind.NODE: [Action.CONNECT],
                ResourceKind.DEVICE: [Action.COMMAND],
                ResourceKind.APP: [Action.PUBLISH, Action.COMMAND],
                ResourceKind.SEGMENT: [Action.PUBLISH, Action.SUBSCRIBE],
            }[resource.kind]
            action = self.rng.choice(natural if self.maybe(0.95) else list(Action))
            copy = None if subject is None else replace(subject)
            yield subject, Request(copy, action, resource, now_ns, utc_ns)
