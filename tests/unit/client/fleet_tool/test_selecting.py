"""The language that selects nodes of a fleet."""

from __future__ import annotations

import pytest

from qedge.base.errors import QedgeError
from qedge.client.fleet_tool.model import FleetNode, NodeStanding
from qedge.client.fleet_tool.selecting import MAX_LENGTH, parse_selection, version_key
from qedge.wire.mesh import Capability

QPU = Capability("sim", "qpu", "sim_qpu", "1", simulated=True)
NODES = (
    FleetNode("rack-1", NodeStanding.UP, "1.2.0", ("edge", "site=graz"), (QPU,), policy_serial=7),
    FleetNode("rack-2", NodeStanding.LOST, "1.10.0", ("edge",), policy_serial=8),
    FleetNode("lab", NodeStanding.UP, "1.2.0rc1", (), epoch=3),
    FleetNode("old", NodeStanding.LEAVING, "source", ("two words",)),
)


def picked(text: str) -> list[str]:
    return [node.name for node in parse_selection(text).pick(NODES)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("all", ["lab", "old", "rack-1", "rack-2"]),
        ("name=rack-*", ["rack-1", "rack-2"]),
        ("label=edge and not state=lost", ["rack-1"]),
        ("label=site=graz", ["rack-1"]),
        ('label="two words"', ["old"]),
        ("label!=edge", ["lab", "old"]),
        ("version<1.10", ["lab", "rack-1"]),
        ("version>=1.2 and version<=1.10.0", ["rack-1", "rack-2"]),
        ("version=1.2.*", ["lab", "rack-1"]),
        ("capability=qpu or policy>7", ["rack-1", "rack-2"]),
        ("(name=lab or name=old) and epoch=0", ["old"]),
        ("not (state=up or state=lost)", ["old"]),
        ("name=lab or name=old and state=up", ["lab"]),
        ("policy!=0", ["rack-1", "rack-2"]),
    ],
)
def test_a_selection_means_the_nodes_that_it_describes(text: str, names: list[str]) -> None:
    assert picked(text) == names


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "name",
            "name=",
            "nam=x",
            "name<lab",
            "version<x",
            "policy=x",
            "(all",
            "all)",
            "all or",
            "and all",
            "not",
        ),
        *("name=a name=b", '"a"', "all " * 600, "(" * 60 + "all" + ")" * 60, "not " * 60 + "all", "policy<" + "9" * 30),
    ],
)
def test_a_selection_that_cannot_be_read_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(QedgeError) as caught:
        parse_selection(text)
    assert caught.value.code == "fleet.bad_selection"
    assert "label=edge" in caught.value.fix
    assert len(caught.value.message) < MAX_LENGTH + 200


def test_versions_are_ordered_as_releases_are() -> None:
    order = ["0.9", "1.0.dev1", "1.0a1", "1.0b2", "1.0rc1", "1.0", "1.0.post1", "1.0.1", "1.2", "1.10"]
    keys = [version_key(each) for each in order]
    assert all(key is not None for key in keys)
    assert sorted(keys, key=lambda key: key or ((), 0, 0)) == keys
    assert version_key("1.0") == version_key("v1.0.0+local")
    assert version_key("main") is None
