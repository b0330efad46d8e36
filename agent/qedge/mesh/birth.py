"""The birth of a node, made from what its drivers say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qedge.wire.mesh import Birth, Capability, NodeState
from qedge.wire.node import DriverView

MAX_CAPABILITIES: Final = 64
MAX_FACTS: Final = 32
MAX_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Serials:
    """Newest numbers of what a node enforces or says about its devices; 0 where there is nothing.

    `policy` is that of the fleet's policy in force, `devices` that of the node's list of revoked devices.
    """

    policy: int = 0
    devices: int = 0


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who a node is; `epoch` grows with every start, `boot_id` is the boot of its host."""

    fleet: str
    node: str
    version: str
    boot_id: str
    epoch: int
    standalone: bool = True
    labels: tuple[str, ...] = ()


def make_birth(
    identity: NodeIdentity, drivers: Sequence[DriverView], utc_ns: int, state: NodeState = NodeState.UP
) -> Birth:
    """Say what the node can do: only drivers that are unlocked and up are capabilities."""
    return Birth(
        fleet=identity.fleet,
        node=identity.node,
        version=identity.version,
        boot_id=identity.boot_id,
        epoch=identity.epoch,
        utc_ns=utc_ns,
        standalone=identity.standalone,
        state=state.value,
        capabilities=tuple(
            Capability(
                name=driver.name,
                kind=driver.kind,
                driver=driver.driver,
                version=driver.version,
                simulated=driver.simulated,
                facts=_facts(driver),
            )
            for driver in drivers[:MAX_CAPABILITIES]
            if driver.operating_state != "down" and driver.admin_state == "unlocked"
        ),
        labels=identity.labels,
    )


def differs(one: Birth | None, other: Birth) -> bool:
    """Say whether two births say different things (their time apart)."""
    return one is None or (one.state, *told(one)) != (other.state, *told(other))


def told(birth: Birth) -> tuple[object, ...]:
    """Return what a node says of itself that may change while it runs."""
    return birth.version, birth.capabilities, birth.policy_serial, birth.devices_serial, birth.config_serial


def _facts(driver: DriverView) -> dict[str, str | int | float | bool]:
    # Counters change all the time and say nothing of what the node can do, so only the fixed facts are told.
    told = {
        key[:MAX_TEXT]: value[:MAX_TEXT] if isinstance(value, str) else value
        for key, value in driver.properties.items()
        if isinstance(value, (str, bool))
        or (isinstance(value, (int, float)) and key.startswith(("num_", "max_", "qubits", "assessed_")))
    }
    return dict(list(told.items())[:MAX_FACTS])
