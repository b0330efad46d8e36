"""What fleet commands need of the node, of the system and of the audit log."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from qedge import __version__
from qedge.base.errors import QedgeError
from qedge.base.log import listening
from qedge.base.service import Ready
from qedge.crypto.durable_file import write_durably
from qedge.crypto.trust import pin
from qedge.daemon.membership.identity import LocalIdentity
from qedge.daemon.node import Node
from qedge.daemon.peers import Tools
from qedge.fleet.commands.kinds.looking import LogBuffer
from qedge.security.audit.log import AuditLog
from qedge.security.audit.starting import record_start
from qedge.wire.audit import AuditKind
from qedge.wire.command_kinds import CertificateOutcome, DeviceOperation, DeviceOutcome
from qedge.wire.gateway import AttachedDevice, DeviceReason
from qedge.wire.node import DriverView
from qedge.wire.trust import Membership, NewIdentity, SigningRequest
from qedge.workers.driver_service import DriverService

_LEVELS: Final = {"ml-dsa-65": 3, "ml-dsa-87": 5}
_TIME_ERROR: Final = 5
_REQUESTS: Final = "requests"
_RESTART: Final = "restart-host"
_LOOK_S: Final = 0.2


class NodeDoors:
    """Fills the ports of the kinds of commands with the node."""

    def __init__(
        self,
        node: Node,
        identity: LocalIdentity,
        tools: Tools,
        drivers: Mapping[str, DriverService],
        enable: Callable[[str, bool], object],
    ) -> None:
        self._node = node
        self._identity = identity
        self._tools = tools
        self._drivers = drivers
        self._enable = enable

    async def restart_workers(self, driver: str) -> None:
        """Replace a driver's workers."""
        await self._service(driver).restart("command")

    def driver(self, name: str) -> DriverView:
        """Describe a driver."""
        return self._service(name).view()

    async def enable_driver(self, name: str, *, enabled: bool) -> None:
        """Take a configured driver in, or let it go."""
        if name not in self._tools.config.drivers:
            raise _no_driver(name)
        if enabled is not (name in self._drivers):
            done = self._enable(name, enabled)
            if asyncio.iscoroutine(done):
                await done

    async def take_policy(self, signed: bytes) -> int:
        """Take a policy, or find that the node has it."""
        policy = self._node.policy
        if policy.newest() != signed:
            await policy.take(signed)
        return policy.serial

    async def take_revocations(self, signed: bytes) -> int:
        """Take a list of revoked keys."""
        await self._node.fleet.take_revocations(signed)
        return self._identity.trust.serial

    async def operate(self, device: str, operation: DeviceOperation, reason: str, caller: str) -> DeviceOutcome:
        """Do something to an attached device; done already is done."""
        devices = self._node.devices
        view: AttachedDevice = await devices.show(device)
        if operation is DeviceOperation.QUARANTINE and not view.quarantined:
            view = await devices.quarantine(device, DeviceReason(reason), caller)
        elif operation is DeviceOperation.RELEASE and view.quarantined:
            view = await devices.release(device, caller)
        elif operation is DeviceOperation.REVOKE and view.state != "revoked":
            view = await devices.revoke(device, DeviceReason(reason), caller)
        return DeviceOutcome(device, str(view.state), view.quarantined)

    async def signing_request(self, *, new_key: bool) -> SigningRequest:
        """Ask for a certificate of the same name."""
        if not new_key:
            return await asyncio.to_thread(self._node.fleet.own_request)
        me = self._identity
        return await self._node.fleet.new_identity(NewIdentity(me.fleet, me.node, _LEVELS[me.key.algorithm]))

    async def adopt(self, membership: Membership) -> CertificateOutcome:
        """Take a certificate of the same anchor and name; the place where the fleet meets stays.

        Raises `auth.*`, and `order.failed` for one of the present key that ends no later than the present one.
        """
        me = self._identity
        if pin(membership.anchor) != pin(me.membership.anchor):
            raise QedgeError("auth.untrusted", "The certificate is of another fleet.")
        member = me.trust.verify(membership.chain, self._tools.clock.utc_ns(), name=me.node)
        kept = Membership(me.membership.anchor, membership.chain, me.membership.broker, me.membership.revocations)
        await self._node.fleet.adopt(kept)
        if member.key_id == me.key.key_id and me.membership.chain != member.chain:
            raise QedgeError(
                "order.failed",
                "The certificate ends no later than the present one, which the node keeps.",
                fix="Have it certified for longer, or for a new key.",
            )
        return CertificateOutcome(member.key_id, member.not_after_utc_ns)

    def has(self, membership: Membership) -> CertificateOutcome | None:
        """Say what the node has of a membership that it may have taken."""
        me = self._identity
        if me.membership.chain != membership.chain:
            return None
        return CertificateOutcome(me.key.key_id, me.member.not_after_utc_ns)

    def _service(self, name: str) -> DriverService:
        driver = self._drivers.get(name)
        if driver is None:
            raise _no_driver(name)
        return driver


