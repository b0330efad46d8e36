"""Detection on captured MQTT traffic, and what it costs at 10,000 devices.

`detect.bruteforce_attempts`: failed logins of one source before it is found. `detect.flood_s`: time from the first
message of a flood until it is found. `detect.benign_alarms`: findings of any severity in ordinary traffic. They are
reported on the `-test` parts of MQTTset (CC BY-NC-SA, not part of this repository; without it only the cost is
measured), the worst of ten phases in which the traffic may meet the windows; settings are the defaults, chosen on the
`-train` parts. The baseline is a plain threshold on packets a second of one source, twice what ordinary traffic has at
most in the `-train` part; where it never sees the guessing, its figure is the number of all attempts.

`detect.core_share`: processor time of windows, sources and reviews of trust at 10,000 devices with one message a second
each, a percent of them odd, over the time that passes for them.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.mqtt_capture import CONNACK, CONNECT, PUBLISH, MqttPacket, read
from benchmarks.report import Figure
from qedge.security.config import DetectionConfig, TrustConfig
from qedge.security.detection.detector import TICK_S, Detector
from qedge.security.detection.model import SLICES, Finding
from qedge.security.detection.tallies import TallyBook
from qedge.security.model import Evidence, Subject, SubjectKind
from qedge.security.trust.book import TrustBook

DATA = Path(os.environ.get("QEDGE_MQTTSET", Path(__file__).resolve().parents[2] / "shared" / "data" / "mqttset"))
DEVICES = 10_000
SECONDS = 60
PHASES = 10
PHASE_S = 0.53
PER_SECOND = round(1 / TICK_S)
REFUSED = range(1, 256)


class Site:
    """A detector on a virtual clock, fed with packets as the ways in would count them."""

    def __init__(self) -> None:
        self.config = DetectionConfig()
        self.tallies = TallyBook(self.config.max_addresses)
        self.detector = Detector(self.config, self.tallies, 0)
        self.subjects: dict[str, Subject] = {}
        self.findings: list[tuple[float, Finding]] = []
        self._tick = 0

    def advance(self, until_s: float) -> None:
        """Let time pass."""
        while (self._tick + 1) * TICK_S <= until_s:
            self._tick += 1
            now_s = self._tick * TICK_S
            self.findings += [(now_s, each) for each in self.detector.tick(round(now_s * 1e9))]

    def take(self, packet: MqttPacket, now_s: float) -> None:
        """Count a packet: devices by their address; who is refused is only an address."""
        now_ns = round(now_s * 1e9)
        if packet.kind == CONNACK and packet.code in REFUSED:
            self.tallies.address(packet.client, now_ns).failed += 1
        elif packet.kind == CONNACK or (packet.kind == PUBLISH and packet.inbound):
            subject = self.subjects.setdefault(packet.client, Subject(packet.client, SubjectKind.DEVICE))
            tally = self.tallies.device(subject, now_ns)
            tally.last_ns = now_ns
            if packet.kind == CONNACK:
                tally.connects += 1
                return
            tally.messages += 1
            tally.bytes_in += packet.size
            tally.squared_bytes += packet.size**2
            tally.channels.add(packet.topic)


def play(packets: Sequence[MqttPacket], phase: int) -> tuple[Site, list[float]]:
    """Play a capture in a phase of the windows, 0 … 9; returns the site and the times of attempts and messages in s."""
    site, times = Site(), list[float]()
    begun = packets[0].at_s - PHASE_S * phase
    for packet in packets:
        now_s = packet.at_s - begun
        site.advance(now_s)
        site.take(packet, now_s)
        if packet.inbound and packet.kind in (CONNECT, PUBLISH):
            times.append(now_s)
    site.advance(times[-1] + 2.0)
    return site, times


def bruteforce_attempts(packets: Sequence[MqttPacket]) -> float:
    """Return how many logins had been tried when the source was found."""
    worst = 0.0
    for phase in range(PHASES):
        site, times = play(packets, phase)
        found = [at_s for at_s, each in site.findings if each.address]
        worst = max(worst, float(sum(at_s <= found[0] for at_s in times)) if found else math.inf)
    return worst


def flood_s(packets: Sequence[MqttPacket]) -> float:
    """Return the time from the first message of a flood until it was found."""
    worst = 0.0
    messages = [each for each in packets if each.kind == PUBLISH]
    for phase in range(PHASES):
        site, times = play(messages, phase)
        found = [at_s for at_s, each in site.findings if each.evidence is Evidence.FLOODING and each.severity >= 0.5]
        worst = max(worst, found[0] - times[0] if found else math.inf)
    return worst


def alarms(packets: Sequence[MqttPacket]) -> int:
    """Return how many findings there were, whatever their severity."""
    return max(len(play(packets, phase)[0].findings) for phase in range(PHASES))


def plain_threshold(train: Iterable[MqttPacket]) -> float:
    """Return twice the most packets that one source sends in a second of ordinary traffic."""
    counts = Counter((each.client, int(each.at_s)) for each in train if each.inbound)
    return 2.0 * max(counts.values())


def over(packets: Iterable[MqttPacket], threshold: float) -> tuple[int, float, int]:
    """Return what a plain threshold finds: attempts and seconds until its first alarm, and how many it raises.

    Without an alarm these are the number of all attempts and the time of all of them.
    """
    counts: Counter[tuple[str, int]] = Counter()
    attempts, seconds, raised = 0, 0.0, 0
    inbound = [each for each in packets if each.inbound]
    for packet in inbound:
        if not raised:
            attempts += packet.kind in (CONNECT, PUBLISH)
            seconds = packet.at_s - inbound[0].at_s
        key = (packet.client, int(packet.at_s))
        counts[key] += 1
        raised += counts[key] == threshold + 1
    return attempts, seconds, raised


def core_share() -> float:
    """Return the share of a core that watching 10,000 devices takes."""
    dice = random.Random(1)
    site = Site()
    trust = TrustBook(TrustConfig(), enforce=True)
    subjects = {f"device-{n}": Subject(f"device-{n}", SubjectKind.DEVICE, f"class-{n % 8}") for n in range(DEVICES)}
    tallies = [site.tallies.device(subject, 0) for subject in subjects.values()]
    for subject in subjects.values():
        trust.observe(subject, Evidence.WELL_BEHAVED, 1.0, 0)
    spent = 0.0
    for tick in range(round(SECONDS / TICK_S)):
        now_ns = round((tick + 1) * TICK_S * 1e9)
        for number in range(tick % PER_SECOND, DEVICES, PER_SECOND):
            tally = tallies[number]
            tally.messages += 1
            size = 64 + dice.randrange(192)
            tally.bytes_in += size
            tally.squared_bytes += size * size
            tally.channels.add("reading")
            tally.last_ns = now_ns
            tally.denied += number % 100 == 0
        began = time.thread_time()
        for finding in site.detector.tick(now_ns):
            trust.observe(subjects[finding.device], finding.evidence, finding.severity, now_ns)
        trust.review(subjects.get, now_ns, len(trust) // SLICES + 1)
        spent += time.thread_time() - began
    return spent / SECONDS


def run() -> list[Figure]:
    """Play the captures, where they are, and measure the cost."""
    figures = []
    if DATA.is_dir():
        threshold = plain_threshold(read(DATA / "benign-train.pcap"))
        guessing = tuple(read(DATA / "bruteforce-test.pcapng"))
        flood = tuple(read(DATA / "flood-test.pcap"))
        benign = tuple(read(DATA / "benign-test.pcap"))
        plain = over(guessing, threshold)[0], over(flood, threshold)[1], over(benign, threshold)[2]
        figures += [
            Figure("detect.bruteforce_attempts", bruteforce_attempts(guessing), "", len(guessing) // 2, 20, plain[0]),
            Figure("detect.flood_s", flood_s(flood), "s", len(flood), 1, plain[1]),
            Figure("detect.benign_alarms", alarms(benign), "", len(benign), 0, plain[2]),
        ]
    else:
        print(f"detection on captures is skipped: {DATA} is not there", file=sys.stderr)
    shares = sorted(core_share() for _ in range(3))
    figures.append(Figure("detect.core_share", shares[1], "cores", DEVICES, 0.2))
    return figures
