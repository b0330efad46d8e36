"""What is wrong with a box, from what was seen of it: each finding with what to do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from qedge.base.units import format_bytes
from qedge.fleet.diagnostics.model import BoxFacts, BoxSettings
from qedge.fleet.renewal.pacing import WARN_SHARE
from qedge.wire.diagnostics import CheckVerdict, DoctorCheck
from qedge.wire.trust import IdentityView

_DAY_NS: Final = 86_400 * 10**9
_SOON_DAYS: Final = 14
_LEAST_FREE_BYTES: Final = 64 * 2**20
_LITTLE_FREE_BYTES: Final = 2**30
_LITTLE_MEMORY_BYTES: Final = 256 * 2**20
_FILES_BESIDE_DEVICES: Final = 512
"""Descriptors that the daemon needs beside one for each attached device."""

_SOCKET_PATH_BYTES: Final = 107

Check = Callable[[BoxSettings, BoxFacts], Iterator[DoctorCheck]]


def examine(settings: BoxSettings, facts: BoxFacts) -> tuple[DoctorCheck, ...]:
    """Return all findings, in the order in which they are best mended."""
    return tuple(finding for check in CHECKS for finding in check(settings, facts))


def _ok(subject: str, finding: str) -> DoctorCheck:
    return DoctorCheck(subject, CheckVerdict.OK, finding)


def _warning(subject: str, finding: str, fix: str) -> DoctorCheck:
    return DoctorCheck(subject, CheckVerdict.WARNING, finding, fix)


def _failed(subject: str, finding: str, fix: str) -> DoctorCheck:
    return DoctorCheck(subject, CheckVerdict.FAILED, finding, fix)


def _configuration(settings: BoxSettings, _facts: BoxFacts) -> Iterator[DoctorCheck]:
    for fault in settings.faults:
        yield _failed("configuration", fault, "Correct the file; `qedge check` says when it is right.")
    if not settings.faults:
        yield _ok("configuration", ", ".join(settings.files) or "no files: all defaults")


def _state(settings: BoxSettings, facts: BoxFacts) -> Iterator[DoctorCheck]:
    folder = facts.state
    if folder.missing:
        yield DoctorCheck("state folder", CheckVerdict.SKIPPED, f"{folder.path} is made at the first start")
        return
    if folder.problem:
        fix = "Run this as the user of the service, give that user the folder, or set node.state_dir to another one."
        yield _failed("state folder", f"{folder.path}: {folder.problem}", fix)
        return
    free = f"{format_bytes(folder.free_bytes)} free at {folder.path}"
    fix = "Free some space, or set node.state_dir to a folder on another disk."
    if folder.free_bytes < _LEAST_FREE_BYTES:
        yield _failed("disk", free, fix)
    elif folder.free_bytes < _LITTLE_FREE_BYTES or folder.free_share < 0.05:
        yield _warning("disk", free, fix)
    else:
        yield _ok("disk", free)
    loose = (*folder.loose, *facts.loose_secrets)
    if loose:
        shown = ", ".join(loose[:5]) + (f" and {len(loose) - 5} more" if len(loose) > 5 else "")
        yield _failed("permissions", f"others may read or write {shown}", f"chmod go= {' '.join(loose[:5])}")
    else:
        yield _ok("permissions", f"only this user reads what is below {folder.path}")
    for database in facts.databases:
        if database.problem:
            fix = "Stop the daemon, put the file aside and restore a backup; `qedge diag collect` takes what is left."
            yield _failed("database", f"{database.path}: {database.problem}", fix)
        else:
            yield _ok("database", f"{database.path}: {format_bytes(database.size_bytes)}, sound")


def _daemon(settings: BoxSettings, facts: BoxFacts) -> Iterator[DoctorCheck]:
    if len(facts.socket_path.encode()) > _SOCKET_PATH_BYTES:
        finding = f"the path of the socket, {facts.socket_path}, is longer than {_SOCKET_PATH_BYTES} bytes"
        yield _failed("daemon", finding, "Set node.runtime_dir to a shorter path.")
    status = facts.status
    if status is None:
        start = "systemctl start qedge" if facts.unit_files else "qedge run"
        finding = facts.silence or "it is not running"
        yield _warning("daemon", finding, f"Start it with `{start}`; its first lines say why where it does not.")
        return
    if status.not_ready:
        finding = f"it runs but is not ready: {', '.join(status.not_ready)}"
        yield _failed("daemon", finding, "Look at the findings below, and at `qedge status`.")
    else:
        yield _ok("daemon", f"{status.node} runs version {status.version} and is ready")
    for service in status.services:
        if service.state == "backoff" or service.restarts > 3:
            finding = f"{service.name} is {service.state}, restarted {service.restarts} times: {service.error}"
            yield _warning("service", finding, "`journalctl -u qedge` has the events before its last restart.")


def _broker(settings: BoxSettings, facts: BoxFacts) -> Iterator[DoctorCheck]:
    bus = facts.status.bus if facts.status is not None else None
    if bus is not None and bus.connected:
        yield _ok("broker", f"connected to {bus.broker} ({bus.kind})")
    elif settings.broker is not None:
        host, port = settings.broker
        problem = facts.broker_problem or (bus.error if bus is not None else "")
        fix = "Is it running, is its address right (broker.url), and does a firewall let this box through?"
        if problem:
            yield _failed("broker", f"{host}:{port}: {problem}", fix)
        else:
            yield _ok("broker", f"{host}:{port} answers")
    elif facts.broker_programs:
        yield _ok("broker", f"a private one: {', '.join(facts.broker_programs)}")
    else:
        yield _failed("broker", "no program for a private broker is installed", "Install mosquitto, or set broker.url.")
    if settings.broker is None and "mosquitto" not in facts.broker_programs and facts.broker_programs:
        fix = "Install mosquitto: it keeps sessions over restarts, which the bundled broker does not."
        yield _warning("broker", "mosquitto is not installed", fix)


def _ports(settings: BoxSettings, facts: BoxFacts) -> Iterator[DoctorCheck]:
    if facts.status is not None:
        return  # they are its own
    for listener, problem in facts.ports.items():
        where = f"{listener.host}:{listener.port}"
        if problem:
            fix = f"Stop the other program, or set {listener.key} to another port."
            yield _failed("port", f"{where} ({listener.key}): {problem}", fix)
        else:
            yield _ok("port", f"{where} ({listener.key}) is free")


def _clock(_settings: BoxSettings, facts: BoxFacts) -> Iterator[DoctorCheck]:
    if facts.clock_synchronised is None:
        yield DoctorCheck("clock", CheckVerdict.SKIPPED, "the kernel does not say whether it is synchronised")
    elif facts.clock_synchronised:
        yield _ok("clock", "synchronised")
    else:
        fix = "Start systemd-timesyncd or chrony: certificates, expiry and orders from afar need the time of day."
        yield _warning("clock", "the kernel says that nothing synchronises it", fix)


def _certificates(_settings: BoxSettings, facts: BoxFacts) -> Iterator[DoctorCheck]:
    if facts.identity is not None and not facts.identity.standalone:
        yield _identity(facts.identity, facts.utc_ns)
    for certificate in facts.certificates:
        fix = "Put a new certificate there; the daemon takes it up by itself."
        if certificate.problem:
            yield _failed("certificate", f"{certificate.path}: {certificate.problem}", fix)
        else:
            yield _expiry(certificate.path, certificate.until_utc_ns, facts.utc_ns, fix)


def _identity(own: IdentityView, utc_ns: int) -> DoctorCheck:
    """The node asks for its next certificate by itself; late is where three quarters of the present one are over."""
    left_ns = own.valid_until_utc_ns - utc_ns
    finding = f"identity is good for {left_ns / _DAY_NS:.0f} days" + (f"; {own.renewal}" if own.renewal else "")
    if left_ns <= 0:
        return _expiry("identity", own.valid_until_utc_ns, utc_ns, "`qedge node enrol` brings the node back.")
    if left_ns < (own.valid_until_utc_ns - own.valid_from_utc_ns) * WARN_SHARE:
        fix = "Is `qedge fleet renewer` running where the fleet's authority is? `qedge fleet renew` renews at once."
        return _warning("certificate", finding, fix)
    return _ok("certificate", finding)


def _expiry(what: str, until_utc_ns: int, utc_ns: int, fix: str) -> DoctorCheck:
    days = (until_utc_ns - utc_ns) / _DAY_NS
    if days <= 0:
        return _failed("certificate", f"{what} expired {-days:.0f} days ago", fix)
    finding = f"{what} is good for {days:.0f} days"
    return _warning("certificate", finding, fix) if days < _SOON_DAYS else _ok("certificate", finding)


def _drivers(settings: BoxSettings, facts: BoxFacts) -> Iterator[DoctorCheck]:
    if facts.status is None:
        for name, driver in settings.drivers:
            if driver not in facts.installed_drivers:
                known = ", ".join(facts.installed_drivers)
                fix = f"Install the package that has it, or name one of {known}."
                yield _failed("driver", f"{name}: no driver {driver} is installed", fix)
        return
    for view in facts.status.drivers:
        if view.admin_state != "unlocked":
            fix = f"`qedge drivers unlock {view.name}` puts it to work."
            yield _warning("driver", f"{view.name} is {view.admin_state} by its operator", fix)
        elif view.operating_state == "up":
            yield _ok("driver", f"{view.name} ({view.driver}{', simulated' if view.simulated else ''}) is up")
        else:
            fix = f"`qedge drivers show {view.name}` has its properties; is the hardware there and switched on?"
            yield _failed("driver", f"{view.name} is {view.operating_state}: {view.reason or 'no reason given'}", fix)


def _limits(settings: BoxSettings, facts: BoxFacts) -> Iterator[DoctorCheck]:
    needed = settings.max_devices + _FILES_BESIDE_DEVICES
    finding = f"{facts.open_files_soft} open files may be had ({facts.open_files_hard} at most), {needed} may be needed"
    if facts.open_files_hard < needed:
        fix = f"Set LimitNOFILE={needed} in a drop-in of the unit, or devices.max_devices to less."
        yield _warning("limits", finding, fix)
    else:
        yield _ok("limits", finding)
    free = f"{format_bytes(facts.memory_available_bytes)} of {format_bytes(facts.memory_total_bytes)} memory available"
    if 0 < facts.memory_available_bytes < _LITTLE_MEMORY_BYTES:
        yield _warning("memory", free, "Stop what is not needed here, or set workers and engine limits to less.")
    else:
        yield _ok("memory", free)


CHECKS: Final[tuple[Check, ...]] = (
    _configuration,
    _state,
    _daemon,
    _broker,
    _ports,
    _clock,
    _certificates,
    _drivers,
    _limits,
)
