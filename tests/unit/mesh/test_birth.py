"""What a node says it can do."""

from __future__ import annotations

from qedge.mesh.birth import MAX_CAPABILITIES, NodeIdentity, differs, make_birth
from qedge.wire.mesh import NodeState
from qedge.wire.node import DriverView

IDENTITY = NodeIdentity("f", "n", "0.1", "boot", 4)
QPU = DriverView("qpu", "sim_qpu", "qpu", "1", True, "unlocked", "up", properties={"num_qubits": 20, "jobs": 7})


def view(**changes: str) -> DriverView:
    return DriverView(
        name="qpu",
        driver="sim_qpu",
        kind="qpu",
        version="1",
        simulated=True,
        admin_state=changes.get("admin_state", "unlocked"),
        operating_state=changes.get("operating_state", "up"),
        properties=QPU.properties,
    )


def test_only_drivers_that_are_up_and_unlocked_are_capabilities() -> None:
    drivers = [view(), view(operating_state="down"), view(admin_state="locked")]
    birth = make_birth(IDENTITY, drivers, 5)
    assert [each.name for each in birth.capabilities] == ["qpu"]
    assert (birth.node, birth.epoch, birth.utc_ns, birth.state, birth.standalone) == ("n", 4, 5, "up", True)


def test_facts_are_told_and_counters_are_not() -> None:
    (capability,) = make_birth(IDENTITY, [view()], 0).capabilities
    assert capability.facts == {"num_qubits": 20}


def test_a_birth_is_bounded_whatever_drivers_say() -> None:
    wild = DriverView("q", "d", "qpu", "1", True, "unlocked", "up", properties={f"max_{i}": i for i in range(500)})
    birth = make_birth(IDENTITY, [wild] * 200, 0)
    assert len(birth.capabilities) == MAX_CAPABILITIES
    assert all(len(each.facts) <= 64 for each in birth.capabilities)


def test_time_alone_makes_no_difference_but_state_and_capabilities_do() -> None:
    one = make_birth(IDENTITY, [QPU], 1)
    assert not differs(one, make_birth(IDENTITY, [QPU], 2))
    assert differs(None, one)
    assert differs(one, make_birth(IDENTITY, [], 1))
    assert differs(one, make_birth(IDENTITY, [QPU], 1, NodeState.LEAVING))
