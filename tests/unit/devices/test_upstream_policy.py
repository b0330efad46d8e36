"""What goes upstream is asked of policy, with the cloud as the subject."""

from __future__ import annotations

from pathlib import Path

from qedge.devices.segments.model import RetentionClass
from qedge.security.model import Reason
from qedge.security.policy.engine import PolicyEngine
from tests.unit.devices.onward_site import FakeUplink, Site, spooling

POLICY = """version = 1
[segments.plant]
channels = ["level", "alarm", "staff"]
[rules.cloud-reads]
effect = "permit"
subjects = { kinds = ["cloud"], ids = ["upstream"] }
actions = ["subscribe"]
resources = { segments = ["plant"], channels = ["level", "alarm"] }
crossing = true
[rules.peers-read]
effect = "permit"
subjects = { kinds = ["peer"] }
actions = ["subscribe"]
resources = { segments = ["plant"], channels = ["staff"] }
crossing = true
"""


def engine(text: str = POLICY) -> PolicyEngine:
    made = PolicyEngine()
    made.load(text.encode())
    return made


def put(site: Site, channel: str, body: bytes = b"1") -> bool:
    return site.gate.put("d1", "plant", channel, RetentionClass.TELEMETRY, site.clock.utc_ns(), body)


async def test_only_what_a_rule_permits_to_the_cloud_goes_upstream(tmp_path: Path) -> None:
    async with spooling(tmp_path, FakeUplink(), judge=engine()) as site:
        assert put(site, "level")
        assert not put(site, "staff")  # which a peer may read, and the cloud not
        await site.until_sent(1)
        assert [each.channel for each in site.uplink.got] == ["level"]
        assert site.denied == [("cloud", "staff", Reason.NO_RULE)]
        assert site.metrics.value("qedge_onward_denied_total", ("no_rule",)) == 1


async def test_without_a_rule_nothing_goes_upstream(tmp_path: Path) -> None:
    async with spooling(tmp_path, FakeUplink(), judge=PolicyEngine()) as site:
        assert not put(site, "level")
        assert site.onward.view().waiting == 0


async def test_what_waited_goes_no_further_once_policy_forbids_it(tmp_path: Path) -> None:
    judge = engine()
    async with spooling(tmp_path, FakeUplink(up=False), judge=judge) as site:
        for channel in ("level", "alarm", "level"):
            assert put(site, channel)
        await site.onward.settled()
        judge.on_swap = site.gate.policy_changed
        judge.load(POLICY.replace('["level", "alarm"]', '["alarm"]').encode())
        site.uplink.is_up = True
        await site.until_empty()
        assert [each.channel for each in site.uplink.got] == ["alarm"]
        assert site.onward.view().dropped == {"telemetry.policy": 2}
        assert site.onward.view().sent == 1
        assert ("cloud", "level", Reason.NO_RULE) in site.denied


async def test_a_rate_counts_readings_as_they_are_taken_and_not_once_more_as_they_go(tmp_path: Path) -> None:
    limited = POLICY.replace(
        'channels = ["level", "alarm"] }', 'channels = ["level"] }\nrate = { per_second = 1, burst = 2 }'
    )
    async with spooling(tmp_path, FakeUplink(up=False), judge=engine(limited)) as site:
        assert [put(site, "level", bytes([each])) for each in range(3)] == [True, True, False]
        await site.onward.settled()
        site.uplink.is_up = True
        await site.until_sent(2)
        assert site.denied[0] == ("cloud", "level", Reason.RATE)