class HostRequests:
    """Fills `HostRestarter` with a file that `qedge-restart-host.path` watches for and removes."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _REQUESTS / _RESTART

    async def ask(self) -> None:
        """Write the file."""
        try:
            await asyncio.to_thread(self._write)
        except OSError as error:
            raise QedgeError("order.failed", f"The request cannot be written: {error}.") from error

    async def taken(self) -> None:
        """Wait until it is gone."""
        while self._path.exists():  # noqa: ASYNC110 - another program removes the file
            await asyncio.sleep(_LOOK_S)

    async def withdraw(self) -> None:
        """Remove it."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        write_durably(self._path, b"by a command of the fleet\n")


class OwnAudit:
    """The audit log of a node that has no attached devices, whose security keeps it otherwise."""

    name = "audit"

    def __init__(self, log: AuditLog, node: str) -> None:
        self.log = log
        self._node = node

    async def run(self, ready: Ready) -> None:
        """Write until cancelled."""
        await self.log.open()
        await record_start(self.log, self._node, __version__)
        ready()
        try:
            await self.log.run()
        finally:
            self.log.record(AuditKind.ACT, subject=self._node, action="stop", actor="node")
            await self.log.close()


def own_audit(tools: Tools) -> OwnAudit:
    """Make the audit log of a node whose security keeps none."""
    folder = Path(tools.config.node.state_dir) / "audit"
    log = AuditLog(folder, tools.config.security.audit, tools.identity.key, clock=tools.clock, metrics=tools.metrics)
    return OwnAudit(log, tools.me.node)


class AuditedCommands:
    """Fills `Auditor` with an audit log."""

    def __init__(self, log: AuditLog, node: str) -> None:
        self._log = log
        self._node = node

    async def keep(self, *, command: str, kind: str, operator: str, decision: str, why: str) -> None:
        """Write down what became of a command; raises `audit.unavailable`."""
        await self._log.keep(
            subject=self._node,
            action=f"command {kind}",
            resource=command,
            decision=decision,
            rule=why,
            actor=f"operator {operator}",
        )


class LogKeeper:
    """Keeps the newest lines of the log for the command `logs`."""

    name = "log-buffer"

    def __init__(self) -> None:
        self.buffer = LogBuffer()

    async def run(self, ready: Ready) -> None:
        """Listen until cancelled."""
        with listening(self.buffer.hear):
            ready()
            await asyncio.Event().wait()


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2), as far as its first field; the kernel writes the rest into `_rest`."""

    _fields_ = [("modes", ctypes.c_uint), ("_rest", ctypes.c_char * 400)]


def clock_is_kept() -> bool | None:
    """Say whether something synchronises the clock of this box; None where nobody can tell.

    adjtimex(2) returns TIME_ERROR where the kernel counts its clock as unsynchronised; reading takes no privilege, but
    a unit with ProtectClock=yes may not even read. systemd-timesyncd leaves a file besides.
    """
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(_Timex()))
    except (OSError, AttributeError):
        state = -1
    if state >= 0:
        return bool(state != _TIME_ERROR)
    return True if os.path.exists("/run/systemd/timesync/synchronized") else None


def _no_driver(name: str) -> QedgeError:
    return QedgeError(
        "driver.not_found",
        f"No driver instance is named {name!r}.",
        fix="`qedge drivers list` shows the configured ones.",
    )
