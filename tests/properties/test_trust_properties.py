"""Whatever happens: trust is bounded, and more evidence against a device never leads to more of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qedge.security.config import TrustConfig
from qedge.security.model import Evidence, Subject, SubjectKind
from qedge.security.trust.book import TrustBook
from qedge.security.trust.evidence import EVIDENCE

S = 1_000_000_000
BAD = [evidence for evidence, each in EVIDENCE.items() if each.weight < 0]
EVENTS = st.lists(
    st.tuples(st.integers(0, 200_000), st.sampled_from(Evidence), st.floats(0, 1)), min_size=1, max_size=30
)
EXTRA = st.lists(st.tuples(st.integers(0, 200_000), st.sampled_from(BAD), st.floats(0.01, 1)), max_size=10)
CONFIG = st.builds(
    TrustConfig,
    base=st.integers(40, 80),
    quarantine_below=st.integers(0, 20),
    hysteresis=st.integers(0, 20),
    gain_per_hour=st.floats(0, 100),
)


def course(config: TrustConfig, events: list[tuple[int, Evidence, float]]) -> list[tuple[int, float]]:
    """Play events, in seconds, and return trust and score at every review, which come every 1,000 s."""
    trust, subject = TrustBook(config, enforce=True), Subject("d", SubjectKind.DEVICE, trust=config.base)
    waiting = sorted(events, key=lambda each: each[0])
    seen = []
    for at_s in range(0, 300_000, 1000):
        while waiting and waiting[0][0] < at_s:
            second, evidence, severity = waiting.pop(0)
            trust.observe(subject, evidence, severity, second * S)
            assert 0 <= subject.trust <= 100
        for _ in range(2):
            trust.review(lambda _: subject, at_s * S, 10)
        seen.append((subject.trust, trust.score("d", at_s * S)))
    return seen


@given(CONFIG, EVENTS)
def test_trust_and_score_are_bounded_and_trust_is_never_above_the_score(
    config: TrustConfig, events: list[tuple[int, Evidence, float]]
) -> None:
    for trust, score in course(config, events):
        assert 0 <= trust <= 100
        assert 0 <= score <= 100
        assert trust <= score + 0.1


@given(CONFIG, EVENTS, EXTRA)
def test_more_evidence_against_a_device_never_leads_to_more_trust(
    config: TrustConfig, events: list[tuple[int, Evidence, float]], extra: list[tuple[int, Evidence, float]]
) -> None:
    less, more = course(config, events), course(config, events + extra)
    assert all(b[0] <= a[0] and b[1] <= a[1] + 1e-6 for a, b in zip(less, more, strict=True))


@given(st.floats(1, 50), st.integers(1, 500))
def test_good_evidence_never_gives_more_than_an_hours_gain_in_an_hour(gain: float, every_s: int) -> None:
    trust, subject = TrustBook(TrustConfig(gain_per_hour=gain), enforce=True), Subject("d", SubjectKind.DEVICE)
    scores = {}
    for at_s in range(0, 3 * 3600, max(30, every_s)):
        trust.observe(subject, Evidence.ATTESTED, 1.0, at_s * S)
        scores[at_s] = trust.score("d", at_s * S)
    times = sorted(scores)
    for first in times:
        last = max(at_s for at_s in times if at_s <= first + 3600)
        assert scores[last] - scores[first] <= gain + 1e-9


@given(st.lists(st.integers(0, 99), min_size=1, max_size=60), st.floats(0, 0.2), st.integers(0, 3))
def test_no_ten_minutes_see_more_devices_touched_than_the_cap(devices: list[int], ratio: float, least: int) -> None:
    from qedge.security.incidents.blast import WINDOW_NS, BlastRadius

    blast, touched = BlastRadius(ratio, least), list[tuple[int, int]]()
    for number, device in enumerate(devices):
        now_ns = number * WINDOW_NS // 20
        if blast.allow(str(device), 100, now_ns):
            touched.append((now_ns, device))
        recent = {each for at_ns, each in touched if now_ns - at_ns < WINDOW_NS}
        assert len(recent) <= max(least, int(100 * ratio))
