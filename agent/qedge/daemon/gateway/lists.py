"""Lists of revoked devices between nodes, put together; births speak of them and of the policy in force."""

from __future__ import annotations

from qedge.bus.service import Bus
from qedge.daemon.peers import Tools
from qedge.devices.enrolment.lists import DeviceLists
from qedge.devices.enrolment.revocations import PeerDevices
from qedge.devices.service import Devices
from qedge.mesh.birth import Serials
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.service import MeshService
from qedge.mesh.sessions import SessionService
from qedge.security.policy.service import PolicyService
from qedge.security.service import SELF, SecurityService
from qedge.wire.audit import AuditKind
from qedge.wire.mesh import PeerState


async def open_lists(
    tools: Tools,
    devices: Devices,
    security: SecurityService,
    policy: PolicyService,
    thread: CryptoThread,
    *,
    bus: Bus,
    sessions: SessionService,
    mesh: MeshService,
) -> DeviceLists:
    """Make the service and enforce what it has kept; raises `store.*`."""
    identity = tools.identity
    max_age_s = tools.config.devices.enrolment.revocations_max_age_s

    def announced() -> dict[str, int]:
        return {
            peer.node: peer.devices_serial
            for peer in mesh.peers().peers
            if not peer.own and peer.state is PeerState.ALIVE
        }

    def told(device: str, node: str, barred: bool) -> None:
        action = "bar" if barred else "unbar"
        security.audit.record(AuditKind.RESPONSE, subject=device, action=action, rule="revoked", actor=SELF, node=node)

    lists = DeviceLists(
        identity.fleet,
        identity.node,
        peers=PeerDevices(identity.trust, max_age_s),
        revoking=devices.revoking,
        registry=devices.registry,
        bar=devices.administrator.bar,
        store=tools.store,
        bus=bus,
        sessions=sessions,
        thread=thread,
        announced=announced,
        told=told,
        renewed=mesh.capabilities_changed,
        max_age_s=max_age_s,
        clock=tools.clock,
        metrics=tools.metrics,
    )
    await lists.open()
    mesh.on_peers(lists.peers_changed)
    mesh.announcer.serials = lambda: Serials(policy.serial, lists.serial)
    policy.on_change = mesh.capabilities_changed
    return lists
