"""Who keeps something in the shared state: programs by hash, reports of nodes, and the serial of the policy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.engine.templates import Templates, template_hash
from qedge.orchestrator.state.sites import read
from qedge.orchestrator.state.users.policies import PolicyFollower
from qedge.orchestrator.state.users.reports import NodeReports, calibration_of, node_summary
from qedge.orchestrator.state.users.templates import SharedTemplates
from qedge.wire.node import DriverView
from qedge.wire.policy import PolicyView
from qedge.wire.state import NodeSummary, TemplateAsk, TemplateSent
from tests.unit.mesh.mesh_site import until
from tests.unit.orchestrator.state_site import StateNode, StateSite

PROGRAM = "OPENQASM 3; qubit q; bit c; c = measure q;"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[StateSite]:
    made = StateSite(tmp_path)
    yield made
    await made.close()


class Shelf:
    """A node with its programs."""

    def __init__(self, node: StateNode) -> None:
        self.node = node
        self.templates = Templates(node.store, 8)
        self.shared = SharedTemplates(node.state, self.templates, node.peers)
        self.task = asyncio.create_task(self.shared.run(lambda: None))

    async def stop(self) -> None:
        """End it."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_a_program_that_another_node_keeps_is_fetched_once_and_then_kept_here(site: StateSite) -> None:
    a, b = [Shelf(await site.node(name)) for name in "ab"]
    name = await a.templates.put(PROGRAM, "uid:0", 1)
    await until(lambda: b.node.state.under("templates", name))
    assert await b.templates.program(name) == PROGRAM
    assert await b.templates.local(name) == PROGRAM
    asked = len(b.node.peers.asked)
    assert await b.templates.program(name) == PROGRAM
    assert ("a", "TemplateAsk") in b.node.peers.asked[:asked]
    assert ("a", "TemplateAsk") not in b.node.peers.asked[asked:]
    await until(lambda: {each.writer for each in a.node.state.under("templates", name)} == {"a", "b"})
    await a.stop()
    await b.stop()


async def test_a_program_of_another_hash_is_not_taken_and_one_that_is_gone_is_said_to_be(site: StateSite) -> None:
    a, b = [Shelf(await site.node(name)) for name in "ab"]

    async def lie(_peer: str, _asked: msgspec.Struct) -> msgspec.Struct:
        return TemplateSent("something else")

    wanted = template_hash("never uploaded")
    await a.node.state.put("templates", wanted)
    await until(lambda: b.node.state.under("templates", wanted))
    for answer in (a.node.peers.servers[TemplateAsk], lie):
        a.node.peers.servers[TemplateAsk] = answer
        with pytest.raises(QedgeError) as refused:
            await b.templates.program(wanted)
        assert refused.value.code == "job.no_template"
    assert await b.templates.local(wanted) is None
    await a.stop()
    await b.stop()


async def test_programs_of_an_earlier_run_are_said_again(site: StateSite) -> None:
    node = await site.node("a")
    name = await Templates(node.store, 8).put(PROGRAM, "uid:0", 1)
    shelf = Shelf(node)
    await until(lambda: node.state.get("templates", name) is not None)
    await shelf.stop()


def qpu(name: str, **properties: str | int | float) -> DriverView:
    return DriverView(name, "sim", "qpu", "1", True, "unlocked", "up", properties=dict(properties))


async def test_a_node_says_what_it_can_run_and_what_it_measured_and_no_more_than_once(site: StateSite) -> None:
    a, b = [await site.node(name) for name in "ab"]
    drivers: list[DriverView] = [qpu("one", num_qubits=20), DriverView("r", "q", "qrng", "1", True, "unlocked", "up")]
    reports = [NodeReports(each.state, each.peers, lambda: drivers, each.clock) for each in (a, b)]
    for _ in range(3):
        await asyncio.gather(*(each.look() for each in reports))
    await until(lambda: b.state.get("capability", "node", "a") is not None)
    found = b.state.get("capability", "node", "a")
    assert found is not None
    assert read(found.value, NodeSummary) == NodeSummary(1, 20, 0, simulated=True)
    said = a.outcome("said")
    drivers[0] = qpu("one", num_qubits=20, assessed_clops=5000.0, assessed_state_qubits=24, assessed_utc_s=7)
    await reports[0].look()
    await until(lambda: b.state.get("calibration", "one", "a") is not None)
    drivers[0] = qpu("one", num_qubits=20, assessed_clops=5000.0, assessed_state_qubits=24, assessed_utc_s=8)
    await reports[0].look()
    assert a.outcome("said") == said + 2
    assert [each.site for each in a.state.sites()] == ["main"]
    assert a.state.sites()[0].nodes == 2


def test_what_is_reported_comes_from_what_was_measured_where_it_was() -> None:
    both = [qpu("one", num_qubits=5), qpu("two", num_qubits=9, assessed_state_qubits=30, assessed_clops=10.4)]
    assert node_summary(both) == NodeSummary(2, 30, 10, simulated=True)
    assert calibration_of(both[0]) == {}
    assert calibration_of(both[1]) == {"assessed_state_qubits": 30, "assessed_clops": 10.4}
    assert node_summary([]) == NodeSummary(0)


class Policy:
    """A policy of some serial; takes what is longer than what it has."""

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self.taken: list[bytes] = []

    def view(self) -> PolicyView:
        """Describe it."""
        return PolicyView("fleet", 1, 0, serial=self.serial)

    def newest(self) -> bytes:
        """Return something that stands for the bundle."""
        return b"x" * self.serial

    async def take(self, signed: bytes) -> PolicyView:
        """Take it where it is newer."""
        if len(signed) <= self.serial:
            raise QedgeError("policy.old", "It is not newer.")
        self.taken.append(signed)
        self.serial = len(signed)
        return self.view()


async def followers(site: StateSite, serials: Sequence[int]) -> list[tuple[Policy, PolicyFollower]]:
    made = []
    for name, serial in zip("abc", serials, strict=False):
        node, policy = await site.node(name), Policy(serial)
        made.append((policy, PolicyFollower(node.state, policy, node.peers)))
    return made


async def test_a_node_with_an_older_policy_fetches_the_newer_from_one_that_has_it(site: StateSite) -> None:
    (_, ahead), (behind, follower) = await followers(site, (5, 3))
    await ahead.look()
    await until(lambda: follower._ahead)
    await follower.look()
    assert behind.serial == 5
    await follower.look()
    assert behind.taken == [b"x" * 5]


async def test_a_node_that_claims_a_serial_it_has_not_is_asked_once(site: StateSite) -> None:
    (_, liar), (policy, follower) = await followers(site, (4, 4))
    await site.nodes["a"].state.put("policy", "serial", serial=10**6)
    await until(lambda: follower._ahead)
    await follower.look()
    await follower.look()
    assert policy.serial == 4
    asked = [kind for _, kind in site.nodes["b"].peers.asked if kind == "PolicyAsk"]
    assert len(asked) == 1
    assert liar.name
